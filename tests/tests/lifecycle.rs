//! How the services end, and what they say when they start.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use perito_domain::Severity;
use perito_tests::{
    System, models,
    photographs::photograph,
    system::{PATIENCE, free_address},
};
use reqwest::Method;
use serde_json::json;

async fn backlog(system: &System, images: u64) -> Vec<i64> {
    let picture = photograph(Severity::Minor, 1, 320, 240);
    let objects: Vec<_> =
        (0..images).map(|number| (format!("backlog/c{number}/{number}.jpg"), picture.clone())).collect();
    system.register(&objects).await
}

#[tokio::test]
async fn a_coordinator_that_ends_is_not_ready_and_still_answers_until_load_balancers_have_noticed() {
    let mut system = System::start().await;
    let model = models::import(&system, "cheap").await;
    backlog(&system, 2).await;
    // Longer than it is by default, for a busy machine.
    system.variables.push(("PERITO_DRAIN_DELAY".to_owned(), "5s".to_owned()));
    system.coordinator.kill();
    system.coordinator = system.run("perito-coordinator", &[]);
    system.wait_until_ready().await;
    system.coordinator.signal("TERM");
    let started = Instant::now();
    let (status, body) = loop {
        let (status, body) = system.request(Method::GET, "/readyz", None).await;
        if status != 200 {
            break (status, body);
        }
        assert!(started.elapsed() < PATIENCE);
    };
    assert_eq!((status, &body["failed"]["shutdown"]), (503, &json!("in progress")), "{body}");
    // Who has not noticed is served.
    let selection = json!({"by": "prefix", "bucket": system.bucket, "prefix": "backlog/"});
    let job = system.submit(json!({"kind": "score", "model": model, "selection": selection})).await;
    assert!(system.coordinator.wait(PATIENCE).await.success(), "{}", system.coordinator.log());

    // And what was taken then is done by the one that comes after.
    system.coordinator = system.run("perito-coordinator", &[]);
    system.wait_until_ready().await;
    let _worker = system.worker("w1");
    assert_eq!(system.success_of(&job).await["images"]["scored"], 2);
}

#[tokio::test]
async fn a_worker_that_ends_is_not_ready_while_it_finishes_its_task() {
    let mut system = System::start().await;
    let model = models::import(&system, "cheap").await;
    backlog(&system, 80).await;
    // Four seconds for its task.
    let _store = system.paced_store(Duration::from_millis(50)).await;
    let listen = free_address();
    let arguments = ["--name", "leaving", "--listen", &listen, "--scoring-tasks", "1", "--lease", "20s"];
    let threads = ["--compute-threads", "1", "--decode-threads", "1"];
    let mut worker = system.run("perito-worker", &[&arguments[..], &threads[..]].concat());
    let selection = json!({"by": "prefix", "bucket": system.bucket, "prefix": "backlog/"});
    let job = system.submit(json!({"kind": "score", "model": model, "selection": selection, "shard_size": 80})).await;
    system.wait_for(&job, "a claim", |job| job["tasks"]["running"] == 1).await;
    worker.signal("TERM");
    let mut refusals = 0;
    let started = Instant::now();
    while worker.is_running() {
        if let Ok(response) = reqwest::get(format!("http://{listen}/readyz")).await
            && response.status() == 503
        {
            refusals += usize::from(response.text().await.is_ok_and(|body| body.contains("in progress")));
        }
        assert!(started.elapsed() < PATIENCE, "{}", worker.log());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(refusals > 0, "it said that it is not ready, and worked on:\n{}", worker.log());
    assert!(worker.wait(PATIENCE).await.success());
    assert_eq!(system.success_of(&job).await["images"]["scored"], 80);
    assert_eq!(system.count("select count(*) from attempts").await, 1, "by the worker that was told to end");
}

#[tokio::test]
async fn both_services_print_their_configuration_without_secrets() {
    let mut system = System::start().await;
    let worker = system.worker("w1");
    let started = Instant::now();
    while !worker.log().contains("ready for tasks") {
        assert!(started.elapsed() < PATIENCE, "{}", worker.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let secrets: Vec<String> = system
        .variables
        .iter()
        .filter(|(name, _)| ["SECRET", "TOKEN"].iter().any(|word| name.contains(word)))
        .map(|(_, value)| value.clone())
        .chain(["perito:perito@".to_owned(), "guest:guest@".to_owned()])
        .collect();
    assert!(secrets.len() >= 4, "{secrets:?}");
    for log in [system.coordinator.log(), worker.log()] {
        for option in [&system.namespace, "grace: 25s", "database_connections: 8"] {
            assert!(log.contains(option), "{option} is not in\n{log}");
        }
        for secret in &secrets {
            assert!(!log.contains(secret.as_str()), "{secret} is in\n{log}");
        }
    }
}

#[tokio::test]
async fn a_workers_idle_threads_sleep_soon_unless_the_environment_says_how_to_wait() {
    let mut system = System::start().await;
    let listen = free_address();
    let started = Instant::now();
    let environment_of = async |worker: perito_tests::Process| {
        while !worker.log().contains("ready for tasks") {
            assert!(started.elapsed() < PATIENCE, "{}", worker.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let environment = std::fs::read(format!("/proc/{}/environ", worker.id())).unwrap();
        (String::from_utf8_lossy(&environment).into_owned(), worker.arguments())
    };
    let arguments = ["--listen", &listen];
    let (environment, given) = environment_of(system.run("perito-worker", &arguments)).await;
    assert!(environment.split('\0').any(|variable| variable == "GOMP_SPINCOUNT=1000"), "{environment}");
    assert!(given.contains(&arguments.join(" ")), "it began again as it was called: {given}");
    let settled = [("OMP_WAIT_POLICY".to_owned(), "active".to_owned())];
    let (environment, _) = environment_of(system.run_with("perito-worker", &arguments, &settled)).await;
    assert!(!environment.contains("GOMP_SPINCOUNT"), "{environment}");
}
