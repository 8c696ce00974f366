//! What waits to be scored, and the settings.

use chrono::Utc;
use comfy_table::Cell;

use super::{facts, number, optional, table, time};
use crate::api::{BucketBacklog, Settings};

/// What waits, by bucket.
pub fn backlog(buckets: &[BucketBacklog]) -> String {
    if buckets.is_empty() {
        return "nothing waits".to_owned();
    }
    let mut table = table(&["bucket", "waiting", "oldest (UTC)", "for", "could not be scored"]);
    for bucket in buckets {
        let waited = bucket.oldest_registered_at.map(|at| {
            let minutes = (Utc::now() - at).num_minutes().max(0);
            format!("{} h {:02} min", minutes / 60, minutes % 60)
        });
        table.add_row(vec![
            Cell::new(&bucket.bucket),
            number(bucket.waiting),
            Cell::new(optional(bucket.oldest_registered_at.map(time))),
            number(optional(waited)),
            number(bucket.unscorable),
        ]);
    }
    table.to_string()
}

/// The settings.
pub fn settings(settings: &Settings) -> String {
    facts([
        ("claim confidence", number(settings.claim_confidence)),
        ("changed (UTC)", Cell::new(time(settings.updated_at))),
    ])
    .to_string()
}
