//! Aliases, comparisons, deletions and labels over HTTP.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::Coordinator;

const ALIAS: &str = "/v1/models/severity/aliases/production";

#[tokio::test]
async fn aliases_move_with_a_reason_and_go_back() {
    let coordinator = Coordinator::start().await;
    for _ in 0..3 {
        coordinator.import_model("severity").await;
    }
    let first = json!({"version": 1, "by": "ana", "reason": "the first one"});
    let promoted = coordinator.put(ALIAS, &first).await.expect(StatusCode::OK);
    assert_eq!(promoted["aliases"], json!(["production"]));
    let found = coordinator.get("/v1/models/severity@production").await.expect(StatusCode::OK);
    assert_eq!(found["version"], 1);
    // An import was trained on no dataset that the two could be compared on.
    let refused = coordinator.put(ALIAS, &json!({"version": 2})).await.refused(StatusCode::CONFLICT);
    assert!(refused.detail().contains("--dataset"), "{}", refused.detail());
    let forced = json!({"version": 2, "force": true, "by": "ana", "reason": "urgent"});
    coordinator.put(ALIAS, &forced).await.expect(StatusCode::OK);
    let back = coordinator.post(&format!("{ALIAS}/rollback"), &json!({"from_version": 2, "by": "eva"})).await;
    assert_eq!(back.expect(StatusCode::OK)["version"], 1);
    let again = coordinator.post(&format!("{ALIAS}/rollback"), &json!({"from_version": 2})).await;
    assert!(again.refused(StatusCode::CONFLICT).detail().contains("points to version 1"));

    let history = coordinator.get("/v1/models/severity/history?alias=production").await.expect(StatusCode::OK);
    let steps: Vec<Value> = history["moves"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| {
            json!([
                step["action"],
                step["from_version"],
                step["to_version"],
                step["by"],
                step["reason"],
                step["forced"]
            ])
        })
        .collect();
    let expected = [
        json!(["rollback", 2, 1, "eva", null, false]),
        json!(["promote", 1, 2, "ana", "urgent", true]),
        json!(["promote", null, 1, "ana", "the first one", false]),
    ];
    assert_eq!(steps, expected);
    coordinator.get("/v1/models/nobody/history").await.refused(StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_is_wrong_with_a_promotion_is_named() {
    let coordinator = Coordinator::start().await;
    coordinator.import_model("severity").await;
    coordinator.put(ALIAS, &json!({"version": 9})).await.refused(StatusCode::NOT_FOUND);
    for (body, field) in [
        (json!({"version": 1, "force": true}), "reason"),
        (json!({"version": 1, "margin": 1.5}), "margin"),
        (json!({"version": 1, "by": "a\nb"}), "by"),
        (json!({"version": 1, "reason": ""}), "reason"),
        (json!({"version": 1, "dataset": "demo@latest"}), "dataset"),
        (json!({"version": 1, "split": "test"}), "split"),
        (json!({"version": 1, "forced": true}), "forced"),
    ] {
        let problem = coordinator.put(ALIAS, &body).await.refused(StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(problem.field(), field, "{body}");
    }
    let number = coordinator.put("/v1/models/severity/aliases/7", &json!({"version": 1})).await;
    assert_eq!(number.refused(StatusCode::UNPROCESSABLE_ENTITY).field(), "alias");
    let missing = coordinator.post("/v1/models/severity/aliases/staging/rollback", &json!({})).await;
    missing.refused(StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn versions_are_deleted_once_nothing_uses_them() {
    let coordinator = Coordinator::start().await;
    for name in ["severity", "severity", "other"] {
        coordinator.import_model(name).await;
    }
    coordinator.put(ALIAS, &json!({"version": 2})).await.expect(StatusCode::OK);
    let delete = async |path: &str| coordinator.send(coordinator.request(Method::DELETE, path)).await;
    let used = delete("/v1/models/severity@2").await.refused(StatusCode::CONFLICT);
    assert!(used.detail().contains("production points to it"), "{}", used.detail());
    let path = "/v1/models/severity@1?by=ana&reason=never%20used";
    let deleted = delete(path).await.expect(StatusCode::OK);
    assert_eq!(
        (&deleted["reference"], &deleted["by"], &deleted["reason"]),
        (&json!("severity@1"), &json!("ana"), &json!("never used"))
    );
    assert!(deleted["shared_with"].is_string() && deleted["key"] == "m.safetensors", "{deleted}");
    assert_eq!(delete(path).await.expect(StatusCode::OK), deleted, "again is the same");
    coordinator.get("/v1/models/severity@1").await.refused(StatusCode::NOT_FOUND);
    for vague in ["/v1/models/severity", "/v1/models/severity@production"] {
        assert_eq!(delete(vague).await.refused(StatusCode::UNPROCESSABLE_ENTITY).field(), "reference");
    }
    delete("/v1/models/severity@9").await.refused(StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn comparisons_want_measurements() {
    let coordinator = Coordinator::start().await;
    coordinator.import_model("severity").await;
    coordinator.import_model("severity").await;
    let ids = coordinator.register_images(2).await;
    let draft = coordinator
        .post("/v1/datasets", &json!({"name": "demo", "origin": "a test"}))
        .await
        .expect(StatusCode::CREATED);
    let items: Vec<Value> = ids
        .iter()
        .zip(["training", "validation"])
        .map(|(id, split)| json!({"image_id": id, "split": split, "label": "minor"}))
        .collect();
    let draft = format!("/v1/datasets/{}", draft["id"]);
    coordinator.post(&format!("{draft}/items"), &json!({"items": items})).await.expect(StatusCode::OK);
    let frozen = coordinator.post(&format!("{draft}/freeze"), &Value::Null).await.expect(StatusCode::OK);
    assert_eq!(frozen["origin"], "a test");
    let compare = json!({"champion": "severity@1", "challenger": "severity@2", "dataset": "demo"});
    let refused = coordinator.post("/v1/comparisons", &compare).await.refused(StatusCode::CONFLICT);
    assert!(
        refused.detail().contains("perito evaluate severity@1 --dataset demo@1 --split validation"),
        "{}",
        refused.detail()
    );
    let same = json!({"champion": "severity@1", "challenger": "severity@1", "dataset": "demo"});
    coordinator.post("/v1/comparisons", &same).await.refused(StatusCode::UNPROCESSABLE_ENTITY);
    let listed = coordinator.get("/v1/comparisons?name=severity").await.expect(StatusCode::OK);
    assert_eq!(listed, json!({"comparisons": []}));
    let measured = coordinator.get("/v1/models/severity@1/measurements").await.expect(StatusCode::OK);
    assert_eq!(measured, json!({"measurements": []}));
    coordinator.get("/v1/models/severity@9/measurements").await.refused(StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn labels_are_recorded_and_become_a_dataset() {
    let coordinator = Coordinator::start().await;
    let images: Vec<Value> = (0..20)
        .map(|n| json!({"bucket": "photos", "key": format!("{n}.jpg"), "etag": format!("e{n}"), "size_bytes": 100, "claim_id": format!("c{n}")}))
        .collect();
    coordinator.post("/v1/images", &json!({"images": images})).await.expect(StatusCode::OK);
    let label = |key: String| json!({"bucket": "photos", "key": key, "severity": "minor", "source": "adjusters", "decided_at": "2026-03-01T10:00:00Z"});
    let mut labels: Vec<Value> = (0..20).map(|n| label(format!("{n}.jpg"))).collect();
    labels.push(label("missing.jpg".to_owned()));
    let send = async |bad_rows: &str| {
        coordinator.post("/v1/labels", &json!({"labels": labels, "bad_rows": bad_rows})).await.expect(StatusCode::OK)
    };
    let refused = send("refuse").await;
    assert_eq!((&refused["new"], &refused["rejected"][0]["index"]), (&json!(0), &json!(20)));
    assert!(refused["rejected"][0]["detail"].as_str().unwrap().contains("photos/missing.jpg"), "{refused}");
    assert_eq!(send("check").await["new"], 20);
    assert_eq!(send("skip").await["new"], 20);
    assert_eq!((&send("skip").await["new"], &send("skip").await["known"]), (&json!(0), &json!(20)));

    let from = json!({"name": "field", "validation_share": 0.5, "seed": 18446744073709551615_u64});
    let made = coordinator.post("/v1/labels/datasets", &from).await.expect(StatusCode::CREATED);
    assert_eq!(
        (&made["reference"], &made["images"], &made["existing"]),
        (&json!("field@1"), &json!(20), &json!(false))
    );
    assert!(made["origin"].as_str().unwrap().contains("seed 18446744073709551615"), "{made}");
    let again = coordinator.post("/v1/labels/datasets", &from).await.expect(StatusCode::CREATED);
    assert_eq!((&again["reference"], &again["existing"]), (&json!("field@1"), &json!(true)));

    for (body, field) in [
        (json!({"name": "field", "validation_share": 0, "seed": 1}), "validation_share"),
        (json!({"name": "field", "validation_share": 0.5, "seed": -1}), "seed"),
        (json!({"name": "Field", "validation_share": 0.5, "seed": 1}), "name"),
        (json!({"name": "field", "validation_share": 0.5, "seed": 1, "source": ""}), "source"),
    ] {
        let problem = coordinator.post("/v1/labels/datasets", &body).await;
        assert_eq!(problem.refused(StatusCode::UNPROCESSABLE_ENTITY).field(), field);
    }
    let mut odd = label("1.jpg".to_owned());
    odd["severity"] = json!("total");
    let problem = coordinator.post("/v1/labels", &json!({"labels": [odd]})).await;
    assert_eq!(problem.refused(StatusCode::UNPROCESSABLE_ENTITY).field(), "labels[0].severity");
}
