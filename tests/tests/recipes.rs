//! Recipes end to end: sweeps, what ends a training early, and what cannot be trained.
#![allow(clippy::unwrap_used)]

use perito_domain::Severity;
use perito_tests::{System, datasets::small, photographs::photograph};
use serde_json::{Value, json};
use sqlx::Row;

/// A training that takes a second or two.
fn quick(more: Value) -> Value {
    let mut fields = json!({
        "model": "severity", "dataset": "small", "architecture": "cnn4", "image_size": 32, "epochs": 3, "batch_size": 8,
        "optimizer": {"name": "adamw", "learning_rate": 0.001}, "schedule": {"name": "constant"},
    });
    fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    fields
}

fn training(more: Value) -> Value {
    let mut spec = quick(more);
    spec["kind"] = "train".into();
    spec
}

#[tokio::test]
async fn a_sweep_measures_its_trials_by_cross_validation_and_registers_the_best() {
    let mut system = System::start().await;
    small(&system).await;
    let _workers = [system.worker("w1"), system.worker("w2")];
    // With the last rate the loss is no number after a few steps.
    let search = json!({"name": "grid", "fields": {"optimizer.learning_rate": [1e-9, 0.001, 9.9]}});
    let unstable =
        json!({"optimizer": {"name": "sgd", "learning_rate": 1, "momentum": 0.99, "weight_decay": 0.9}, "epochs": 8});
    let stable = json!({"kind": "sweep", "train": quick(json!({})), "search": {"name": "grid", "fields": {
        "optimizer.learning_rate": [1e-9, 0.001]}}, "folds": 3});
    let job = system.submit(stable).await;
    let done = system.success_of(&job).await;
    assert_eq!(done["model"], "severity@1");
    assert_eq!(done["tasks"]["succeeded"], 7, "two trials of three folds, and the winner");
    let board = system.get(&format!("/v1/jobs/{job}/leaderboard")).await["trials"].clone();
    assert_eq!((&board[0]["rank"], &board[0]["trial"], &board[0]["runs_done"]), (&json!(1), &json!(1), &json!(3)));
    assert!(board[0]["macro_f1"].as_f64() > board[1]["macro_f1"].as_f64(), "{board:#}");
    let model = system.get("/v1/models/severity@1").await;
    assert_eq!(model["hyperparameters"]["optimizer"]["learning_rate"], 0.001);
    let epochs = system.get(&format!("/v1/jobs/{job}/epochs")).await;
    assert_eq!(epochs["epochs"].as_array().unwrap().len(), 3, "the winner's");
    assert_eq!(system.count("select count(*) from analytics.sweep_leaderboard").await, 2);
    // The winner's training is an ordinary one: the same specification gives the same weights.
    let again = system.submit(training(json!({}))).await;
    system.success_of(&again).await;
    assert_eq!(system.get("/v1/models/severity@2").await["artifact"]["sha256"], model["artifact"]["sha256"]);

    let mut some = quick(json!({}));
    some.as_object_mut().unwrap().extend(unstable.as_object().unwrap().clone());
    let job = system.submit(json!({"kind": "sweep", "train": some, "search": search})).await;
    system.success_of(&job).await;
    let board = system.get(&format!("/v1/jobs/{job}/leaderboard")).await["trials"].clone();
    let out = board.as_array().unwrap().iter().find(|trial| trial["trial"] == 2).unwrap();
    assert!(out["rank"].is_null() && out["error"].as_str().unwrap().contains("epoch"), "{board:#}");
}

#[tokio::test]
async fn early_stopping_ends_the_run_that_many_epochs_after_its_best() {
    let mut system = System::start().await;
    small(&system).await;
    let _worker = system.worker("w1");
    // Nothing is learned at this rate, so the first epoch stays the best.
    let spec = training(json!({
        "epochs": 50, "early_stopping": 3, "optimizer": {"name": "sgd", "learning_rate": 1e-12}, "ema_decay": 0.0,
        "freeze": null,
    }));
    let job = system.submit(spec).await;
    system.success_of(&job).await;
    let rows =
        sqlx::query("select epoch, validation_macro_f1 from training_epochs order by epoch").fetch_all(system.pool());
    let scores: Vec<f64> = rows.await.unwrap().iter().map(|row| row.get(1)).collect();
    let best =
        scores.iter().enumerate().fold(0, |best, (index, score)| if *score > scores[best] { index } else { best });
    assert_eq!(scores.len(), best + 1 + 3, "{scores:?}");
    assert!(scores.len() < 50);
}

#[tokio::test]
async fn what_cannot_be_trained_says_why_and_is_not_tried_again() {
    let mut system = System::start().await;
    small(&system).await;
    let _worker = system.worker("w1");
    let hot = training(
        json!({"optimizer": {"name": "sgd", "learning_rate": 9.9, "momentum": 0.99, "weight_decay": 0.9}, "epochs": 20}),
    );
    let job = system.submit(hot).await;
    let ended = system.end_of(&job).await;
    let error = ended["error"].as_str().unwrap().to_owned();
    assert!(ended["state"] == "failed" && error.contains("epoch") && error.contains("step"), "{ended:#}");
    assert_eq!(system.count(&format!("select max(attempt)::bigint from tasks where job_id = '{job}'")).await, 1);

    // A class without an image.
    let draft = system.post("/v1/datasets", json!({"name": "two"})).await;
    for (split, severity) in [
        ("training", Severity::Minor),
        ("training", Severity::Severe),
        ("validation", Severity::Minor),
        ("validation", Severity::Moderate),
    ] {
        let objects: Vec<_> = (0..4)
            .map(|number| (format!("two/{split}/{severity}/{number}.jpg"), photograph(severity, number, 96, 64)))
            .collect();
        let ids = system.register(&objects).await;
        let items: Vec<_> =
            ids.into_iter().map(|id| json!({"image_id": id, "split": split, "label": severity})).collect();
        system.post(&format!("/v1/datasets/{}/items", draft["id"]), json!({"items": items})).await;
    }
    system.post(&format!("/v1/datasets/{}/freeze", draft["id"]), json!({})).await;
    let job = system.submit(training(json!({"dataset": "two"}))).await;
    let ended = system.end_of(&job).await;
    assert!(ended["error"].as_str().unwrap().contains("class moderate"), "{ended:#}");
}
