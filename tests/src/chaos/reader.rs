//! An analyst who looks at the views all the time: a run is there whole, or not at all.

use std::time::Duration;

use sqlx::{PgPool, Row};
use tokio::{task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

/// Everything that the views show of each run, at one moment.
const LOOK: &str = "
    with shown as (
        select job_id, count(*) as scored, 0::bigint as failed, 0::numeric as summed, 0::bigint as listed from analytics.predictions group by 1
        union all select job_id, 0, count(*), 0, 0 from analytics.image_failures group by 1
        union all select job_id, 0, 0, sum(images), 0 from analytics.run_severity group by 1
        union all select job_id, 0, 0, 0, 1 from analytics.job_runs where state = 'succeeded'
    )
    select s.job_id::text, j.images_total, sum(scored)::bigint, sum(failed)::bigint, sum(summed)::bigint, sum(listed)::bigint
    from shown s join jobs j on j.id = s.job_id group by 1, 2";

/// What was seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// How often the reader looked and saw.
    pub looks: u64,
    /// How often Postgres could not be asked.
    pub blind: u64,
    /// The most runs that were there at once.
    pub runs: usize,
    /// Runs that were there in part.
    pub partial: Vec<String>,
}

/// Looks until told to stop.
pub fn start(pool: PgPool, stop: CancellationToken) -> JoinHandle<Seen> {
    tokio::spawn(async move {
        let mut seen = Seen::default();
        while !stop.is_cancelled() {
            match timeout(Duration::from_secs(5), sqlx::query(LOOK).fetch_all(&pool)).await {
                Ok(Ok(rows)) => {
                    seen.looks += 1;
                    seen.runs = seen.runs.max(rows.len());
                    for row in rows {
                        let [total, scored, failed, summed, listed] =
                            [1, 2, 3, 4, 5].map(|column| row.get::<i64, _>(column));
                        if scored + failed != total || summed != scored || listed != 1 {
                            seen.partial.push(format!(
                                "run {}: {scored} scores and {failed} failures of {total} photographs, {summed} in its summary, listed {listed} times",
                                row.get::<String, _>(0)
                            ));
                        }
                    }
                }
                _ => seen.blind += 1,
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        seen
    })
}
