//! Every input can be wrong: a clear answer, and the job goes on where it can.
#![allow(clippy::unwrap_used)]

use std::{collections::HashMap, time::Duration};

use image::{ImageFormat, RgbImage};
use perito_domain::Severity;
use perito_tests::{
    System, models,
    photographs::{bomb, encode, photograph},
    system::free_address,
};
use serde_json::{Value, json};
use sqlx::Row;

#[tokio::test]
async fn each_broken_image_is_a_row_with_its_reason_and_the_job_goes_on() {
    let mut system = System::start().await;
    let _worker = system.worker("w1");
    let model = models::import(&system, "cheap").await;
    let good = photograph(Severity::Minor, 1, 200, 150);
    let key = |name: &str| format!("odd/claim/{name}");
    let mut objects = vec![
        (key("good.jpg"), good.clone()),
        (key("text.jpg"), b"this is a text file that somebody named .jpg".to_vec()),
        (key("truncated.jpg"), good[..good.len() / 2].to_vec()),
        (key("bomb.png"), bomb()),
        (key("empty.jpg"), Vec::new()),
        (key("vanished.jpg"), good.clone()),
        (key("replaced.jpg"), good.clone()),
        (key("grey16.png"), {
            let grey =
                image::ImageBuffer::<image::Luma<u16>, _>::from_fn(50, 40, |x, y| image::Luma([(x * y * 30) as u16]));
            let mut bytes = std::io::Cursor::new(Vec::new());
            image::DynamicImage::ImageLuma16(grey).write_to(&mut bytes, ImageFormat::Png).unwrap();
            bytes.into_inner()
        }),
        (key("UPPER.PNG"), encode(&RgbImage::new(30, 20), ImageFormat::Png)),
    ];
    objects.push((key("odd %2F name&<script>.jpg"), good.clone()));
    system.register(&objects).await;
    system.objects.delete(&system.bucket, &key("vanished.jpg")).await.unwrap();
    let other = photograph(Severity::Severe, 2, 200, 150);
    system.objects.put(&system.bucket, &key("replaced.jpg"), other, "image/jpeg").await.unwrap();

    let selection = json!({"by": "prefix", "bucket": system.bucket, "prefix": "odd/"});
    let spec = json!({"kind": "score", "model": model, "selection": selection, "failure_budget": 0.6});
    let job = system.submit(spec.clone()).await;
    let done = system.success_of(&job).await;
    assert_eq!((&done["images"]["scored"], &done["images"]["failed"]), (&json!(4), &json!(6)), "{done:#}");
    let rows =
        sqlx::query("select key, reason, detail from analytics.image_failures").fetch_all(system.pool()).await.unwrap();
    let reasons: HashMap<String, String> = rows.iter().map(|row| (row.get::<String, _>(0), row.get(1))).collect();
    for (name, reason) in [
        ("text.jpg", "unsupported"),
        ("truncated.jpg", "corrupt"),
        ("bomb.png", "too_many_pixels"),
        ("empty.jpg", "empty"),
        ("vanished.jpg", "missing"),
        ("replaced.jpg", "changed"),
    ] {
        assert_eq!(reasons.get(&key(name)).map(String::as_str), Some(reason), "{name}: {reasons:?}");
    }
    assert!(rows.iter().all(|row| !row.get::<String, _>(2).is_empty()), "each has a detail");

    // With the usual budget the same job fails, and says why.
    let mut strict = spec;
    strict["failure_budget"] = json!(0.05);
    let job = system.submit(strict).await;
    let failed = system.end_of(&job).await;
    assert_eq!(failed["state"], "failed");
    assert!(failed["error"].as_str().unwrap().contains("failure budget"), "{failed:#}");
}

#[tokio::test]
async fn references_to_nothing_fail_the_job_with_the_way_out() {
    let system = System::start().await;
    let by_backlog = json!({"by": "backlog"});
    for (spec, words) in [
        (json!({"kind": "score", "model": "nobody", "selection": by_backlog}), ["nobody", "perito model list"]),
        (json!({"kind": "evaluate", "model": "nobody@3", "dataset": "d"}), ["nobody@3", "perito model list"]),
        (
            json!({"kind": "train", "model": "m", "dataset": "nothing@2", "architecture": "cnn4"}),
            ["nothing@2", "perito dataset list"],
        ),
    ] {
        let job = system.submit(spec).await;
        let failed = system.end_of(&job).await;
        assert_eq!(failed["state"], "failed");
        for word in words {
            assert!(failed["error"].as_str().unwrap().contains(word), "{failed:#}");
        }
    }
}

