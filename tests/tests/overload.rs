//! A job of many photographs takes the coordinator and the broker no more memory than a small one.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use perito_broker::{Consumer, Publisher};
use perito_database::{Claim, Prediction, ScoreResult};
use perito_domain::lifecycle::JobKind;
use perito_tests::{System, models};
use serde_json::json;
use tokio_util::sync::CancellationToken;

/// The default window: so many tasks are in the broker at once.
const WINDOW: u64 = 64;
/// By how much the coordinator may grow over what a small job takes it to.
const GROWTH_KIB: u64 = 16 * 1024;

#[tokio::test]
async fn a_job_of_a_hundred_thousand_photographs_takes_no_more_memory_than_a_small_one() {
    overload(100_000).await;
}

#[tokio::test]
#[ignore = "takes some minutes: `make test-million`"]
async fn a_job_of_a_million_photographs_takes_no_more_memory_than_a_small_one() {
    overload(1_000_000).await;
}

async fn overload(images: i64) {
    let system = System::start().await;
    let model = models::import(&system, "cheap").await;
    catalogue(&system, "small", 5_000).await;
    catalogue(&system, "large", images).await;
    let small = run(&system, &model, "small", 5_000).await;
    let large = run(&system, &model, "large", images).await;
    for (what, job) in [("small", &small), ("large", &large)] {
        println!(
            "overload: the {what} job, {} photographs: planned in {:.2} s, done {:.1} s later; coordinator at most {} MiB, {} messages",
            job.images,
            job.planning.as_secs_f64(),
            job.working.as_secs_f64(),
            job.coordinator_kib >> 10,
            job.messages,
        );
    }
    let growth = large.coordinator_kib - small.coordinator_kib;
    assert!(growth <= GROWTH_KIB, "the coordinator grew by {growth} KiB");
    assert!(small.messages > 0 && large.messages <= WINDOW, "{} messages waited in the broker", large.messages);
}

/// So many images in the catalogue, of which there are no objects: nobody here reads them.
async fn catalogue(system: &System, prefix: &str, images: i64) {
    let sql = "insert into images (bucket, key, etag, size_bytes, claim_id)
         select $1, format('%s/C-%s/%s.jpg', $2::text, n / 5, n % 5), md5(n::text), 150000, 'C-' || n / 5
         from generate_series(0, $3 - 1) n";
    sqlx::query(sql).bind(&system.bucket).bind(prefix).bind(images).execute(system.pool()).await.unwrap();
    sqlx::query("vacuum analyze images").execute(system.pool()).await.unwrap();
}

struct Job {
    images: i64,
    planning: Duration,
    working: Duration,
    /// The most that the coordinator has had since it began.
    coordinator_kib: u64,
    /// The most that waited in the broker at once.
    messages: u64,
}

/// Submits a job, and does its tasks as a worker would whose engine takes no time.
async fn run(system: &System, model: &str, prefix: &str, images: i64) -> Job {
    let publisher = Publisher::new(system.broker());
    let began = Instant::now();
    let selection = json!({"by": "prefix", "bucket": system.bucket, "prefix": format!("{prefix}/")});
    let job = system.submit(json!({"kind": "score", "model": model, "selection": selection})).await;
    system.wait_for(&job, "planned", |job| job["state"] == "running").await;
    let planning = began.elapsed();

    let began = Instant::now();
    let mut messages = 0;
    while messages == 0 && began.elapsed() < perito_tests::system::PATIENCE {
        messages = publisher.ready(JobKind::Score).await.unwrap();
    }
    let stop = CancellationToken::new();
    let deliveries = Consumer::new(system.broker()).start(&[JobKind::Score], 3, stop.clone());
    let deliveries = futures::stream::unfold(deliveries, async |mut it| Some((it.recv().await?, it)));
    let mut work = deliveries.map(|delivery| work(system, delivery)).buffer_unordered(3).boxed();
    let mut looked = Instant::now();
    let mut done = 0;
    while done < images {
        done += work.next().await.unwrap();
        if looked.elapsed() > Duration::from_millis(100) {
            messages = messages.max(publisher.ready(JobKind::Score).await.unwrap());
            looked = Instant::now();
        }
    }
    let working = began.elapsed();
    stop.cancel();
    system.success_of(&job).await;
    let rows = system.count(&format!("select count(*) from analytics.predictions where job_id = '{job}'")).await;
    assert_eq!(rows, images, "every photograph has one score");
    Job { images, planning, working, coordinator_kib: peak(system.coordinator.id()), messages }
}

/// One task; how many images it had.
async fn work(system: &System, delivery: perito_broker::Delivery) -> i64 {
    let database = &system.database.database;
    let message = &delivery.message;
    let claim = database.claim(message.task_id, message.attempt_hint, "no-op", Duration::from_secs(60)).await.unwrap();
    let Claim::Claimed(task) = claim else {
        delivery.ack().await;
        return 0;
    };
    let score = |id| Prediction { image_id: id, probabilities: [0.25, 0.125, 0.625] };
    let predictions: Vec<_> = task.images.iter().map(|image| score(image.id)).collect();
    let images = predictions.len() as i64;
    database.commit_score(&task, &ScoreResult { predictions, ..ScoreResult::default() }).await.unwrap();
    delivery.ack().await;
    images
}

/// The most memory that a process has had at once, in KiB (`VmHWM`, see proc_pid_status(5)).
fn peak(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}
