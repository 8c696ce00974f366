//! The operator's hands over HTTP: pause, resume, change, filters, workers, status.

use std::time::Duration;

use crate::harness::{Coordinator, Queues, eventually, quick, scoring};
use perito_broker::{Consumer, Publisher};
use perito_coordinator::config::LoopArgs;
use perito_database::{Claim, WorkerReport};
use perito_domain::lifecycle::JobKind;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

async fn act(coordinator: &Coordinator, id: &str, action: &str) -> Value {
    coordinator.post(&format!("/v1/jobs/{id}/{action}"), &Value::Null).await.expect(StatusCode::OK)
}

#[tokio::test]
async fn a_paused_jobs_messages_lead_to_nothing_until_it_is_resumed() {
    let (coordinator, broker) = (Coordinator::prepared(4).await, Queues::new());
    coordinator.start_loops(&broker.0, LoopArgs { lost_after: Duration::from_secs(60), ..quick() });
    let id = coordinator.submit_scoring(1).await;
    eventually("all is dispatched", async || coordinator.job(&id).await["tasks"]["dispatched"] == 4).await;
    let paused = act(&coordinator, &id, "pause").await;
    assert_eq!((&paused["state"], &paused["tasks"]["runnable"]), (&json!("running"), &json!(4)));
    assert!(paused["paused_at"].is_string());

    let stop = CancellationToken::new();
    let mut messages = Consumer::new(broker.0.clone()).start(&[JobKind::Score], 100, stop.clone());
    for _ in 0..4 {
        let delivery = messages.recv().await.unwrap();
        let claim = coordinator.claim(&delivery).await;
        assert!(matches!(claim, Claim::Dropped(_)), "{claim:?}");
        delivery.ack().await;
    }
    let more = tokio::time::timeout(Duration::from_millis(300), messages.recv()).await;
    assert!(more.is_err(), "nothing is sent while it is paused");
    assert_eq!(act(&coordinator, &id, "resume").await["paused_at"], Value::Null);
    for _ in 0..4 {
        let delivery = messages.recv().await.unwrap();
        let claim = coordinator.claim(&delivery).await;
        let Claim::Claimed(task) = claim else { panic!("{claim:?}") };
        coordinator.score(&task).await;
        delivery.ack().await;
    }
    eventually("it succeeds", async || coordinator.job(&id).await["state"] == "succeeded").await;
    stop.cancel();
}

