//! The operator's way with models: promote behind the gate, compare, roll back, delete; and what comes back from adjusters and from Kaggle.
#![allow(clippy::unwrap_used, missing_docs)]

use std::io::{Cursor, Write as _};

use axum::{Router, http::StatusCode, routing::get};
use perito_domain::Severity;
use perito_tests::{datasets::small, models, photographs::photograph, system::System};
use serde_json::{Value, json};

/// Runs `perito --json` to success; what it wrote.
async fn perito(system: &System, arguments: &[&str]) -> Value {
    let (code, output, errors) = system.perito(&[&["--json"], arguments].concat()).await;
    assert_eq!(code, 0, "perito {arguments:?}: {errors}");
    serde_json::from_str(&output).unwrap()
}

/// Runs `perito` to failure; its exit code and what it told.
async fn refused(system: &System, arguments: &[&str]) -> (i32, String) {
    let (code, _, errors) = system.perito(arguments).await;
    assert_ne!(code, 0, "perito {arguments:?} succeeded");
    (code, errors)
}

#[tokio::test]
async fn models_are_promoted_compared_rolled_back_and_deleted() {
    let mut system = System::start().await;
    system.variables.push(("USER".to_owned(), "ana".to_owned()));
    let _worker = system.worker("w1");
    small(&system).await;
    // Random weights, and trained ones.
    models::import(&system, "severity").await;
    let train = json!({
        "kind": "train", "model": "severity", "dataset": "small", "architecture": "cnn4", "image_size": 32, "epochs": 3, "batch_size": 8,
        "optimizer": {"name": "sgd", "learning_rate": 0.003, "momentum": 0.9}, "schedule": {"name": "constant"}, "dropout": 0.0,
        "augment": {"rotation_degrees": 0.0, "perspective": {"probability": 0.0}},
    });
    let job = system.submit(train).await;
    system.success_of(&job).await;

    let alias = ["--alias", "production"];
    perito(&system, &[&["model", "promote", "severity@1"], &alias[..]].concat()).await;
    // The random one has never been measured.
    let promote = [&["model", "promote", "severity@2", "--dataset", "small", "--margin", "0"], &alias[..]].concat();
    let (code, told) = refused(&system, &promote).await;
    assert!(
        code == 1 && told.contains("perito evaluate severity@1 --dataset small@1 --split validation --watch"),
        "{told}"
    );
    let promoted = perito(&system, &[&promote[..], &["--evaluate"]].concat()).await;
    assert_eq!((&promoted["reference"], &promoted["aliases"]), (&json!("severity@2"), &json!(["production"])));
    // Back to the worse one only by force.
    let back = [&["model", "promote", "severity@1", "--dataset", "small"], &alias[..]].concat();
    let (_, told) = refused(&system, &back).await;
    assert!(told.contains("macro F1") && told.contains("--force --reason"), "{told}");
    perito(&system, &[&back[..], &["--force", "--reason", "a drill"]].concat()).await;
    let again = perito(&system, &[&["model", "rollback", "severity"], &alias[..]].concat()).await;
    assert_eq!(again["reference"], "severity@2");

    let history = perito(&system, &["model", "history", "severity"]).await;
    let moves = history["moves"].as_array().unwrap();
    let steps: Vec<_> =
        moves.iter().map(|step| (step["to_version"].as_i64().unwrap(), step["forced"].as_bool().unwrap())).collect();
    assert_eq!(steps, [(2, false), (1, true), (2, false), (1, false)]);
    assert!(moves.iter().all(|step| step["by"] == "ana"), "{history}");
    assert_eq!(moves[1]["reason"], "a drill");

    let comparison = perito(&system, &["model", "compare", "severity@1", "severity@2", "--dataset", "small"]).await;
    assert_eq!((&comparison["images"], &comparison["mcnemar"]["test"]), (&json!(18), &json!("exact-binomial")));
    assert!(comparison["only_challenger_right"].as_i64() > comparison["only_champion_right"].as_i64(), "{comparison}");
    assert_eq!(system.count("select count(*) from analytics.model_comparisons where p_value <= 1").await, 1);

    let (code, card, _) = system.perito(&["model", "card", "severity@production"]).await;
    assert_eq!(code, 0);
    for part in [
        "# Model card: severity@2",
        "small@1",
        "| macro F1 |",
        "exact-binomial",
        "a drill",
        "## Recipe",
        "32 x 32 pixels",
    ] {
        assert!(card.contains(part), "{part} in\n{card}");
    }

    // The measured one stays; one that nobody uses goes, with its weights.
    let (_, told) = refused(&system, &["model", "delete", "severity@1"]).await;
    assert!(told.contains("1 evaluation would lose lineage") && told.contains("comparison"), "{told}");
    let spare = models::import(&system, "spare").await;
    let key = "models/spare.safetensors";
    assert!(system.objects.exists(&system.bucket, key).await.unwrap());
    for _ in 0..2 {
        let deleted = perito(&system, &["model", "delete", &spare, "--reason", "never used"]).await;
        assert_eq!((&deleted["reference"], &deleted["by"]), (&json!("spare@1"), &json!("ana")));
    }
    assert!(!system.objects.exists(&system.bucket, key).await.unwrap());
    assert_eq!(refused(&system, &["model", "show", &spare]).await.0, 5);
}

