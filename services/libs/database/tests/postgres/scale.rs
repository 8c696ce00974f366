//! How long the loops' rounds take with a million tasks. No test of speed: it prints what it measures.
//!
//! ```sh
//! cargo test -p perito-database --test postgres -- --ignored --nocapture million
//! ```

use std::time::Instant;

use perito_domain::lifecycle::JobKind;

use crate::world::World;

const ROUNDS: u32 = 5;

/// Makes running jobs with so many tasks each.
async fn jobs(world: &World, jobs: u32, tasks: u32) {
    let spec = r#"{"kind": "score", "model": "m", "selection": {"by": "backlog"}, "failure_budget": 0.05}"#;
    world
        .execute(&format!(
            "insert into jobs (id, kind, state, spec, model_id, run_date, images_total, planned_at)
             select gen_random_uuid(), 'score', 'running', '{spec}', 1, current_date, {tasks} * 500, now()
             from generate_series(1, {jobs})"
        ))
        .await;
    world
        .execute(&format!(
            "insert into tasks (id, job_id, kind, ordinal, image_ids)
             select gen_random_uuid(), id, 'score', number, array[number]
             from jobs, generate_series(0, {tasks} - 1) as number where images_total = {tasks} * 500"
        ))
        .await;
    world.execute("analyze jobs, tasks").await;
}

async fn measure<T>(what: &str, step: impl AsyncFn() -> T) {
    let mut slowest = 0.0_f64;
    let mut total = 0.0;
    for _ in 0..ROUNDS {
        let started = Instant::now();
        step().await;
        let milliseconds = started.elapsed().as_secs_f64() * 1000.0;
        slowest = slowest.max(milliseconds);
        total += milliseconds;
    }
    println!("{what:<70} slowest {slowest:>8.1} ms, mean {:>8.1} ms", total / f64::from(ROUNDS));
}

async fn rounds(world: &World, what: &str) {
    let db = &world.db;
    let mut slowest = 0.0_f64;
    for _ in 0..ROUNDS {
        let started = Instant::now();
        let sent = db.dispatch(JobKind::Score, 64, 64, async |messages| vec![true; messages.len()]).await.unwrap();
        slowest = slowest.max(started.elapsed().as_secs_f64() * 1000.0);
        assert_eq!(sent.published, 64);
        world.execute("update tasks set state = 'runnable' where state = 'dispatched'").await;
    }
    println!("{:<70} slowest {slowest:>8.1} ms", format!("{what}: dispatch, 64 free places"));
    world.dispatch_all(JobKind::Score).await;
    let nothing = async || db.dispatch(JobKind::Score, 64, 64, async |_| panic!("there is no room")).await.unwrap();
    measure(&format!("{what}: dispatch, no place"), nothing).await;
    measure(&format!("{what}: finish"), async || db.finish_jobs().await.unwrap()).await;
    measure(&format!("{what}: count open tasks"), async || db.task_counts().await.unwrap()).await;
}

#[tokio::test]
#[ignore = "takes minutes: it measures"]
async fn million_in_ten_jobs() {
    let world = World::new().await;
    world.model("m").await;
    jobs(&world, 10, 100_000).await;
    rounds(&world, "10 jobs of 100,000 tasks").await;
    // Nearly done, and each shard with a broken image.
    world
        .execute(
            "update tasks set state = 'succeeded', images_scored = 499, images_failed = 1, finished_at = now()
             where ordinal < 99999",
        )
        .await;
    world.execute("vacuum analyze tasks").await;
    let finish = async || assert!(world.db.finish_jobs().await.unwrap().is_empty());
    measure("10 jobs nearly done, 1 broken image in each task: finish", finish).await;
    measure("15 minutes in which a million tasks were committed: throughput", async || {
        world.db.throughput().await.unwrap()
    })
    .await;
}

#[tokio::test]
#[ignore = "takes minutes: it measures"]
async fn million_in_a_thousand_jobs() {
    let world = World::new().await;
    world.model("m").await;
    jobs(&world, 1000, 1000).await;
    rounds(&world, "1,000 jobs of 1,000 tasks").await;
}

#[tokio::test]
#[ignore = "takes minutes: it measures"]
async fn million_cancelled() {
    let world = World::new().await;
    world.model("m").await;
    for tasks in [20_000, 100_000] {
        jobs(&world, 1, tasks).await;
        let job = world.text(&format!("select id::text from jobs where images_total = {tasks} * 500")).await;
        let started = Instant::now();
        world.db.cancel(job.parse().unwrap()).await.unwrap();
        println!("cancel a job of {tasks} tasks: {:.2} s", started.elapsed().as_secs_f64());
    }
}
