//! What holds for every route: errors, limits, traces, and the OpenAPI document.

use std::{collections::BTreeSet, time::Duration};

use crate::harness::{self, Coordinator};
use perito_coordinator::api::Limits;
use reqwest::{Method, StatusCode};
use serde_json::{Map, Value, json};

#[tokio::test]
async fn wrong_paths_and_methods_are_problems() {
    let coordinator = Coordinator::start().await;
    for path in ["/", "/v1", "/v1/", "/v1/job", "/v1/jobs/", "/v2/jobs"] {
        let problem = coordinator.get(path).await.refused(StatusCode::NOT_FOUND);
        assert!(problem.detail().contains(path) && problem.detail().contains("/docs"), "{}", problem.detail());
    }
    let answer = coordinator.send(coordinator.request(Method::DELETE, "/v1/jobs")).await;
    let allowed: BTreeSet<_> = answer.headers["allow"].to_str().unwrap().split(',').collect();
    assert_eq!(allowed, BTreeSet::from(["GET", "HEAD", "POST"]));
    answer.refused(StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn bodies_that_cannot_be_read_are_problems() {
    let coordinator = Coordinator::start().await;
    let post = |body: &str, media_type: &'static str| {
        let request = coordinator.request(Method::POST, "/v1/jobs").header("content-type", media_type);
        coordinator.send(request.body(body.to_owned()))
    };
    post("{\"spec\":", "application/json").await.refused(StatusCode::BAD_REQUEST);
    post("kind=score", "application/x-www-form-urlencoded").await.refused(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let long = format!("{{\"spec\": \"{}\"}}", "x".repeat(17 * 1024 * 1024));
    post(&long, "application/json").await.refused(StatusCode::PAYLOAD_TOO_LARGE);
    post("[]", "application/json").await.refused(StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn overload_is_turned_away_and_slowness_given_up() {
    let full = Coordinator::with_limits(Limits::new(0, Duration::from_secs(1))).await;
    let answer = full.get("/v1/jobs").await;
    assert_eq!(answer.headers["retry-after"], "1");
    answer.refused(StatusCode::SERVICE_UNAVAILABLE);

    let hasty = Coordinator::with_limits(Limits::new(1, Duration::from_millis(50))).await;
    let pool = perito_database::testing::pool(&hasty.database);
    let mut taken = Vec::new();
    while let Some(connection) = pool.try_acquire() {
        taken.push(connection);
    }
    while taken.len() < pool.options().get_max_connections() as usize {
        taken.push(pool.acquire().await.unwrap());
    }
    hasty.get("/v1/jobs").await.refused(StatusCode::GATEWAY_TIMEOUT);
    drop(taken);
    full.get("/v1/openapi.json").await.expect(StatusCode::OK);
}

#[tokio::test]
async fn a_database_that_is_gone_is_said_to_be_unavailable() {
    let coordinator = Coordinator::start().await;
    perito_database::testing::pool(&coordinator.database).close().await;
    let answer = coordinator.get("/v1/jobs").await;
    assert_eq!(answer.headers["retry-after"], "1");
    answer.refused(StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn the_callers_trace_is_continued_and_kept_with_the_job() {
    harness::log();
    let coordinator = Coordinator::start().await;
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let submit = coordinator.request(Method::POST, "/v1/jobs").json(&harness::scoring(100));
    let answer = coordinator.send(submit.header("traceparent", parent)).await;
    let returned = answer.headers["traceparent"].to_str().unwrap().to_owned();
    let job = answer.expect(StatusCode::CREATED);
    for traceparent in [&returned, job["traceparent"].as_str().unwrap()] {
        assert!(traceparent.starts_with("00-0af7651916cd43dd8448eb211c80319c-"), "{traceparent}");
        assert_ne!(traceparent, parent, "a span of its own");
    }
    // Without one, or with a broken one, a trace is begun.
    for broken in [None, Some("not-a-trace")] {
        let mut submit = coordinator.request(Method::POST, "/v1/jobs").json(&harness::scoring(100));
        if let Some(broken) = broken {
            submit = submit.header("traceparent", broken);
        }
        let job = coordinator.send(submit).await.expect(StatusCode::CREATED);
        let traceparent = job["traceparent"].as_str().unwrap();
        assert!(traceparent.len() == 55 && !traceparent.contains("0af7651916cd43dd8448eb211c80319c"), "{traceparent}");
    }
}

/// (path, method, operation) of every operation in the document.
fn operations(document: &Value) -> impl Iterator<Item = (&String, &String, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    paths.iter().flat_map(|(path, item)| item.as_object().unwrap().iter().map(move |(m, op)| (path, m, op)))
}

/// A path of the document with something for each parameter.
fn filled(path: &str) -> String {
    let values =
        [("{worker}", "gpu-1"), ("{name}", "severity"), ("{alias}", "production"), ("{reference}", "severity")];
    let path = values.iter().fold(path.to_owned(), |path, (name, value)| path.replace(name, value));
    path.replace("/jobs/{id}", "/jobs/0199a5f2-7c3e-7d51-9b1e-2f6c8a4d0e11").replace("{id}", "7")
}

#[tokio::test]
async fn the_document_and_the_router_have_the_same_routes() {
    let coordinator = Coordinator::start().await;
    let document = coordinator.get("/v1/openapi.json").await.expect(StatusCode::OK);
    let documented: BTreeSet<_> = operations(&document).map(|(path, method, _)| format!("{method} {path}")).collect();
    let expected = [
        "delete /v1/models/{reference}",
        "get /v1/comparisons",
        "delete /v1/schedules/{name}",
        "delete /v1/tokens/{name}",
        "get /v1/tokens",
        "post /v1/tokens",
        "get /v1/datasets",
        "get /v1/datasets/{reference}",
        "get /v1/images/backlog",
        "delete /v1/dead-letters/{id}",
        "get /v1/dead-letters",
        "get /v1/dead-letters/{id}",
        "post /v1/dead-letters/{id}/replay",
        "get /v1/jobs",
        "get /v1/jobs/{id}",
        "get /v1/jobs/{id}/attempts",
        "get /v1/jobs/{id}/epochs",
        "get /v1/jobs/{id}/evaluation",
        "get /v1/jobs/{id}/leaderboard",
        "get /v1/jobs/{id}/stages",
        "get /v1/models",
        "get /v1/models/{name}/history",
        "get /v1/models/{reference}",
        "get /v1/models/{reference}/measurements",
        "get /v1/settings",
        "get /v1/status",
        "get /v1/workers",
        "patch /v1/jobs/{id}",
        "post /v1/comparisons",
        "get /v1/schedules",
        "get /v1/schedules/{name}",
        "get /v1/schedules/{name}/runs",
        "post /v1/datasets",
        "post /v1/datasets/{id}/freeze",
        "post /v1/datasets/{id}/items",
        "post /v1/images",
        "post /v1/jobs",
        "post /v1/jobs/{id}/cancel",
        "post /v1/jobs/{id}/pause",
        "post /v1/jobs/{id}/resume",
        "post /v1/jobs/{id}/retry",
        "post /v1/labels",
        "post /v1/labels/datasets",
        "post /v1/models",
        "post /v1/models/{name}/aliases/{alias}/rollback",
        "post /v1/schedules",
        "post /v1/schedules/{name}/backfill",
        "post /v1/schedules/{name}/pause",
        "post /v1/schedules/{name}/resume",
        "post /v1/schedules/{name}/run-now",
        "post /v1/workers/{worker}/drain",
        "post /v1/workers/{worker}/undrain",
        "put /v1/models/{name}/aliases/{alias}",
        "put /v1/settings",
    ];
    assert_eq!(documented, expected.map(str::to_owned).into());

    // What is documented is routed, and what is not is not.
    for path in document["paths"].as_object().unwrap().keys() {
        let answer = coordinator.send(coordinator.request(Method::TRACE, &filled(path))).await;
        let routed: BTreeSet<_> = answer.headers["allow"].to_str().unwrap().split(',').map(str::to_lowercase).collect();
        let methods = document["paths"][path].as_object().unwrap().keys().cloned();
        let head = routed.contains("get").then(|| "head".to_owned());
        assert_eq!(routed, methods.chain(head).collect(), "{path}");
        answer.refused(StatusCode::METHOD_NOT_ALLOWED);
    }
}

#[tokio::test]
async fn the_document_is_whole() {
    let coordinator = Coordinator::start().await;
    let document = coordinator.get("/v1/openapi.json").await.expect(StatusCode::OK);
    assert_eq!(document["openapi"], "3.1.0");
    let mut references = Vec::new();
    collect_references(&document, &mut references);
    assert!(!references.is_empty());
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    let mut ids = BTreeSet::new();
    for (path, method, operation) in operations(&document) {
        let name = format!("{method} {path}");
        assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{name}: its operationId is not its own");
        assert!(operation["summary"].is_string(), "{name}: no summary");
        assert!(operation["tags"].as_array().is_some_and(|tags| tags.len() == 1), "{name}: {}", operation["tags"]);
        let none = Vec::new();
        let parameters = operation["parameters"].as_array().unwrap_or(&none);
        let in_path = parameters.iter().filter(|parameter| parameter["in"] == "path");
        let described: BTreeSet<_> = in_path.map(|parameter| parameter["name"].as_str().unwrap()).collect();
        let templated = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
        assert_eq!(described, templated, "{name}");
        assert!(parameters.iter().all(|parameter| parameter["description"].is_string()), "{name}: {parameters:?}");
        let responses = operation["responses"].as_object().unwrap();
        assert!(responses.keys().any(|status| status.starts_with('2')), "{name}");
        for (status, response) in responses {
            let media_type = if status.starts_with('2') { "application/json" } else { "application/problem+json" };
            assert!(response["content"][media_type]["schema"].is_object(), "{name} {status}: {response}");
        }
    }
    let ui = coordinator.get("/docs/").await.expect(StatusCode::OK);
    assert!(ui.as_str().unwrap().contains("swagger-ui"));
}

#[tokio::test]
async fn the_examples_of_requests_are_accepted() {
    let coordinator = Coordinator::start().await;
    let document = coordinator.get("/v1/openapi.json").await.expect(StatusCode::OK);
    let mut tried = 0;
    for (path, method, operation) in operations(&document) {
        let Some(reference) = operation.pointer("/requestBody/content/application~1json/schema/$ref") else { continue };
        let schema = document.pointer(reference.as_str().unwrap().strip_prefix('#').unwrap()).unwrap();
        let body = example(schema);
        let method: Method = method.to_uppercase().parse().unwrap();
        let answer = coordinator.send(coordinator.request(method.clone(), &filled(path)).json(&body)).await;
        // What it is about need not be there; the request itself has to be right.
        let accepted = answer.status.is_success() || answer.status == StatusCode::NOT_FOUND;
        assert!(accepted, "{method} {path} with {body}: {}", answer.body);
        tried += 1;
    }
    assert_eq!(tried, 15);
}

/// The example of a schema, or one put together from those of its properties.
fn example(schema: &Value) -> Value {
    if let Some(example) = schema.get("example") {
        return example.clone();
    }
    let properties = schema["properties"].as_object().unwrap();
    let examples: Map<_, _> =
        properties.iter().map(|(name, property)| (name.clone(), property["examples"][0].clone())).collect();
    json!(examples)
}

fn collect_references(value: &Value, references: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(reference)) = members.get("$ref") {
                references.push(reference.clone());
            }
            members.values().for_each(|member| collect_references(member, references));
        }
        Value::Array(items) => items.iter().for_each(|item| collect_references(item, references)),
        _ => {}
    }
}
