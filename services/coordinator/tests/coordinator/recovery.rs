//! Failed jobs, attempts and dead letters over HTTP.

use std::time::Duration;

use perito_database::Claim;
use perito_domain::{access::Role, retry::ErrorClass};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::harness::{Coordinator, Queues, eventually, quick};
use perito_broker::Consumer;
use perito_domain::lifecycle::JobKind;

#[tokio::test]
async fn a_failed_job_says_what_became_of_its_attempts_and_runs_again() {
    let (coordinator, broker) = (Coordinator::prepared(1).await, Queues::new());
    coordinator.start_loops(&broker.0, quick());
    let id = coordinator.submit_scoring(1).await;
    let stop = CancellationToken::new();
    let mut messages = Consumer::new(broker.0.clone()).start(&[JobKind::Score], 1, stop.clone());
    let delivery = messages.recv().await.unwrap();
    let Claim::Claimed(task) = coordinator.claim(&delivery).await else { panic!("it is the only one") };
    let (database, error) = (&coordinator.test.database, "no such model");
    database.fail(&task.lease, ErrorClass::Permanent, error, Duration::ZERO).await.unwrap();
    delivery.ack().await;
    eventually("it fails", async || coordinator.job(&id).await["state"] == "failed").await;

    let attempts = coordinator.get(&format!("/v1/jobs/{id}/attempts?lost=true")).await.expect(StatusCode::OK);
    let attempt = &attempts["attempts"][0];
    assert_eq!((&attempt["outcome"], &attempt["error_class"]), (&json!("failed"), &json!("permanent")));
    assert_eq!((&attempt["error"], &attempt["images"]), (&json!(error), &json!(1)));
    let other = coordinator.get(&format!("/v1/jobs/{id}/attempts?task=7")).await.expect(StatusCode::OK);
    assert_eq!(other["attempts"], json!([]));
    coordinator.get(&format!("/v1/jobs/{id}/attempts?limit=0")).await.refused(StatusCode::UNPROCESSABLE_ENTITY);
    coordinator.get(&format!("/v1/jobs/{}/attempts", Uuid::now_v7())).await.refused(StatusCode::NOT_FOUND);

    let retry = format!("/v1/jobs/{id}/retry");
    let again = coordinator.post(&retry, &Value::Null).await.expect(StatusCode::OK);
    assert_eq!((&again["state"], &again["error"]), (&json!("running"), &Value::Null));
    let delivery = messages.recv().await.unwrap();
    let Claim::Claimed(task) = coordinator.claim(&delivery).await else { panic!("it was dispatched again") };
    coordinator.score(&task).await;
    delivery.ack().await;
    eventually("it succeeds", async || coordinator.job(&id).await["state"] == "succeeded").await;
    let refused = coordinator.post(&retry, &Value::Null).await.refused(StatusCode::CONFLICT);
    assert!(refused.detail().contains("only a failed job"), "{}", refused.detail());
    stop.cancel();
}

#[tokio::test]
async fn viewers_look_and_operators_act() {
    let coordinator = Coordinator::start().await;
    let viewer = coordinator.test.token("ana", Role::Viewer).await;
    let operator = coordinator.test.token("olga", Role::Operator).await;
    let ask = async |token: &str, method: Method, path: &str| {
        coordinator.send(coordinator.stranger(method, path).bearer_auth(token)).await
    };
    let job = format!("/v1/jobs/{}", Uuid::now_v7());
    for (method, path) in [
        (Method::POST, format!("{job}/retry")),
        (Method::POST, "/v1/dead-letters/8f3a1c5e9b7d2f40/replay".to_owned()),
        (Method::DELETE, "/v1/dead-letters/8f3a1c5e9b7d2f40".to_owned()),
    ] {
        ask(&viewer, method.clone(), &path).await.refused(StatusCode::FORBIDDEN);
        ask(&operator, method, &path).await.refused(StatusCode::NOT_FOUND);
    }
    let none = ask(&viewer, Method::GET, "/v1/dead-letters").await.expect(StatusCode::OK);
    assert_eq!(none["dead_letters"], json!([]));
    ask(&viewer, Method::GET, "/v1/dead-letters/8f3a1c5e9b7d2f40").await.refused(StatusCode::NOT_FOUND);
    ask(&viewer, Method::GET, &format!("{job}/attempts")).await.refused(StatusCode::NOT_FOUND);
}
