//! Jobs over HTTP.

use crate::harness::{Coordinator, scoring};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

#[tokio::test]
async fn a_job_is_submitted_shown_listed_and_cancelled() {
    let coordinator = Coordinator::start().await;
    let answer = coordinator.post("/v1/jobs", &scoring(100)).await;
    let location = answer.headers["location"].to_str().unwrap().to_owned();
    let job = answer.expect(StatusCode::CREATED);
    assert_eq!(job["state"], "queued");
    assert_eq!(job["kind"], "score");
    assert_eq!(job["priority"], 4);
    assert_eq!(job["spec"]["failure_budget"], 0.05, "the specification is completed");
    assert_eq!(job["images"], json!({"total": null, "scored": 0, "failed": 0}));
    assert_eq!(job["tasks"]["total"], 0);
    assert_eq!(location, format!("/v1/jobs/{}", job["id"].as_str().unwrap()));
    assert_eq!(coordinator.get(&location).await.expect(StatusCode::OK), job);

    let page = coordinator.get("/v1/jobs?state=queued&kind=score").await.expect(StatusCode::OK);
    assert_eq!(page, json!({"jobs": [job], "next_cursor": null}));
    let none = coordinator.get("/v1/jobs?kind=train").await.expect(StatusCode::OK);
    assert_eq!(none["jobs"], json!([]));

    let cancel = format!("{location}/cancel");
    let cancelled = coordinator.post(&cancel, &Value::Null).await.expect(StatusCode::OK);
    assert_eq!(cancelled["state"], "cancelled");
    assert!(cancelled["finished_at"].is_string());
}

#[tokio::test]
async fn pages_are_walked_by_cursor() {
    let coordinator = Coordinator::start().await;
    let mut submitted = Vec::new();
    for _ in 0..5 {
        submitted.push(coordinator.submit_scoring(100).await);
    }
    submitted.reverse();
    let (mut seen, mut pages, mut query) = (Vec::new(), 0, String::new());
    loop {
        let page = coordinator.get(&format!("/v1/jobs?limit=2{query}")).await.expect(StatusCode::OK);
        seen.extend(page["jobs"].as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap().to_owned()));
        pages += 1;
        match page["next_cursor"].as_str() {
            Some(cursor) => query = format!("&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!((seen, pages), (submitted, 3));
}

#[tokio::test]
async fn an_idempotency_key_gives_one_job() {
    let coordinator = Coordinator::start().await;
    let submit = |key: &'static str, body: Value| {
        coordinator.send(coordinator.request(Method::POST, "/v1/jobs").header("Idempotency-Key", key).json(&body))
    };
    let first = submit("nightly", scoring(100)).await.expect(StatusCode::CREATED);
    let second = submit("nightly", scoring(100)).await.expect(StatusCode::OK);
    assert_eq!(first["id"], second["id"]);
    let other = submit("nightly", scoring(200)).await.refused(StatusCode::CONFLICT);
    assert!(other.detail().contains("nightly"), "{}", other.detail());
    let third = submit("nightly-2", scoring(100)).await.expect(StatusCode::CREATED);
    assert_ne!(first["id"], third["id"]);
    let long: &'static str = Box::leak("k".repeat(129).into_boxed_str());
    assert_eq!(submit(long, scoring(100)).await.refused(StatusCode::UNPROCESSABLE_ENTITY).field(), "Idempotency-Key");
}

#[tokio::test]
async fn what_is_wrong_with_a_job_is_named() {
    let coordinator = Coordinator::start().await;
    let spec = |extra: Value| {
        let mut body = scoring(100);
        body["spec"].as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        body
    };
    for (body, field) in [
        (json!({"spec": {}, "prioritty": 1}), "prioritty"),
        (json!({"spec": {}, "priority": "high"}), "priority"),
        (json!({"spec": {"kind": "paint"}}), "spec.kind"),
        (json!({"spec": 7}), "spec"),
        (spec(json!({"shard_size": 0})), "spec.shard_size"),
        (spec(json!({"selection": {"by": "dataset", "dataset": "Bad Name"}})), "spec.selection"),
    ] {
        let problem = coordinator.post("/v1/jobs", &body).await.refused(StatusCode::UNPROCESSABLE_ENTITY);
        assert!(problem.field().starts_with(field), "{field} in {}", problem.0);
    }
    let unknown = coordinator.post("/v1/jobs", &spec(json!({"shardsize": 3}))).await;
    assert!(unknown.refused(StatusCode::UNPROCESSABLE_ENTITY).detail().contains("shardsize"));
    let mut urgent = scoring(100);
    urgent["priority"] = 10.into();
    let problem = coordinator.post("/v1/jobs", &urgent).await.refused(StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(problem.field(), "priority");
    let page = coordinator.get("/v1/jobs").await.expect(StatusCode::OK);
    assert_eq!(page["jobs"], json!([]), "nothing was submitted");
}

#[tokio::test]
async fn what_is_wrong_with_a_listing_is_named() {
    let coordinator = Coordinator::start().await;
    for (query, named) in [
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("limit=many", "limit"),
        ("state=paused", "paused"),
        ("cursor=42", "cursor"),
        ("stat=running", "stat"),
    ] {
        let problem = coordinator.get(&format!("/v1/jobs?{query}")).await.refused(StatusCode::UNPROCESSABLE_ENTITY);
        assert!(problem.detail().contains(named), "{query}: {}", problem.detail());
    }
}

#[tokio::test]
async fn a_job_that_is_not_there_is_not_found() {
    let coordinator = Coordinator::start().await;
    let id = Uuid::now_v7();
    for path in [format!("/v1/jobs/{id}"), format!("/v1/jobs/{id}/epochs"), format!("/v1/jobs/{id}/evaluation")] {
        let problem = coordinator.get(&path).await.refused(StatusCode::NOT_FOUND);
        assert!(problem.detail().contains(&id.to_string()), "{}", problem.detail());
    }
    coordinator.post(&format!("/v1/jobs/{id}/cancel"), &Value::Null).await.refused(StatusCode::NOT_FOUND);
    coordinator.get("/v1/jobs/42").await.refused(StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn a_job_that_has_ended_is_not_cancelled() {
    let coordinator = Coordinator::start().await;
    // Its model is unknown, so that planning fails it.
    let id = coordinator.submit_scoring(100).await;
    coordinator.test.database.plan_next().await.unwrap().unwrap();
    let job = coordinator.get(&format!("/v1/jobs/{id}")).await.expect(StatusCode::OK);
    assert_eq!(job["state"], "failed");
    assert!(job["error"].as_str().unwrap().contains("severity"), "{job}");
    let problem = coordinator.post(&format!("/v1/jobs/{id}/cancel"), &Value::Null).await.refused(StatusCode::CONFLICT);
    assert!(problem.detail().contains("failed"), "{}", problem.detail());
}

#[tokio::test]
async fn a_training_job_has_epochs_once_it_has_run() {
    let coordinator = Coordinator::start().await;
    let spec = json!({"kind": "train", "model": "severity", "dataset": "demo", "architecture": "cnn4"});
    let job = coordinator.post("/v1/jobs", &json!({"spec": spec})).await.expect(StatusCode::CREATED);
    assert_eq!(job["spec"]["epochs"], 50, "from the preset");
    let path = format!("/v1/jobs/{}", job["id"].as_str().unwrap());
    let epochs = coordinator.get(&format!("{path}/epochs")).await.expect(StatusCode::OK);
    assert_eq!(epochs, json!({"epochs": []}));
    coordinator.get(&format!("{path}/evaluation")).await.refused(StatusCode::NOT_FOUND);
}
