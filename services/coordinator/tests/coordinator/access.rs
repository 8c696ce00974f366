//! Who gets in.

use std::collections::BTreeMap;

use perito_domain::access::{Role, Token};
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::harness::Coordinator;

#[tokio::test]
async fn strangers_are_asked_for_a_token_on_every_route() {
    let coordinator = Coordinator::start().await;
    let document = coordinator.send(coordinator.stranger(Method::GET, "/v1/openapi.json")).await;
    let document = document.expect(StatusCode::OK);
    let mut asked = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            assert!(operation["security"][0]["token"][0].is_string(), "{method} {path} says no role");
            let method: Method = method.to_uppercase().parse().unwrap();
            let path = path.replace(['{', '}'], "");
            let answer = coordinator.send(coordinator.stranger(method.clone(), &path)).await;
            assert_eq!(answer.headers["www-authenticate"], "Bearer realm=\"perito\"", "{method} {path}");
            let problem = answer.refused(StatusCode::UNAUTHORIZED);
            assert!(problem.detail().contains("PERITO_TOKEN"), "{}", problem.detail());
            asked += 1;
        }
    }
    assert!(asked > 40, "{asked}");
    assert_eq!(document["components"]["securitySchemes"]["token"]["scheme"], "bearer");
}

#[tokio::test]
async fn a_token_that_is_not_in_force_opens_nothing() {
    let coordinator = Coordinator::start().await;
    let good = coordinator.test.token("ana", Role::Viewer).await;
    let ask = async |header: String| {
        coordinator.send(coordinator.stranger(Method::GET, "/v1/jobs").header("Authorization", header)).await
    };
    ask(format!("Bearer {good}")).await.expect(StatusCode::OK);
    ask(format!("bearer  {good}")).await.expect(StatusCode::OK);

    // Another secret under an id that exists, an id that does not, and what is no token at all.
    let id = good.split('_').nth(1).unwrap();
    let forged = format!("perito_{id}_{}", "0".repeat(64));
    let unknown = Token::from_random([0; 8], [0; 32]).expose();
    for header in [
        format!("Bearer {forged}"),
        format!("Bearer {unknown}"),
        "Bearer hunter2".to_owned(),
        "Basic YW5hOmh1bnRlcjI=".to_owned(),
        good.clone(),
        "Bearer ".to_owned(),
    ] {
        let problem = ask(header).await.refused(StatusCode::UNAUTHORIZED);
        assert!(!problem.detail().contains("hunter2") && !problem.detail().contains(&"0".repeat(64)));
    }

    let revoke = coordinator.request(Method::DELETE, "/v1/tokens/ana");
    assert!(coordinator.send(revoke).await.expect(StatusCode::OK)["revoked_at"].is_string());
    ask(format!("Bearer {good}")).await.refused(StatusCode::UNAUTHORIZED);
    coordinator.send(coordinator.request(Method::DELETE, "/v1/tokens/ana")).await.refused(StatusCode::NOT_FOUND);

    // Its name is free again; one that has expired opens nothing either.
    let again = coordinator.test.token("ana", Role::Viewer).await;
    ask(format!("Bearer {again}")).await.expect(StatusCode::OK);
    sqlx::query("update api_tokens set expires_at = now() where name = 'ana' and revoked_at is null")
        .execute(coordinator.test.pool())
        .await
        .unwrap();
    ask(format!("Bearer {again}")).await.refused(StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn each_role_may_do_what_the_document_says() {
    let coordinator = Coordinator::start().await;
    let document = coordinator.get("/v1/openapi.json").await.expect(StatusCode::OK);
    let mut tokens = BTreeMap::new();
    for role in Role::ALL {
        tokens.insert(*role, coordinator.test.token(role.as_str(), *role).await);
    }
    let mut seen = BTreeMap::<Role, usize>::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let needed: Role = operation["security"][0]["token"][0].as_str().unwrap().parse().unwrap();
            *seen.entry(needed).or_default() += 1;
            let method: Method = method.to_uppercase().parse().unwrap();
            for (role, token) in &tokens {
                let path = path.replace(['{', '}'], "");
                let request = coordinator.stranger(method.clone(), &path).bearer_auth(token);
                let answer = coordinator.send(request).await;
                assert_ne!(answer.status, StatusCode::UNAUTHORIZED, "{role}: {method} {path}");
                if *role < needed {
                    let problem = answer.refused(StatusCode::FORBIDDEN);
                    assert!(problem.detail().contains(&format!("needs the role {needed}")), "{}", problem.detail());
                } else {
                    assert_ne!(answer.status, StatusCode::FORBIDDEN, "{role}: {method} {path}: {}", answer.body);
                }
            }
        }
    }
    // What is meant for each, in samples: the rest follows from the methods.
    let role = |method: &str, path: &str| document["paths"][path][method]["security"][0]["token"][0].clone();
    assert_eq!(role("get", "/v1/jobs"), "viewer");
    assert_eq!(role("get", "/v1/settings"), "viewer");
    assert_eq!(role("post", "/v1/jobs"), "operator");
    assert_eq!(role("delete", "/v1/schedules/{name}"), "operator");
    assert_eq!(role("post", "/v1/jobs/{id}/cancel"), "operator");
    for (method, path) in [
        ("put", "/v1/settings"),
        ("delete", "/v1/models/{reference}"),
        ("put", "/v1/models/{name}/aliases/{alias}"),
        ("post", "/v1/models/{name}/aliases/{alias}/rollback"),
        ("get", "/v1/tokens"),
        ("post", "/v1/tokens"),
        ("delete", "/v1/tokens/{name}"),
    ] {
        assert_eq!(role(method, path), "admin", "{method} {path}");
    }
    assert_eq!(seen.len(), 3, "{seen:?}");
}

#[tokio::test]
async fn tokens_are_shown_once_and_stored_as_digests() {
    let coordinator = Coordinator::start().await;
    let asked = json!({"name": "nightly", "role": "operator", "expires_at": "2999-01-01T00:00:00Z"});
    let made = coordinator.post("/v1/tokens", &asked).await.expect(StatusCode::CREATED);
    let token = made["token"].as_str().unwrap();
    assert_eq!(made["created_by"], "test");
    coordinator.post("/v1/tokens", &asked).await.refused(StatusCode::CONFLICT);

    let submit = coordinator.stranger(Method::POST, "/v1/jobs").bearer_auth(token).json(&crate::harness::scoring(10));
    coordinator.send(submit).await.expect(StatusCode::CREATED);
    let list = coordinator.get("/v1/tokens").await.expect(StatusCode::OK);
    let secret = token.rsplit('_').next().unwrap();
    assert!(!list.to_string().contains(secret));
    let nightly = list["tokens"].as_array().unwrap().iter().find(|token| token["name"] == "nightly").unwrap();
    assert!(nightly["last_used_at"].is_string() && nightly["id"] == token.split('_').nth(1).unwrap(), "{nightly}");
    let rows: Vec<String> =
        sqlx::query_scalar("select t::text from api_tokens t").fetch_all(coordinator.test.pool()).await.unwrap();
    assert!(rows.len() == 2 && rows.iter().all(|row| !row.contains(secret)), "{rows:?}");

    for wrong in [
        json!({"name": "Nightly!", "role": "viewer"}),
        json!({"name": "n", "role": "root"}),
        json!({"name": "n", "role": "viewer", "expires_at": "2001-01-01T00:00:00Z"}),
    ] {
        coordinator.post("/v1/tokens", &wrong).await.refused(StatusCode::UNPROCESSABLE_ENTITY);
    }
}