#[tokio::test]
async fn adjusters_decisions_come_back_as_accuracy_and_as_a_dataset() {
    let mut system = System::start().await;
    let _worker = system.worker("w1");
    models::import(&system, "severity").await;
    perito(&system, &["model", "promote", "severity", "--alias", "production", "--by", "ana"]).await;
    let photographs: Vec<_> =
        (0..30_u64).map(|n| (format!("b/claim-{}/{n}.jpg", n / 2), photograph(Severity::Minor, n, 32, 32))).collect();
    system.register(&photographs).await;
    perito(&system, &["score", "severity@production", "--backlog", "--watch"]).await;

    let folder = tempfile::tempdir().unwrap();
    let mut rows = "key,severity,decided_at\n".to_owned();
    for (key, _) in &photographs {
        rows.push_str(&format!("{key},minor,2026-03-02T10:00:00Z\n"));
    }
    let file = folder.path().join("march.csv");
    std::fs::write(
        &file,
        format!("{rows}b/nothing.jpg,minor,2026-03-02T10:00:00Z\nb/claim-0/0.jpg,total,2026-03-02T10:00:00Z\n"),
    )
    .unwrap();
    let import = ["labels", "import", file.to_str().unwrap(), "--source", "adjusters"];
    let (code, told) = refused(&system, &import).await;
    assert!(
        code == 1 && told.contains("line 32:") && told.contains("line 33:") && told.contains("--skip-bad"),
        "{told}"
    );
    assert_eq!(system.count("select count(*) from human_labels").await, 0);
    let skipping = perito(&system, &[&import[..], &["--skip-bad"]].concat()).await;
    assert_eq!((&skipping["new"], skipping["rejected"].as_array().unwrap().len()), (&json!(30), 2), "{skipping}");
    std::fs::write(&file, rows).unwrap();
    assert_eq!(perito(&system, &import).await["known"], 30);

    let labels = "select labels from analytics.live_accuracy where week = '2026-03-02' and model = 'severity' and level = 'photograph'";
    assert_eq!(system.count(labels).await, 30);
    let wrong = "select count(*) from analytics.live_accuracy where correct + too_light + too_heavy <> labels";
    assert_eq!(system.count(wrong).await, 0);
    let dataset =
        perito(&system, &["dataset", "from-labels", "field", "--validation-share", "0.3", "--seed", "7"]).await;
    assert_eq!((&dataset["reference"], &dataset["images"]), (&json!("field@1"), &json!(30)));
    let straddling = "select count(*) from (select claim_id from dataset_items d join images i on i.id = d.image_id
                      group by claim_id having count(distinct split) > 1) torn";
    assert_eq!(system.count(straddling).await, 0);
}

#[tokio::test]
async fn a_dataset_comes_from_kaggle() {
    let mut system = System::start().await;
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for split in ["training", "validation"] {
        for (number, severity) in Severity::ALL.into_iter().enumerate() {
            let name = format!("data3a/{split}/0{}-{severity}/{split}.jpg", number + 1);
            zip.start_file(
                name,
                zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored),
            )
            .unwrap();
            zip.write_all(&photograph(severity, number as u64 + split.len() as u64, 64, 48)).unwrap();
        }
    }
    let archive = zip.finish().unwrap().into_inner();
    let router = Router::new().route(
        "/api/v1/datasets/download/ana/cars",
        get(move |headers: axum::http::HeaderMap| async move {
            // ana:s3cret
            let allowed = headers.get("authorization").is_some_and(|value| value == "Basic YW5hOnMzY3JldA==");
            if allowed { Ok(archive) } else { Err(StatusCode::UNAUTHORIZED) }
        }),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let cache = tempfile::tempdir().unwrap();
    let command = ["dataset", "kaggle", "ana/cars", "--name", "damage", "--cache", cache.path().to_str().unwrap()];
    let set = |system: &mut System, name: &str, value: &str| system.variables.push((name.to_owned(), value.to_owned()));
    set(&mut system, "PERITO_KAGGLE_URL", &url);
    set(&mut system, "KAGGLE_USERNAME", "ana");
    set(&mut system, "KAGGLE_KEY", "wrong");
    let (code, told) = refused(&system, &command).await;
    assert!(code == 1 && told.contains("KAGGLE_KEY") && !told.contains("wrong"), "{told}");
    set(&mut system, "KAGGLE_KEY", "s3cret");
    let made = perito(&system, &command).await;
    assert_eq!((&made["dataset"]["reference"], &made["files"]), (&json!("damage@1"), &json!(6)));
    assert!(made["dataset"]["origin"].as_str().unwrap().starts_with("Kaggle ana/cars, archive of"), "{made}");
    assert_eq!(std::fs::read_dir(cache.path().join("ana/cars")).unwrap().count(), 0, "nothing is left behind");
    assert_eq!(perito(&system, &command).await["dataset"]["existing"], true);
    assert_eq!(refused(&system, &["dataset", "kaggle", "ana/other"]).await.0, 5);
}
