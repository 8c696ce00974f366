//! The operator's hands on a running system: pause, resume, priorities, limits, drained workers, a coordinator that restarts.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use perito_domain::Severity;
use perito_tests::{System, faults::PACE, models, photographs::photograph, process::binary, system::PATIENCE};
use serde_json::{Value, json};

async fn backlog(system: &System, images: u64) -> Vec<i64> {
    let pictures: Vec<_> = Severity::ALL.iter().map(|severity| photograph(*severity, 1, 320, 240)).collect();
    let objects: Vec<_> = (0..images)
        .map(|number| (format!("backlog/c{}/{number}.jpg", number / 3), pictures[number as usize % 3].clone()))
        .collect();
    system.register(&objects).await
}

fn score(system: &System, model: &str, shard_size: u32) -> Value {
    let selection = json!({"by": "prefix", "bucket": system.bucket, "prefix": "backlog/"});
    json!({"kind": "score", "model": model, "selection": selection, "shard_size": shard_size})
}

fn tasks(job: &Value, state: &str) -> i64 {
    job["tasks"][state].as_i64().unwrap()
}

/// Runs `perito --json …`, which has to succeed.
async fn perito(system: &System, arguments: &[&str]) -> Value {
    let (code, output, errors) = system.perito(&[&["--json"], arguments].concat()).await;
    assert_eq!(code, 0, "perito {arguments:?}: {errors}");
    serde_json::from_str(&output).unwrap()
}

