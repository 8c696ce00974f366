//! Exactly-once effects while things go wrong: every image has one score, whatever dies, doubles or gets lost.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use lapin::{Connection, ConnectionProperties, options::QueuePurgeOptions};
use perito_broker::Publisher;
use perito_domain::{Severity, lifecycle::JobKind};
use perito_tests::{System, faults::PACE, models, photographs::photograph, system::PATIENCE};
use serde_json::{Value, json};

async fn backlog(system: &System, images: u64) -> Vec<i64> {
    let pictures: Vec<_> =
        (0..4).map(|number| photograph(Severity::ALL[number as usize % 3], number, 320, 240)).collect();
    let objects: Vec<_> = (0..images)
        .map(|number| (format!("backlog/c{}/{number}.jpg", number / 3), pictures[number as usize % 4].clone()))
        .collect();
    system.register(&objects).await
}

fn score(model: &str, shard_size: u32) -> Value {
    json!({"kind": "score", "model": model, "selection": {"by": "backlog", "prefix": "backlog/"}, "shard_size": shard_size})
}

fn by_prefix(system: &System, model: &str, shard_size: u32) -> Value {
    let selection = json!({"by": "prefix", "bucket": system.bucket, "prefix": "backlog/"});
    json!({"kind": "score", "model": model, "selection": selection, "shard_size": shard_size})
}

fn tasks(job: &Value, state: &str) -> i64 {
    job["tasks"][state].as_i64().unwrap()
}

async fn assert_same_scores(system: &System, one: &str, other: &str) {
    let (one, other) = (system.scores(one).await, system.scores(other).await);
    assert_eq!(one.len(), other.len());
    for (one, other) in one.iter().zip(&other) {
        assert_eq!((one.0, &one.1), (other.0, &other.1));
        for (one, other) in one.2.iter().zip(other.2) {
            assert!((one - other).abs() < 1e-5, "{one} is not {other}");
        }
    }
}

#[tokio::test]
async fn a_killed_workers_tasks_run_again_and_the_rows_are_those_of_an_undisturbed_run() {
    let mut system = System::start().await;
    let model = models::import(&system, "cheap").await;
    let ids = backlog(&system, 60).await;
    let store = system.paced_store(PACE).await;
    let mut doomed = system.worker("doomed");
    let disturbed = system.submit(by_prefix(&system, &model, 4)).await;
    system.wait_for(&disturbed, "a first task to end", |job| tasks(job, "succeeded") >= 1).await;
    doomed.kill();
    let left = system.get(&format!("/v1/jobs/{disturbed}")).await;
    assert!(tasks(&left, "succeeded") < 15, "killed in the middle: {left}");
    assert_eq!(system.count("select count(*) from analytics.predictions").await, 0, "half a run does not show");

    store.pace(Duration::ZERO);
    let _successor = system.worker("successor");
    let done = system.success_of(&disturbed).await;
    assert_eq!(done["images"]["scored"], 60);
    assert!(
        system.count("select count(*) from attempts where outcome = 'expired'").await >= 1,
        "somebody's lease expired"
    );

    let undisturbed = system.submit(by_prefix(&system, &model, 4)).await;
    system.success_of(&undisturbed).await;
    assert_eq!(system.scores(&disturbed).await.iter().map(|row| row.0).collect::<Vec<_>>(), ids, "each image once");
    assert_same_scores(&system, &disturbed, &undisturbed).await;
}

#[tokio::test]
async fn two_workers_share_a_job() {
    let mut system = System::start().await;
    let model = models::import(&system, "cheap").await;
    let ids = backlog(&system, 60).await;
    let _store = system.paced_store(PACE).await;
    let _workers = [system.worker("one"), system.worker("two")];
    let job = system.submit(score(&model, 2)).await;
    system.success_of(&job).await;
    assert_eq!(system.scores(&job).await.iter().map(|row| row.0).collect::<Vec<_>>(), ids, "each image once");
    assert_eq!(system.count("select count(distinct worker) from attempts where outcome = 'succeeded'").await, 2);
}

#[tokio::test]
async fn a_cancelled_job_stops_and_shows_nothing() {
    let mut system = System::start().await;
    let model = models::import(&system, "cheap").await;
    backlog(&system, 60).await;
    let store = system.paced_store(PACE).await;
    let _worker = system.worker("w1");
    let job = system.submit(score(&model, 4)).await;
    system.wait_for(&job, "a first task to end", |job| tasks(job, "succeeded") >= 1).await;
    let cancelled = system.post(&format!("/v1/jobs/{job}/cancel"), json!({})).await;
    assert_eq!(cancelled["state"], "cancelled");
    let open = "select count(*) from tasks where state not in ('succeeded', 'cancelled')";
    assert_eq!(system.count(open).await, 0);
    // What the worker held is refused: no row comes any more.
    let rows = system.scores(&job).await.len();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(system.scores(&job).await.len(), rows);
    assert_eq!(system.count("select count(*) from analytics.predictions").await, 0);
    store.pace(Duration::ZERO);
    // Its images are back in the backlog.
    let again = system.submit(score(&model, 30)).await;
    assert_eq!(system.success_of(&again).await["images"]["scored"], 60);
}

