//! Images, datasets and models over HTTP.

use crate::harness::{Coordinator, model};
use reqwest::StatusCode;
use serde_json::{Value, json};

#[tokio::test]
async fn images_are_registered_once() {
    let coordinator = Coordinator::start().await;
    let image = |key: &str, etag: &str| json!({"bucket": "photos", "key": key, "etag": etag, "size_bytes": 1, "claim_id": "c-1", "label": "severe"});
    let both = json!({"images": [image("a.jpg", "1"), image("b.jpg", "1")]});
    let first = coordinator.post("/v1/images", &both).await.expect(StatusCode::OK);
    assert_eq!((&first["new"], &first["known"]), (&json!(2), &json!(0)));
    let again = coordinator.post("/v1/images", &both).await.expect(StatusCode::OK);
    assert_eq!((&again["new"], &again["known"], &again["ids"]), (&json!(0), &json!(2), &first["ids"]));
    let replaced = coordinator.post("/v1/images", &json!({"images": [image("a.jpg", "2")]})).await;
    assert_eq!(replaced.expect(StatusCode::OK)["superseded"], 1);
}

#[tokio::test]
async fn what_is_wrong_with_an_image_is_named() {
    let coordinator = Coordinator::start().await;
    for (member, value, field) in [
        ("bucket", json!(""), "images[1].bucket"),
        ("key", json!("k".repeat(1025)), "images[1].key"),
        ("etag", json!(""), "images[1].etag"),
        ("size_bytes", json!(-1), "images[1].size_bytes"),
        ("claim_id", json!(""), "images[1].claim_id"),
        ("claim_id", json!("C\u{7}7"), "images[1].claim_id"),
        ("key", json!("a\nb.jpg"), "images[1].key"),
        ("label", json!("total"), "images[1].label"),
        ("lable", json!("minor"), "images[1].lable"),
    ] {
        let good = json!({"bucket": "photos", "key": "a.jpg", "etag": "1", "size_bytes": 1});
        let mut bad = good.clone();
        bad[member] = value;
        let problem = coordinator.post("/v1/images", &json!({"images": [good, bad]})).await;
        assert_eq!(problem.refused(StatusCode::UNPROCESSABLE_ENTITY).field(), field);
    }
    let one = json!({"bucket": "b", "key": "k", "etag": "1", "size_bytes": 1});
    let problem = coordinator.post("/v1/images", &json!({"images": vec![one; 10_001]})).await;
    assert_eq!(problem.refused(StatusCode::UNPROCESSABLE_ENTITY).field(), "images");
}

#[tokio::test]
async fn a_dataset_is_begun_filled_frozen_and_found() {
    let coordinator = Coordinator::start().await;
    let ids = coordinator.register_images(4).await;
    let begin = async || coordinator.post("/v1/datasets", &json!({"name": "demo"})).await.expect(StatusCode::CREATED);
    let draft = begin().await;
    assert_eq!((&draft["name"], &draft["version"]), (&json!("demo"), &json!(1)));
    let items: Vec<Value> = ids
        .iter()
        .zip([("training", "minor"), ("training", "severe"), ("validation", "minor"), ("validation", "severe")])
        .map(|(id, (split, label))| json!({"image_id": id, "split": split, "label": label}))
        .collect();
    let path = |draft: &Value, action: &str| format!("/v1/datasets/{}/{action}", draft["id"]);
    let empty = coordinator.post(&path(&draft, "freeze"), &Value::Null).await;
    empty.refused(StatusCode::UNPROCESSABLE_ENTITY);
    let added = coordinator.post(&path(&draft, "items"), &json!({"items": items})).await.expect(StatusCode::OK);
    assert_eq!(added, json!({"added": 4}));
    let frozen = coordinator.post(&path(&draft, "freeze"), &Value::Null).await.expect(StatusCode::OK);
    assert_eq!((&frozen["reference"], &frozen["images"]), (&json!("demo@1"), &json!(4)));
    assert_eq!(frozen["existing"], false);
    coordinator.post(&path(&draft, "items"), &json!({"items": items})).await.refused(StatusCode::CONFLICT);

    // The same content again is the same version.
    let second = begin().await;
    coordinator.post(&path(&second, "items"), &json!({"items": items})).await.expect(StatusCode::OK);
    let same = coordinator.post(&path(&second, "freeze"), &Value::Null).await.expect(StatusCode::OK);
    assert_eq!((&same["reference"], &same["existing"]), (&json!("demo@1"), &json!(true)));

    let shown = coordinator.get("/v1/datasets/demo").await.expect(StatusCode::OK);
    assert_eq!(shown["digest"], frozen["digest"]);
    assert_eq!(shown, coordinator.get("/v1/datasets/demo@1").await.expect(StatusCode::OK));
    let listed = coordinator.get("/v1/datasets").await.expect(StatusCode::OK);
    assert_eq!(listed, json!({"datasets": [shown]}));
    coordinator.get("/v1/datasets/demo@2").await.refused(StatusCode::NOT_FOUND);
    coordinator.get("/v1/datasets/demo@latest").await.refused(StatusCode::UNPROCESSABLE_ENTITY);
    let problem = coordinator.post("/v1/datasets", &json!({"name": "Not A Name"})).await;
    assert_eq!(problem.refused(StatusCode::UNPROCESSABLE_ENTITY).field(), "name");
}

#[tokio::test]
async fn models_are_imported_and_listed() {
    let coordinator = Coordinator::start().await;
    let first = coordinator.import_model("severity").await;
    let second = coordinator.import_model("severity").await;
    coordinator.import_model("other").await;
    assert_eq!((&first["reference"], &second["reference"]), (&json!("severity@1"), &json!("severity@2")));
    let newest = coordinator.get("/v1/models/severity").await.expect(StatusCode::OK);
    assert_eq!(newest, second);

    let alias = "/v1/models/severity/aliases/production";
    coordinator.put(alias, &json!({"version": 1})).await.expect(StatusCode::OK);

    let listed = coordinator.get("/v1/models?name=severity").await.expect(StatusCode::OK);
    assert_eq!(listed["models"].as_array().unwrap().len(), 2);
    let all = coordinator.get("/v1/models").await.expect(StatusCode::OK);
    assert_eq!(all["models"].as_array().unwrap().len(), 3);
    let missing = coordinator.get("/v1/models/severity@staging").await.refused(StatusCode::NOT_FOUND);
    assert!(missing.detail().contains("production"), "says what there is: {}", missing.detail());
}

#[tokio::test]
async fn what_is_wrong_with_a_model_is_named() {
    let coordinator = Coordinator::start().await;
    for (pointer, value, field) in [
        ("/architecture", json!("vgg"), "architecture"),
        ("/class_names", json!(["severe", "minor"]), "class_names"),
        ("/artifact/sha256", json!("ABC"), "artifact.sha256"),
        ("/artifact/bytes", json!(0), "artifact.bytes"),
        ("/artifact/key", json!(""), "artifact.key"),
        ("/source", json!(""), "source"),
        ("/name", json!("Severity"), "name"),
    ] {
        let mut body = model("severity");
        *body.pointer_mut(pointer).unwrap() = value;
        let problem = coordinator.post("/v1/models", &body).await.refused(StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(problem.field(), field, "{}", problem.0);
    }
    let preprocessing = json!({"version": 9, "image_size": 224, "mean": [0, 0, 0], "std": [1, 1, 1]});
    let mut body = model("severity");
    body["preprocessing"] = preprocessing;
    let problem = coordinator.post("/v1/models", &body).await.refused(StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(problem.field(), "preprocessing.version");
}
