//! Many jobs at once share the workers: by priority, and evenly within one.
#![allow(clippy::unwrap_used)]

use futures::{StreamExt, stream};
use perito_domain::Severity;
use perito_tests::{System, models, photographs::photograph};
use serde_json::json;

const JOBS: i64 = 200;
const URGENT: i64 = 20;
/// Tasks of each job.
const TASKS: i64 = 3;
/// The default window.
const WINDOW: i64 = 64;

#[tokio::test]
async fn two_hundred_jobs_submitted_at_once_are_shared_fairly_by_priority() {
    let mut system = System::start().await;
    let model = models::import(&system, "cheap").await;
    let objects: Vec<_> =
        (0..TASKS).map(|n| (format!("p/c/{n}.jpg"), photograph(Severity::Minor, n as u64, 64, 64))).collect();
    system.register(&objects).await;
    let selection = json!({"by": "prefix", "bucket": system.bucket, "prefix": "p/"});
    let spec = json!({"kind": "score", "model": model, "selection": selection, "shard_size": 1});
    let submitted = stream::iter(0..JOBS).map(|number| {
        let body = json!({"spec": spec, "priority": if number % (JOBS / URGENT) == 0 { 9 } else { 4 }});
        let system = &system;
        async move { system.post("/v1/jobs", body).await }
    });
    submitted.buffer_unordered(20).collect::<Vec<_>>().await;
    // All are planned, and the window is full of the most urgent ones.
    until(&system, "planned", "select count(*) from jobs where state = 'running'", JOBS).await;
    let urgent =
        "select count(*) from tasks t join jobs j on j.id = t.job_id where t.state = 'dispatched' and j.priority = 9";
    until(&system, "urgent tasks in the broker", urgent, URGENT * TASKS).await;
    until(&system, "tasks in the broker", "select count(*) from tasks where state = 'dispatched'", WINDOW).await;
    let _worker = system.worker("w1");
    until(&system, "succeeded", "select count(*) from jobs where state = 'succeeded'", JOBS).await;
    let rows = "select count(*) from analytics.predictions";
    assert_eq!(system.count(rows).await, JOBS * TASKS, "every job has scored every photograph once");
    // Only those other tasks that were in the broker already may have begun before the last urgent one.
    let overtook = "select count(*) from tasks t join jobs j on j.id = t.job_id where j.priority = 4 and t.started_at <
        (select max(t.started_at) from tasks t join jobs j on j.id = t.job_id where j.priority = 9)";
    let overtook = system.count(overtook).await;
    assert!(overtook <= WINDOW - URGENT * TASKS, "{overtook} less urgent tasks began before the last urgent one");
    // Among equals each job gets its first turn before others get their second, but for the few that the window had already.
    let turns = JOBS - URGENT;
    let early = format!(
        "select count(distinct job_id) from (select t.job_id from tasks t join jobs j on j.id = t.job_id where j.priority = 4
         order by t.started_at limit {turns}) early"
    );
    let early = system.count(&early).await;
    println!("fairness: the first {turns} turns went to {early} of {turns} jobs");
    assert!(early >= turns - WINDOW, "the first {turns} turns went to {early} of {turns} jobs");
}

/// Waits until a query counts what is wanted.
async fn until(system: &System, what: &str, sql: &str, wanted: i64) {
    let started = std::time::Instant::now();
    loop {
        let count = system.count(sql).await;
        if count == wanted {
            return;
        }
        assert!(started.elapsed() < perito_tests::system::PATIENCE, "{what}: {count} of {wanted}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}
