//! Spans reach a collector: one trace from the request through the broker to what the worker did.
#![allow(clippy::unwrap_used)]

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{Router, body::Bytes, extract::State, http::StatusCode, routing::post};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    trace::v1::Span,
};
use perito_domain::Severity;
use perito_tests::{
    System, models,
    photographs::photograph,
    system::{PATIENCE, free_address},
};
use prost::Message;
use serde_json::json;

/// A span and who sent it.
#[derive(Clone, Debug)]
struct Received {
    service: HashMap<String, String>,
    span: Span,
}

type Spans = Arc<Mutex<Vec<Received>>>;

/// What a collector does on port 4318.
async fn collector() -> (String, Spans) {
    let spans = Spans::default();
    let routes = Router::new().route("/v1/traces", post(receive)).with_state(Arc::clone(&spans));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    (url, spans)
}

async fn receive(State(spans): State<Spans>, body: Bytes) -> StatusCode {
    let Ok(request) = ExportTraceServiceRequest::decode(body) else { return StatusCode::BAD_REQUEST };
    for resource in request.resource_spans {
        let service = texts(&resource.resource.unwrap_or_default().attributes);
        for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            spans.lock().unwrap().push(Received { service: service.clone(), span });
        }
    }
    StatusCode::OK
}

fn texts(attributes: &[KeyValue]) -> HashMap<String, String> {
    let text = |attribute: &KeyValue| match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some((attribute.key.clone(), text.clone())),
        _ => None,
    };
    attributes.iter().filter_map(text).collect()
}

fn set(system: &mut System, name: &str, value: &str) {
    system.variables.push((name.to_owned(), value.to_owned()));
}

async fn replace_coordinator(system: &mut System) {
    system.coordinator.kill();
    system.coordinator = system.run("perito-coordinator", &[]);
    system.wait_until_ready().await;
}

async fn scored(system: &mut System) -> serde_json::Value {
    let model = models::import(system, "cheap").await;
    let photo = |number: u64| (format!("b/c{number}/{number}.jpg"), photograph(Severity::Minor, number, 64, 64));
    system.register(&(0..3).map(photo).collect::<Vec<_>>()).await;
    let selection = json!({"by": "prefix", "bucket": system.bucket, "prefix": "b/"});
    let job = system.submit(json!({"kind": "score", "model": model, "selection": selection})).await;
    system.success_of(&job).await
}

#[tokio::test]
async fn one_trace_leads_from_the_request_to_the_copy() {
    let (collector, spans) = collector().await;
    let mut system = System::start().await;
    set(&mut system, "OTEL_EXPORTER_OTLP_ENDPOINT", &collector);
    // Sent when the process ends, if not before.
    set(&mut system, "OTEL_BSP_SCHEDULE_DELAY", "60000");
    set(&mut system, "OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test");
    replace_coordinator(&mut system).await;
    let mut worker = system.worker("w1");
    let job = scored(&mut system).await;
    let trace = job["traceparent"].as_str().unwrap().split('-').nth(1).unwrap().to_owned();
    worker.signal("TERM");
    assert!(worker.wait(PATIENCE).await.success(), "{}", worker.log());
    system.coordinator.signal("TERM");
    assert!(system.coordinator.wait(PATIENCE).await.success(), "{}", system.coordinator.log());

    let all = spans.lock().unwrap().clone();
    let ours: Vec<&Received> = all.iter().filter(|received| hex::encode(&received.span.trace_id) == trace).collect();
    let named = |name: &str| {
        let found: Vec<_> = ours.iter().filter(|received| received.span.name == name).copied().collect();
        assert!(
            !found.is_empty(),
            "no span {name} among {:?}",
            ours.iter().map(|it| &it.span.name).collect::<Vec<_>>()
        );
        found
    };
    let parent = |received: &Received| {
        ours.iter()
            .find(|other| other.span.span_id == received.span.parent_span_id)
            .map(|other| other.span.name.as_str())
    };
    let request = named("http.request")[0];
    assert_eq!(request.service["service.name"], "perito-coordinator");
    assert!(request.span.parent_span_id.is_empty(), "nobody asked before");
    assert_eq!(texts(&request.span.attributes)["http.route"], "/v1/jobs");
    let task = named("task")[0];
    assert_eq!(task.service["service.name"], "perito-worker");
    for attribute in ["service.version", "service.instance.id", "deployment.environment.name"] {
        assert!(!task.service[attribute].is_empty(), "{attribute}");
    }
    assert_eq!(task.span.parent_span_id, request.span.span_id, "the request led to the task, through the broker");
    for (name, under) in [
        ("s3", &["task"][..]),
        ("decode", &["task"]),
        ("infer", &["task"]),
        ("device", &["task", "infer"]),
        ("commit_score", &["task"]),
        ("copy", &["commit_score"]),
    ] {
        for span in named(name) {
            let parent = parent(span).unwrap_or("nothing");
            assert!(under.contains(&parent), "{name} is under {parent}");
        }
    }
    let gets = named("s3").iter().filter(|span| texts(&span.span.attributes)["s3.target"].contains("/b/c")).count();
    assert_eq!(gets, 3, "one for each photograph");
}

#[tokio::test]
async fn without_a_collector_work_goes_on_and_the_failure_is_told_once() {
    let mut system = System::start().await;
    set(&mut system, "OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://{}", free_address()));
    set(&mut system, "OTEL_BSP_SCHEDULE_DELAY", "100");
    // A queue that is too short for what happens: spans are dropped, and nobody waits.
    set(&mut system, "OTEL_BSP_MAX_QUEUE_SIZE", "4");
    set(&mut system, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4");
    replace_coordinator(&mut system).await;
    let mut worker = system.worker("w1");
    scored(&mut system).await;
    let lost = "do not reach the collector";
    let started = Instant::now();
    while [&worker, &system.coordinator].iter().any(|process| !process.log().contains(lost)) {
        assert!(started.elapsed() < PATIENCE, "{}\n{}", worker.log(), system.coordinator.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    worker.signal("TERM");
    assert!(worker.wait(PATIENCE).await.success(), "{}", worker.log());
    for log in [worker.log(), system.coordinator.log()] {
        assert_eq!(log.lines().filter(|line| line.contains(lost)).count(), 1, "{log}");
    }
    let metrics = reqwest::get(format!("{}/metrics", system.api)).await.unwrap().text().await.unwrap();
    assert!(metrics.contains("perito_spans_exported_total{outcome=\"lost\"}"), "{metrics}");
}

#[tokio::test]
async fn what_is_not_sampled_is_not_sent() {
    let (collector, spans) = collector().await;
    let mut system = System::start().await;
    set(&mut system, "OTEL_EXPORTER_OTLP_ENDPOINT", &collector);
    set(&mut system, "OTEL_TRACES_SAMPLER", "parentbased_traceidratio");
    set(&mut system, "OTEL_TRACES_SAMPLER_ARG", "0");
    replace_coordinator(&mut system).await;
    let mut worker = system.worker("w1");
    let job = scored(&mut system).await;
    assert!(job["traceparent"].as_str().unwrap().ends_with("-00"), "the worker learns it from the message: {job}");
    worker.signal("TERM");
    assert!(worker.wait(PATIENCE).await.success());
    system.coordinator.signal("TERM");
    assert!(system.coordinator.wait(PATIENCE).await.success());
    assert!(spans.lock().unwrap().is_empty(), "{:?}", spans.lock().unwrap());
}