#[tokio::test]
async fn duplicated_garbage_and_purged_messages_change_nothing() {
    let mut system = System::start().await;
    let model = models::import(&system, "cheap").await;
    let ids = backlog(&system, 24).await;
    let job = system.submit(score(&model, 2)).await;
    // No worker yet: wait until everything is in the queue, then lose it.
    system.wait_for(&job, "dispatch", |job| job["tasks"]["dispatched"] == 12).await;
    let connection = Connection::connect(&system.broker().url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let queue = system.topology().queue(JobKind::Score);
    let purged = channel.queue_purge(queue.as_str().into(), QueuePurgeOptions::default()).await.unwrap();
    assert!(purged > 0, "something was there to lose");
    // Everything thrice, and things that nobody can read.
    let publisher = Publisher::new(system.broker());
    let messages = system.messages(&job).await;
    for _ in 0..3 {
        assert!(publisher.publish(&messages).await.iter().all(Result::is_ok));
    }
    for garbage in [&b"not protobuf at all"[..], &[8, 99]] {
        let confirm = channel
            .basic_publish(
                system.topology().exchange().as_str().into(),
                JobKind::Score.as_str().into(),
                lapin::options::BasicPublishOptions::default(),
                garbage,
                lapin::BasicProperties::default(),
            )
            .await
            .unwrap();
        confirm.await.unwrap();
    }
    let _workers = [system.worker("one"), system.worker("two")];
    system.success_of(&job).await;
    assert_eq!(system.scores(&job).await.iter().map(|row| row.0).collect::<Vec<_>>(), ids, "each image once");
    // The unreadable ones are kept for people to look at.
    let dead = system.topology().dead_letter();
    let started = std::time::Instant::now();
    loop {
        let options =
            lapin::options::QueueDeclareOptions { passive: true, ..lapin::options::QueueDeclareOptions::durable() };
        let state = channel.queue_declare(dead.as_str().into(), options, Default::default()).await.unwrap();
        if state.message_count() == 2 {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "{} messages in {dead}", state.message_count());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_purged_queue_is_filled_again() {
    let mut system = System::start().await;
    let model = models::import(&system, "cheap").await;
    let ids = backlog(&system, 6).await;
    let job = system.submit(score(&model, 2)).await;
    system.wait_for(&job, "dispatch", |job| job["tasks"]["dispatched"] == 3).await;
    let connection = Connection::connect(&system.broker().url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let queue = system.topology().queue(JobKind::Score);
    channel.queue_purge(queue.as_str().into(), QueuePurgeOptions::default()).await.unwrap();
    let _worker = system.worker("w1");
    system.success_of(&job).await;
    assert_eq!(system.scores(&job).await.iter().map(|row| row.0).collect::<Vec<_>>(), ids, "each image once");
}

#[tokio::test]
async fn sigterm_ends_a_worker_in_time_and_burns_no_attempt() {
    let mut system = System::start().await;
    let model = models::import(&system, "cheap").await;
    backlog(&system, 60).await;
    let store = system.paced_store(PACE).await;
    let mut worker = system.run(
        "perito-worker",
        &[
            "--name",
            "leaving",
            "--grace",
            "1s",
            "--compute-threads",
            "1",
            "--decode-threads",
            "1",
            "--scoring-tasks",
            "1",
        ],
    );
    // One task with all of it: longer than the grace period.
    let job = system.submit(score(&model, 60)).await;
    system.wait_for(&job, "a claim", |job| job["tasks"]["running"] == 1).await;
    worker.signal("TERM");
    let status = worker.wait(Duration::from_secs(10)).await;
    assert!(status.success(), "{status}: {}", worker.log());
    let state = system.get(&format!("/v1/jobs/{job}")).await;
    assert_eq!((tasks(&state, "succeeded"), tasks(&state, "running")), (0, 0), "released: {state}");
    assert_eq!(system.count("select attempts_spent::bigint from tasks").await, 0, "{}", worker.log());
    store.pace(Duration::ZERO);
    let _successor = system.worker("successor");
    assert_eq!(system.success_of(&job).await["images"]["scored"], 60);
}
