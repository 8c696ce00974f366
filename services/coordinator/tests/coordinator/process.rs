//! The binary itself: how it starts, how it refuses to, and how it ends.

use std::{
    process::{Output, Stdio},
    time::{Duration, Instant},
};

use perito_database::testing::TestDatabase;
use perito_domain::access::Role;
use reqwest::StatusCode;
use serde_json::Value;
use tokio::{
    net::TcpListener,
    process::{Child, Command},
};

/// A port that nothing listens on.
async fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

/// The coordinator on this database, without a broker.
async fn coordinator(database_url: &str, arguments: &[&str]) -> (Child, String) {
    let listen = format!("127.0.0.1:{}", free_port().await);
    let child = Command::new(env!("CARGO_BIN_EXE_perito-coordinator"))
        .args(arguments)
        .env("PERITO_LISTEN", &listen)
        .env("PERITO_DATABASE_URL", database_url)
        .env("PERITO_AMQP_URL", format!("amqp://guest:hunter2@127.0.0.1:{}/%2f", free_port().await))
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    (child, format!("http://{listen}"))
}

/// Waits until the process has ended, some seconds at most.
async fn end(child: Child) -> (Output, String) {
    let output = tokio::time::timeout(Duration::from_secs(20), child.wait_with_output()).await.unwrap().unwrap();
    let log = String::from_utf8(output.stderr.clone()).unwrap();
    (output, log)
}

/// The answer of a server that is starting.
async fn get(url: &str) -> (StatusCode, String) {
    perito_runtime::install_crypto_provider();
    for _ in 0..400 {
        if let Ok(response) = reqwest::get(url).await {
            return (response.status(), response.text().await.unwrap());
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{url} does not answer");
}

#[tokio::test]
async fn starts_without_a_broker_says_so_and_ends_when_told() {
    let test = TestDatabase::empty().await;
    let (child, base) = coordinator(&test.url, &["--migrate"]).await;
    assert_eq!(get(&format!("{base}/healthz")).await.0, StatusCode::OK);
    let (status, body) = get(&format!("{base}/readyz")).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    let body: Value = serde_json::from_str(&body).unwrap();
    let failed: Vec<_> = body["failed"].as_object().unwrap().keys().collect();
    assert_eq!(failed, ["broker"], "{body}");
    let token = test.token("test", Role::Viewer).await;
    let list = || reqwest::Client::new().get(format!("{base}/v1/jobs")).bearer_auth(&token).send();
    assert_eq!(list().await.unwrap().status(), StatusCode::OK, "the API works all the same");
    // Statements of the loops and of the requests run on the same threads all the while.
    for _ in 0..100 {
        let response = list().await.unwrap();
        assert_eq!(response.headers()["traceparent"].len(), 55, "every request has a trace: {response:?}");
    }
    let (status, metrics) = get(&format!("{base}/metrics")).await;
    assert_eq!(status, StatusCode::OK);
    for name in ["perito_loop_seconds", "perito_loop_errors_total", "perito_tasks", "perito_http_request_seconds"] {
        assert!(metrics.contains(name), "{name} in {metrics}");
    }

    let told = Instant::now();
    let id = child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().await.unwrap().success());
    let (output, log) = end(child).await;
    assert!(output.status.success(), "{log}");
    assert!(told.elapsed() < Duration::from_secs(5), "took {:?}", told.elapsed());
    assert!(log.contains("coordinator stopped"), "{log}");
    assert!(!log.contains("hunter2"), "the configuration is printed without its secrets: {log}");
    let failures = log.lines().filter(|line| line.contains("loop failed") && line.contains("dispatcher")).count();
    assert!(failures <= 3, "an error that stays the same is logged once for each kind: {log}");
}

#[tokio::test]
async fn the_api_is_open_only_when_told() {
    let test = TestDatabase::migrated().await;
    let (mut closed, base) = coordinator(&test.url, &[]).await;
    assert_eq!(
        get(&format!("{base}/v1/jobs")).await.0,
        StatusCode::UNAUTHORIZED,
        "there are no tokens, and no way past"
    );
    assert_eq!(get(&format!("{base}/v1/openapi.json")).await.0, StatusCode::OK);
    closed.start_kill().unwrap();
    let (_, log) = end(closed).await;
    assert!(log.contains("perito token create"), "says how to make one: {log}");

    let (mut open, base) = coordinator(&test.url, &["--insecure"]).await;
    assert_eq!(get(&format!("{base}/v1/jobs")).await.0, StatusCode::OK);
    open.start_kill().unwrap();
    let (_, log) = end(open).await;
    assert!(log.contains("the API is open"), "{log}");
}

#[tokio::test]
async fn refuses_a_schema_that_it_does_not_know() {
    let test = TestDatabase::empty().await;
    let (child, _) = coordinator(&test.url, &[]).await;
    let (output, log) = end(child).await;
    assert!(!output.status.success());
    assert!(log.contains("perito migrate"), "names the way out: {log}");
}

#[tokio::test]
async fn gives_up_on_a_database_that_stays_away() {
    let url = format!("postgres://perito:hunter2@127.0.0.1:{}/perito", free_port().await);
    let (child, _) = coordinator(&url, &["--startup-timeout", "1s"]).await;
    let (output, log) = end(child).await;
    assert!(!output.status.success());
    assert!(log.contains("Postgres is not there yet"), "tries again: {log}");
    assert!(log.contains("connect to Postgres at 127.0.0.1"), "names the place: {log}");
    assert!(!log.contains("hunter2"), "{log}");
}

#[tokio::test]
async fn refuses_options_that_cannot_work_at_once() {
    let (child, _) = coordinator("mysql://hunter2@somewhere", &[]).await;
    let (output, log) = end(child).await;
    assert!(!output.status.success());
    assert!(log.contains("PERITO_DATABASE_URL") && !log.contains("hunter2"), "{log}");

    let test = TestDatabase::empty().await;
    let folder = std::env::temp_dir().join(format!("perito-amqp-{}", std::process::id()));
    std::fs::write(&folder, "http://hunter2@somewhere").unwrap();
    for (arguments, named) in [
        (["--migrate", "--amqp-url-file", folder.to_str().unwrap()], "PERITO_AMQP_URL"),
        (["--migrate", "--amqp-url-file", "/nowhere"], "/nowhere"),
        (["--migrate", "--broker-namespace", ""], "namespace"),
    ] {
        let (child, _) = coordinator(&test.url, &arguments).await;
        let (output, log) = end(child).await;
        assert!(!output.status.success());
        assert!(log.contains(named) && !log.contains("hunter2"), "{log}");
    }
}