#[tokio::test]
async fn malformed_requests_are_refused_by_the_fields_name() {
    let system = System::start().await;
    for (spec, word) in [
        (json!({"kind": "score", "model": "m", "selection": {"by": "backlog"}, "shards": 4}), "shards"),
        (json!({"kind": "score", "model": "m", "selection": {"by": "moon"}}), "moon"),
        (json!({"kind": "train", "model": "m", "dataset": "d", "architecture": "vgg"}), "vgg"),
        (json!({"kind": "dance"}), "dance"),
    ] {
        let (status, problem) = system.request(reqwest::Method::POST, "/v1/jobs", Some(json!({ "spec": spec }))).await;
        assert_eq!(status, 422, "{problem}");
        assert!(problem.to_string().contains(word), "{word} is not in {problem}");
    }
    let (status, problem) =
        system.request(reqwest::Method::POST, "/v1/jobs", Some(json!({"spec": {}, "urgency": 3}))).await;
    assert!(status == 422 && problem.to_string().contains("urgency"), "{status} {problem}");
    let (status, _) = system.request(reqwest::Method::GET, "/v1/jobs/00000000-0000-0000-0000-000000000000", None).await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn submitting_twice_with_a_key_gives_the_same_job() {
    let system = System::start().await;
    let submit = async |spec: Value| {
        let body = json!({ "spec": spec });
        let request = perito_tests::system::client(system.token())
            .post(format!("{}/v1/jobs", system.api))
            .header("Idempotency-Key", "nightly");
        let response = request.json(&body).send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    let spec = json!({"kind": "score", "model": "m", "selection": {"by": "backlog"}});
    let (status, first) = submit(spec.clone()).await;
    assert_eq!(status, 201);
    let (status, second) = submit(spec).await;
    assert_eq!((status, &second["id"]), (200, &first["id"]));
    let (status, _) = submit(json!({"kind": "score", "model": "other", "selection": {"by": "backlog"}})).await;
    assert_eq!(status, 409);
}

#[tokio::test]
async fn a_server_that_is_down_at_start_is_named() {
    let mut system = System::start().await;
    let nowhere = free_address();
    let set = |system: &mut System, name: &str, value: &str| {
        system.variables.iter_mut().find(|variable| variable.0 == name).unwrap().1 = value.to_owned();
    };
    let original = system.variables.clone();

    set(&mut system, "PERITO_DATABASE_URL", &format!("postgres://perito:hunter2@{nowhere}/perito"));
    for (binary, arguments) in [("perito-worker", &[][..]), ("perito-coordinator", &["--startup-timeout", "1s"])] {
        let mut process = system.run(binary, arguments);
        let status = process.wait(Duration::from_secs(30)).await;
        assert!(!status.success());
        let log = process.log();
        assert!(log.contains(nowhere.split(':').nth(1).unwrap()) && log.contains("Postgres"), "{binary}: {log}");
        assert!(!log.contains("hunter2"), "{binary} tells the password: {log}");
    }

    system.variables.clone_from(&original);
    set(&mut system, "PERITO_S3_ENDPOINT", &format!("http://{nowhere}"));
    let mut worker = system.run("perito-worker", &[]);
    assert!(!worker.wait(Duration::from_secs(60)).await.success());
    assert!(worker.log().contains("PERITO_S3_ENDPOINT"), "{}", worker.log());

    // RabbitMQ may come later: the worker says so and goes on trying.
    system.variables.clone_from(&original);
    set(&mut system, "PERITO_AMQP_URL", &format!("amqp://guest:hunter2@{nowhere}/%2f"));
    let mut worker = system.run("perito-worker", &[]);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(worker.is_running());
    assert!(worker.log().contains("RabbitMQ") && !worker.log().contains("hunter2"), "{}", worker.log());

    system.variables.clone_from(&original);
    let mut worker = system.run("perito-worker", &["--device", "cuda:7"]);
    assert!(!worker.wait(Duration::from_secs(30)).await.success());
    assert!(worker.log().contains("cuda:7"), "{}", worker.log());
}

#[tokio::test]
async fn an_unknown_schema_is_refused() {
    let mut system = System::start().await;
    sqlx::query("insert into _sqlx_migrations (version, description, success, checksum, execution_time) values (9999, 'contract the future', true, '', 0)")
        .execute(system.pool())
        .await
        .unwrap();
    let mut worker = system.run("perito-worker", &[]);
    assert!(!worker.wait(Duration::from_secs(30)).await.success());
    assert!(worker.log().contains("9999"), "{}", worker.log());
}