/// Waits until a worker is as `done` wants it.
async fn worker_is(system: &System, name: &str, state: &str) {
    let started = Instant::now();
    loop {
        let list = perito(system, &["worker", "list"]).await;
        let found = list["workers"].as_array().unwrap().iter().find(|worker| worker["name"] == name).cloned();
        if found.as_ref().is_some_and(|worker| worker["state"] == state) {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "waited for {name} to be {state}: {list:#}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_paused_job_stands_still_and_goes_on_when_it_is_resumed() {
    let mut system = System::start().await;
    let model = models::import(&system, "cheap").await;
    let ids = backlog(&system, 60).await;
    let store = system.paced_store(PACE).await;
    let _worker = system.worker("w1");
    let job = system.submit(score(&system, &model, 2)).await;
    system.wait_for(&job, "a first task to end", |job| tasks(job, "succeeded") >= 1).await;
    let paused = perito(&system, &["job", "pause", &job]).await;
    assert_eq!((&paused["state"], paused["paused_at"].is_string()), (&json!("running"), true));
    assert_eq!(tasks(&paused, "dispatched"), 0);
    let still = system.wait_for(&job, "what runs to end", |job| tasks(job, "running") == 0).await;
    assert!(tasks(&still, "runnable") > 0, "paused in the middle: {still}");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(system.get(&format!("/v1/jobs/{job}")).await["tasks"], still["tasks"], "it stands still");
    let list = perito(&system, &["job", "list", "--paused", "--since", "1h", "--model", "cheap"]).await;
    assert_eq!(list["jobs"][0]["id"], job);
    assert_eq!(perito(&system, &["status"]).await["jobs"]["paused"], 1);

    store.pace(Duration::ZERO);
    perito(&system, &["job", "resume", &job]).await;
    system.success_of(&job).await;
    assert_eq!(system.scores(&job).await.iter().map(|row| row.0).collect::<Vec<_>>(), ids, "each image once");
    let status = perito(&system, &["status"]).await;
    assert_eq!(status["last_scoring_run"]["job_id"], job);
    assert!(status["images_per_second"]["fifteen_minutes"].as_f64().unwrap() > 0.0, "{status}");
}

#[tokio::test]
async fn a_raised_priority_goes_before_what_waits_in_the_broker() {
    let mut system = System::start().await;
    let model = models::import(&system, "cheap").await;
    backlog(&system, 30).await;
    let first = system.submit(score(&system, &model, 1)).await;
    system.wait_for(&first, "dispatch", |job| tasks(job, "dispatched") == 30).await;
    let second = system.submit(score(&system, &model, 3)).await;
    system.wait_for(&second, "dispatch", |job| tasks(job, "dispatched") == 10).await;
    // All of the first one's messages lie before the second one's.
    let set = perito(&system, &["job", "set", &second, "--priority", "9"]).await;
    assert_eq!(set["priority"], 9);
    system.wait_for(&second, "dispatch in its new place", |job| tasks(job, "dispatched") == 10).await;
    system.wait_for(&first, "dispatch behind it", |job| tasks(job, "dispatched") == 30).await;
    let _worker = system.worker("w1");
    system.success_of(&second).await;
    let order = "select count(*) from tasks f join tasks s on f.job_id::text = $1 and s.job_id::text = $2 and f.started_at < s.started_at";
    let order = order.replace("$1", &format!("'{first}'")).replace("$2", &format!("'{second}'"));
    system.success_of(&first).await;
    assert_eq!(system.count(&order).await, 0, "every task of the urgent job started before any of the other");
    assert_eq!(system.scores(&first).await.len() + system.scores(&second).await.len(), 60);
}

#[tokio::test]
async fn a_limited_job_never_has_more_tasks_at_once() {
    let mut system = System::start().await;
    let model = models::import(&system, "cheap").await;
    backlog(&system, 24).await;
    let mut spec = score(&system, &model, 1);
    spec["concurrency"] = json!(1);
    let job = system.submit(spec).await;
    let _worker = system.worker("w1");
    let mut most = 0;
    let started = Instant::now();
    loop {
        let state = system.get(&format!("/v1/jobs/{job}")).await;
        most = most.max(tasks(&state, "dispatched") + tasks(&state, "running"));
        if tasks(&state, "succeeded") >= 4 {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "{state}");
    }
    assert_eq!(most, 1);
    let overlapping = "select count(*) from attempts a join attempts b on a.task_id < b.task_id
                       and a.started_at < b.ended_at and b.started_at < a.ended_at";
    assert_eq!(system.count(overlapping).await, 0, "the worker takes two at once where it may");
    perito(&system, &["job", "set", &job, "--concurrency", "none"]).await;
    system.success_of(&job).await;
}

#[tokio::test]
async fn a_drained_worker_finishes_what_it_has_and_takes_nothing_new() {
    let mut system = System::start().await;
    let model = models::import(&system, "cheap").await;
    // Far more than arrives before a heartbeat tells the worker.
    backlog(&system, 300).await;
    let store = system.paced_store(PACE).await;
    let mut drained = system.worker("drained");
    let job = system.submit(score(&system, &model, 2)).await;
    system.wait_for(&job, "a first task to end", |job| tasks(job, "succeeded") >= 1).await;
    perito(&system, &["worker", "drain", "drained"]).await;
    worker_is(&system, "drained", "drained").await;
    let still = system.get(&format!("/v1/jobs/{job}")).await;
    assert!(tasks(&still, "succeeded") < 150, "drained in the middle: {still}");
    assert_eq!(system.count("select count(*) from attempts where outcome is distinct from 'succeeded'").await, 0);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(system.get(&format!("/v1/jobs/{job}")).await["tasks"]["succeeded"], still["tasks"]["succeeded"]);
    store.pace(Duration::ZERO);
    // It stays drained when it restarts under its name; another one does the work.
    drained.signal("TERM");
    assert!(drained.wait(Duration::from_secs(10)).await.success());
    let _again = system.worker("drained");
    worker_is(&system, "drained", "drained").await;
    let other = system.worker("other");
    system.success_of(&job).await;
    assert!(system.count("select count(*) from attempts where worker = 'other'").await > 0);
    drop(other);
    // Undrained, it is the only one that can do the next job.
    perito(&system, &["worker", "undrain", "drained"]).await;
    let next = system.submit(score(&system, &model, 2)).await;
    system.success_of(&next).await;
    let (code, _, errors) = system.perito(&["worker", "drain", "nobody"]).await;
    assert!(code == 5 && errors.contains("nobody"), "{code}: {errors}");
}

#[tokio::test]
async fn a_cancelled_jobs_task_stops_within_seconds() {
    let mut system = System::start().await;
    // Long leases, as by default: it is not their renewal that tells.
    system.variables.retain(|(name, _)| name != "PERITO_LEASE");
    let model = models::import(&system, "cheap").await;
    backlog(&system, 300).await;
    let _store = system.paced_store(PACE).await;
    let worker = system.worker("w1");
    let job = system.submit(score(&system, &model, 300)).await;
    system.wait_for(&job, "a claim", |job| tasks(job, "running") == 1).await;
    let started = Instant::now();
    perito(&system, &["job", "cancel", &job]).await;
    let ended = |log: &str| log.lines().any(|line| line.contains("task ended") && line.contains("lost"));
    while !ended(&worker.log()) {
        assert!(started.elapsed() < PATIENCE, "{}", worker.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("the worker let go {:.1} s after the cancellation", started.elapsed().as_secs_f64());
    assert!(started.elapsed() < 200 * PACE, "long before its photographs had arrived: {:?}", started.elapsed());
    assert_eq!(system.scores(&job).await.len(), 0);
}

#[tokio::test]
async fn a_watch_survives_a_restart_of_the_coordinator() {
    let mut system = System::start().await;
    let model = models::import(&system, "cheap").await;
    backlog(&system, 30).await;
    let job = system.submit(score(&system, &model, 2)).await;
    let watch = tokio::process::Command::new(binary("perito"))
        .args(["job", "watch", &job])
        .envs(system.variables.iter().map(|(name, value)| (name, value)))
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    system.wait_for(&job, "dispatch", |job| tasks(job, "dispatched") > 0).await;
    // Long enough for the watch to look at it once, and then to find nobody.
    tokio::time::sleep(Duration::from_secs(2)).await;
    system.coordinator.kill();
    tokio::time::sleep(Duration::from_secs(4)).await;
    system.coordinator = system.run("perito-coordinator", &[]);
    let _worker = system.worker("w1");
    let output = tokio::time::timeout(PATIENCE, watch.wait_with_output()).await.unwrap().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    for part in ["the job goes on meanwhile", "the API is back after", "succeeded: 30/30 images"] {
        assert!(errors.contains(part), "{part} in {errors}");
    }
}