#[tokio::test]
async fn a_job_is_changed_and_what_is_wrong_with_a_change_is_named() {
    let coordinator = Coordinator::start().await;
    let mut limited = scoring(1);
    limited["spec"]["concurrency"] = json!(5);
    let submitted = coordinator.post("/v1/jobs", &limited).await.expect(StatusCode::CREATED);
    assert_eq!(submitted["concurrency"], 5);
    let path = format!("/v1/jobs/{}", submitted["id"].as_str().unwrap());
    let changed = coordinator.patch(&path, &json!({"priority": 7})).await.expect(StatusCode::OK);
    assert_eq!((&changed["priority"], &changed["concurrency"]), (&json!(7), &json!(5)));
    let changed = coordinator.patch(&path, &json!({"concurrency": null})).await.expect(StatusCode::OK);
    assert_eq!((&changed["priority"], &changed["concurrency"]), (&json!(7), &Value::Null));
    for (body, field) in [
        (json!({"priority": 10}), "priority"),
        (json!({"concurrency": 0}), "concurrency"),
        (json!({"concurrency": -1}), "concurrency"),
        (json!({"concurrency": 10_001}), "concurrency"),
    ] {
        let problem = coordinator.patch(&path, &body).await.refused(StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(problem.field(), field);
    }
    for (body, named) in [(json!({}), "nothing to change"), (json!({"state": "failed"}), "state")] {
        let problem = coordinator.patch(&path, &body).await.refused(StatusCode::UNPROCESSABLE_ENTITY);
        assert!(problem.detail().contains(named), "{}", problem.detail());
    }
    act(&coordinator, path.rsplit('/').next().unwrap(), "cancel").await;
    for refused in [
        coordinator.patch(&path, &json!({"priority": 7})).await,
        coordinator.post(&format!("{path}/pause"), &Value::Null).await,
        coordinator.post(&format!("{path}/resume"), &Value::Null).await,
    ] {
        assert!(refused.refused(StatusCode::CONFLICT).detail().contains("cancelled"));
    }
    let nobody = format!("/v1/jobs/{}/pause", Uuid::now_v7());
    coordinator.post(&nobody, &Value::Null).await.refused(StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn listings_are_filtered() {
    let coordinator = Coordinator::prepared(1).await;
    let (one, other) = (coordinator.submit_scoring(1).await, coordinator.submit_scoring(1).await);
    act(&coordinator, &one, "pause").await;
    let list = async |query: &str| -> Vec<String> {
        let page = coordinator.get(&format!("/v1/jobs?{query}")).await.expect(StatusCode::OK);
        page["jobs"].as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(list("paused=true").await, [one.as_str()]);
    assert_eq!(list("paused=false&kind=score&state=queued").await, [other.as_str()]);
    assert_eq!(list("model=severity").await.len(), 2);
    assert!(list("model=severity@1").await.is_empty(), "not planned yet, so not resolved");
    assert_eq!(list("since=2026-01-01T00:00:00Z").await.len(), 2);
    assert!(list("since=2126-01-01T00:00:00Z").await.is_empty());
    for (query, named) in [("since=yesterday", "since"), ("model=No%20Name", "model"), ("paused=perhaps", "paused")] {
        let problem = coordinator.get(&format!("/v1/jobs?{query}")).await.refused(StatusCode::UNPROCESSABLE_ENTITY);
        assert!(problem.detail().contains(named), "{query}: {}", problem.detail());
    }
}

fn report(name: &str) -> WorkerReport {
    WorkerReport {
        name: name.to_owned(),
        instance: Uuid::new_v4(),
        version: "0.1.0".to_owned(),
        device: "cpu".to_owned(),
        kinds: vec![JobKind::Score],
    }
}

#[tokio::test]
async fn workers_are_listed_drained_and_undrained() {
    let coordinator = Coordinator::start().await;
    let database = &coordinator.test.database;
    let state = async || {
        let list = coordinator.get("/v1/workers").await.expect(StatusCode::OK);
        list["workers"][0]["state"].as_str().unwrap_or("none").to_owned()
    };
    assert_eq!(state().await, "none");
    database.beat(&report("gpu/1"), &[]).await.unwrap();
    assert_eq!(state().await, "idle");
    let drained = coordinator.post("/v1/workers/gpu%2F1/drain", &Value::Null).await.expect(StatusCode::OK);
    // Until it has heard of it, it may take one more task.
    assert_eq!((&drained["state"], &drained["name"]), (&json!("draining"), &json!("gpu/1")));
    assert!(database.beat(&report("gpu/1"), &[]).await.unwrap().draining);
    assert_eq!(state().await, "drained");
    let back = coordinator.post("/v1/workers/gpu%2F1/undrain", &Value::Null).await.expect(StatusCode::OK);
    assert_eq!((&back["state"], &back["drained_at"]), (&json!("idle"), &Value::Null));
    let query = "update workers set heartbeat_at = now() - interval '1 minute'";
    sqlx::query(query).execute(coordinator.test.pool()).await.unwrap();
    assert_eq!(state().await, "silent");
    coordinator.post("/v1/workers/nobody/drain", &Value::Null).await.refused(StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_status_tells_what_waits_and_what_the_broker_holds() {
    let (coordinator, broker) = (Coordinator::prepared(3).await, Queues::new());
    let status = async || coordinator.get("/v1/status").await.expect(StatusCode::OK);
    let blind = status().await;
    assert_eq!((&blind["dead_letters"], &blind["queues"][1]["ready"]), (&Value::Null, &Value::Null));
    assert_eq!(blind["last_scoring_run"], Value::Null);
    coordinator.start_loops(&broker.0, LoopArgs { lost_after: Duration::from_secs(60), ..quick() });
    let id = coordinator.submit_scoring(1).await;
    eventually("the messages are seen", async || status().await["queues"][1]["ready"] == 3).await;
    coordinator.test.database.beat(&report("w"), &[]).await.unwrap();
    let seen = status().await;
    let queue = &seen["queues"][1];
    assert_eq!((&queue["kind"], &queue["dispatched"], &queue["runnable"]), (&json!("score"), &json!(3), &json!(0)));
    assert_eq!(queue["oldest_running_seconds"], Value::Null);
    assert_eq!(seen["dead_letters"], 0);
    assert_eq!(seen["jobs"], json!({"queued": 0, "running": 1, "paused": 0}));
    assert_eq!(seen["workers"]["idle"], 1);
    act(&coordinator, &id, "cancel").await;
    let ended = status().await;
    let run = &ended["last_scoring_run"];
    assert_eq!((&run["job_id"], &run["state"], &run["images"]["total"]), (&json!(id), &json!("cancelled"), &json!(3)));
    assert!(run["seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(Publisher::new(broker.0.clone()).dead_letters().await.unwrap(), 0);
}
