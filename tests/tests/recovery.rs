//! How long each kind of failure holds work up: measured, printed, and held against the bounds that `docs/reference/recovery.md` states.
//!
//! A bound is asserted with `SLACK` on top, since the machine may be busy with other tests; what is printed has none.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use perito_domain::Severity;
use perito_tests::{
    Cluster,
    chaos::queue::Queue,
    cluster::LEASE,
    faults::{Odds, PACE, Servers, servers::Server},
    models,
    photographs::photograph,
    system::{Addresses, PATIENCE},
};
use serde_json::{Value, json};
use sqlx::Row;

/// For a machine that does other things too.
const SLACK: Duration = Duration::from_secs(20);
/// The slowest that a reaper looks, with the default pace of 500 ms and its jitter.
const REAPER_PERIOD: Duration = Duration::from_millis(625);

/// Submits a job of so many photographs; its id.
async fn busy(cluster: &Cluster, images: u64, shard_size: u32) -> String {
    let model = models::import(&cluster.system, "cheap").await;
    let picture = photograph(Severity::Minor, 1, 320, 240);
    let objects: Vec<_> = (0..images).map(|n| (format!("backlog/c{n}/{n}.jpg"), picture.clone())).collect();
    cluster.system.register(&objects).await;
    let selection = json!({"by": "prefix", "bucket": cluster.system.bucket, "prefix": "backlog/"});
    let spec = json!({"kind": "score", "model": model, "selection": selection, "shard_size": shard_size});
    cluster.client().submit("busy", &spec, 5).await
}

