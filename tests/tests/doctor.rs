//! `perito doctor` on a system in order, and on systems that somebody has broken.
#![allow(clippy::unwrap_used)]

use lapin::{
    Connection, ConnectionProperties,
    options::{QueueDeclareOptions, QueueDeleteOptions},
    types::FieldTable,
};
use perito_domain::lifecycle::JobKind;
use perito_tests::{System, process::binary};
use serde_json::Value;

/// The exit code, and all findings.
async fn doctor(system: &System) -> (i32, Vec<Value>) {
    let (code, output, errors) = system.perito(&["--json", "doctor"]).await;
    let document: Value = serde_json::from_str(&output).unwrap_or_else(|error| panic!("{error}: {output} {errors}"));
    assert_eq!(document["healthy"], code == 0);
    (code, document["findings"].as_array().unwrap().clone())
}

/// The finding of a check.
fn finding<'a>(findings: &'a [Value], part: &str, check: &str) -> &'a Value {
    let found = findings.iter().find(|finding| finding["part"] == part && finding["check"] == check);
    found.unwrap_or_else(|| panic!("no {part} {check} in {findings:#?}"))
}

fn set(system: &mut System, name: &str, value: &str) {
    system.variables.retain(|(variable, _)| variable != name);
    system.variables.push((name.to_owned(), value.to_owned()));
}

#[tokio::test]
async fn a_system_in_order_has_no_fault_and_says_what_it_looked_at() {
    let mut system = System::start().await;
    let (code, findings) = doctor(&system).await;
    assert_eq!(code, 0, "{findings:#?}");
    assert_eq!(finding(&findings, "coordinator", "workers")["verdict"], "warning", "none was started");
    let _worker = system.worker("w1");
    loop {
        let (code, findings) = doctor(&system).await;
        assert_eq!(code, 0, "{findings:#?}");
        if finding(&findings, "coordinator", "workers")["verdict"] == "ok" {
            for finding in &findings {
                assert_eq!(finding["verdict"], "ok", "{finding}");
            }
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    let (code, output, _) = system.perito(&["doctor"]).await;
    assert!(code == 0 && output.contains("objects can be written"), "{output}");
    // What it wrote is gone.
    use futures::TryStreamExt as _;
    let left: Vec<_> = system.objects.list(&system.bucket, "doctor/").try_collect().await.unwrap();
    assert!(left.is_empty(), "{left:?}");

    // A person's own machine knows the API only.
    let known =
        system.variables.iter().filter(|(name, _)| matches!(name.as_str(), "PERITO_API_URL" | "PERITO_TOKEN")).cloned();
    let mut alone = tokio::process::Command::new(binary("perito"));
    let output = alone.args(["--json", "doctor"]).env_clear().envs(known).output().await.unwrap();
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &document["healthy"]), (Some(0), &Value::Bool(true)), "{document:#}");
    for part in ["postgres", "rabbitmq", "s3"] {
        let findings = document["findings"].as_array().unwrap();
        assert_eq!(finding(findings, part, "reach")["verdict"], "skipped", "{document:#}");
    }
}

#[tokio::test]
async fn each_fault_is_found_and_comes_with_the_way_out() {
    let mut system = System::start().await;

    // A queue that somebody made with other arguments.
    let url = system.variables.iter().find(|(name, _)| name == "PERITO_AMQP_URL").unwrap().1.clone();
    let connection = Connection::connect(&url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let queue = system.topology().queue(JobKind::Evaluate);
    channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare(queue.as_str().into(), durable, FieldTable::default()).await.unwrap();
    // One migration that this release has, the database has not; and one that it does not know.
    sqlx::query(
        "update _sqlx_migrations set version = 9000 where version = (select max(version) from _sqlx_migrations)",
    )
    .execute(system.pool())
    .await
    .unwrap();
    set(&mut system, "PERITO_S3_BUCKET", "nobody-made-this-one");
    set(&mut system, "PERITO_TOKEN", &format!("perito_{}_{}", "ab".repeat(8), "07".repeat(32)));
    let (code, findings) = doctor(&system).await;
    assert_eq!(code, 1);
    for (part, check, named) in [
        ("rabbitmq", "topology", queue.as_str()),
        ("postgres", "schema", "perito migrate"),
        ("s3", "reach", "nobody-made-this-one"),
        ("coordinator", "token", "PERITO_TOKEN"),
    ] {
        let found = finding(&findings, part, check);
        assert_eq!(found["verdict"], "fault", "{found}");
        assert!(found.to_string().contains(named) && found["remedy"].is_string(), "{named} in {found}");
    }
    channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
    let (_, findings) = doctor(&system).await;
    let missing = finding(&findings, "rabbitmq", "queues");
    assert!(missing["verdict"] == "warning" && missing.to_string().contains(&queue), "{missing}");

    // Nothing listens where the variables point.
    for (name, value) in [
        ("PERITO_DATABASE_URL", "postgres://u:hunter2@127.0.0.1:1/d"),
        ("PERITO_AMQP_URL", "amqp://u:hunter2@127.0.0.1:1/%2f"),
        ("PERITO_S3_ENDPOINT", "http://127.0.0.1:1"),
        ("PERITO_API_URL", "http://127.0.0.1:1"),
    ] {
        set(&mut system, name, value);
    }
    let (code, findings) = doctor(&system).await;
    assert_eq!(code, 1);
    for part in ["postgres", "rabbitmq", "s3", "coordinator"] {
        let found = finding(&findings, part, "reach");
        assert!(found["verdict"] == "fault" && found["detail"].to_string().contains("127.0.0.1:1"), "{found}");
        assert!(!found.to_string().contains("hunter2"), "{found}");
    }
}
