//! Months: what happens to them, and where they are.

use comfy_table::Cell;
use indicatif::HumanBytes;
use perito_database::Archive;

use super::{number, optional, table, time};
use crate::retention::{self, Step};

/// What would happen to each month.
pub fn retention_plan(steps: &[Step]) -> String {
    let mut table = table(&["month", "what happens", "runs", "on disk"]);
    for step in steps {
        table.add_row([
            Cell::new(step.month),
            Cell::new(&step.action),
            number(step.runs),
            number(optional(step.bytes.map(|bytes| HumanBytes(bytes.unsigned_abs())))),
        ]);
    }
    table.to_string()
}

/// Months that have left, or are leaving.
pub fn archives(archives: &[Archive]) -> String {
    let mut table = table(&["month", "state", "runs", "predictions", "where", "since"]);
    for archive in archives {
        table.add_row([
            Cell::new(archive.month),
            Cell::new(retention::state(archive.state)),
            number(archive.runs),
            number(archive.predictions),
            Cell::new(format!("s3://{}/{}", archive.bucket, archive.prefix)),
            Cell::new(optional(archive.archived_at.map(time))),
        ]);
    }
    table.to_string()
}