/// Waits until a query gives more than so much.
async fn until_more(cluster: &Cluster, sql: &str, than: i64) -> Duration {
    let started = Instant::now();
    while cluster.system.count(sql).await <= than {
        assert!(started.elapsed() < PATIENCE, "still waiting for more than {than}: {sql}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    started.elapsed()
}

const SUCCEEDED: &str = "select count(*) from tasks where state = 'succeeded'";

/// Waits for the end without the API, since no replica in particular has to answer.
async fn finish(cluster: &Cluster, job: &str, images: i64) {
    until_more(
        cluster,
        &format!("select count(*) from jobs where id = '{job}' and state in ('succeeded', 'failed')"),
        0,
    )
    .await;
    assert_eq!(cluster.system.count("select count(*) from jobs where state = 'failed'").await, 0);
    assert_eq!(cluster.system.count("select count(*) from analytics.predictions").await, images);
}

fn report(what: &str, bound: Duration, measured: Duration) {
    println!("recovery: {what}: {:.2} s (bound {:.2} s)", measured.as_secs_f64(), bound.as_secs_f64());
    assert!(measured <= bound + SLACK, "{what}: {measured:?}, bound {bound:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_workers_task_runs_again_within_its_lease_and_one_reaper_period() {
    let pace = [("PERITO_POLL_INTERVAL", "500ms")];
    let mut cluster = Cluster::start(Addresses::shared(), 2, 1, &pace).await;
    cluster.store.pace(PACE);
    let job = busy(&cluster, 120, 10).await;
    let held = "select count(*) from tasks where state = 'running' and worker = 'worker-0'";
    // Stopped first, so that it surely holds something when it dies: what it had sent by then is done before they are counted.
    let orphans = loop {
        until_more(&cluster, held, 0).await;
        cluster.workers[0].process.signal("STOP");
        tokio::time::sleep(Duration::from_millis(200)).await;
        match cluster.system.count(held).await {
            0 => cluster.workers[0].process.signal("CONT"),
            orphans => break orphans,
        }
    };
    cluster.store.pace(Duration::ZERO);
    cluster.workers[0].process.kill();
    let killed = Instant::now();
    let again = "select count(*) from tasks t join attempts a on a.task_id = t.id and a.outcome = 'expired' where t.attempt > a.attempt";
    until_more(&cluster, again, orphans - 1).await;
    let measured = killed.elapsed();
    // From the lease's end to the claim by the other worker, which has to be free for it.
    report(&format!("a killed worker's {orphans} tasks run again"), LEASE + REAPER_PERIOD, measured);
    finish(&cluster, &job, 120).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_death_of_a_replica_pauses_nothing_for_longer_than_five_seconds() {
    let mut cluster = Cluster::start(Addresses::shared(), 2, 1, &[("PERITO_WINDOW", "4")]).await;
    // Each task takes a fifth of a second: what is counted as a pause is longer.
    cluster.store.pace(PACE);
    let job = busy(&cluster, 120, 2).await;
    until_more(&cluster, SUCCEEDED, 2).await;
    cluster.coordinators[0].process.kill();
    // A small window: workers soon wait for what only the other replica can send.
    let mut longest = Duration::ZERO;
    let mut done = cluster.system.count(SUCCEEDED).await;
    while done < 60 {
        longest = longest.max(until_more(&cluster, SUCCEEDED, done).await);
        done = cluster.system.count(SUCCEEDED).await;
    }
    report("the longest pause after the death of a coordinator", Duration::from_secs(5), longest);
    finish(&cluster, &job, 120).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_completes_while_three_requests_in_ten_fail_in_the_object_store() {
    let cluster = Cluster::start(Addresses::shared(), 2, 3, &[]).await;
    cluster.store.set(Odds::brown_out(0.3));
    let started = Instant::now();
    let job = busy(&cluster, 60, 5).await;
    finish(&cluster, &job, 60).await;
    let faults = cluster.store.faults();
    println!(
        "recovery: S3 brown-out: 60 photographs scored in {:.2} s through {faults} faults",
        started.elapsed().as_secs_f64()
    );
    assert!(faults >= 10, "only {faults} faults");
}

/// One test for both, since their servers take a while to start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_of_rabbitmq_and_postgres_lose_nothing_and_burn_no_attempt() {
    let servers = Servers::start("recovery").await;
    // The default lease: a restart of Postgres is shorter.
    let cluster = Cluster::start(servers.addresses(), 2, 1, &[("PERITO_LEASE", "30s"), ("PERITO_WINDOW", "8")]).await;
    cluster.store.pace(PACE);
    let job = busy(&cluster, 200, 2).await;
    until_more(&cluster, SUCCEEDED, 2).await;

    servers.stop(Server::RabbitMq).await;
    // What was in hand ends: nothing moves any more once that is so.
    until_still(&cluster).await;
    let done = cluster.system.count(SUCCEEDED).await;
    assert!(done < 100, "work is left");
    let queue = Queue::new(&servers.addresses().rabbitmq, cluster.system.topology());
    // It is back when it answers a client, not when its script returns.
    let back = async {
        while queue.waiting().await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Instant::now()
    };
    let (back, ()) = tokio::join!(back, servers.up());
    until_more(&cluster, SUCCEEDED, done).await;
    report("RabbitMQ is back: work resumes after", Duration::from_secs(10), back.elapsed());

    let spent = "select count(*) from tasks where attempts_spent > 1";
    until_more(&cluster, SUCCEEDED, done + 2).await;
    servers.stop(Server::Postgres).await;
    servers.up().await;
    let back = Instant::now();
    let done = loop {
        // The test's own connections were ended too.
        match sqlx::query(SUCCEEDED).fetch_one(cluster.system.pool()).await {
            Ok(row) => break row.get::<i64, _>(0),
            Err(_) => assert!(back.elapsed() < PATIENCE),
        }
    };
    if done < 100 {
        until_more(&cluster, SUCCEEDED, done).await;
    }
    report("Postgres is back: work resumes after", Duration::from_secs(10), back.elapsed());
    cluster.store.pace(Duration::ZERO);
    finish(&cluster, &job, 200).await;
    let outcomes: Vec<Value> = perito_tests::chaos::audit::outcomes(&cluster.system)
        .await
        .into_iter()
        .map(|(outcome, count)| json!({ outcome: count }))
        .collect();
    println!("recovery: attempts after restarts of both: {}", json!(outcomes));
    assert_eq!(cluster.system.count(spent).await, 0, "attempts were burnt: {outcomes:?}");
}

/// Waits until no task is in hand.
async fn until_still(cluster: &Cluster) {
    let started = Instant::now();
    while cluster.system.count("select count(*) from tasks where state = 'running'").await > 0 {
        assert!(started.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
