//! Photographs that nobody registers over HTTP: staged rows and the object store's events; and the settings.

use std::time::Duration;

use crate::harness::{Coordinator, Queues, eventually, quick};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::FieldTable,
};
use perito_broker::{BrokerOptions, Topology};
use perito_coordinator::config::IntakeArgs;
use reqwest::StatusCode;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Row};

async fn number(coordinator: &Coordinator, sql: &str) -> i64 {
    sqlx::query(AssertSqlSafe(sql)).fetch_one(coordinator.test.pool()).await.unwrap().get(0)
}

async fn execute(coordinator: &Coordinator, sql: &str) {
    sqlx::query(AssertSqlSafe(sql)).execute(coordinator.test.pool()).await.unwrap();
}

#[tokio::test]
async fn staged_rows_reach_the_catalogue() {
    let (coordinator, broker) = (Coordinator::start().await, Queues::new());
    let intake = IntakeArgs { claim_pattern: Some("/(?<claim>C[0-9]+)_".parse().unwrap()), ..IntakeArgs::default() };
    coordinator.start_loops_with(&broker.0, quick(), intake);
    let insert = "insert into intake.staging (bucket, key, etag, size_bytes)
                  select 'claims', '2026/C' || n || '_1.jpg', 'e', case when n < 5000 then n end from generate_series(1, 5000) n";
    execute(&coordinator, insert).await;
    let staged = "select count(*) from intake.staging";
    eventually("all rows are taken", async || number(&coordinator, staged).await == 0).await;
    let with_claim = "select count(*) from images where claim_id ~ '^C[0-9]+$'";
    assert_eq!(number(&coordinator, with_claim).await, 4999);
    assert_eq!(
        number(&coordinator, "select count(*) from intake.rejected where reason = 'size_bytes is null'").await,
        1
    );
    let backlog = coordinator.get("/v1/images/backlog").await.expect(StatusCode::OK);
    assert_eq!((&backlog["buckets"][0]["bucket"], &backlog["buckets"][0]["waiting"]), (&json!("claims"), &json!(4999)));
}

#[tokio::test]
async fn the_settings_are_shown_and_changed() {
    let coordinator = Coordinator::start().await;
    let shown = coordinator.get("/v1/settings").await.expect(StatusCode::OK);
    assert_eq!(shown["claim_confidence"], 0.5);
    let changed = coordinator.put("/v1/settings", &json!({"claim_confidence": 0.75})).await.expect(StatusCode::OK);
    assert_eq!(changed["claim_confidence"], 0.75);
    assert_eq!(coordinator.get("/v1/settings").await.expect(StatusCode::OK), changed);
    for (body, field) in [
        (json!({"claim_confidence": 1.01}), "claim_confidence"),
        (json!({"claim_confidence": "high"}), "claim_confidence"),
        (json!({"claim_confidence": 0.5, "colour": 1}), "colour"),
    ] {
        let problem = coordinator.put("/v1/settings", &body).await;
        assert_eq!(problem.refused(StatusCode::UNPROCESSABLE_ENTITY).field(), field);
    }
}

/// An object store, as far as the broker can tell.
struct Store {
    channel: Channel,
    topology: Topology,
}

impl Store {
    async fn connect(broker: &BrokerOptions) -> Self {
        let connection = Connection::connect(&broker.url, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        let store = Self { channel, topology: Topology::new(&broker.namespace).unwrap() };
        // A replica's consumer comes after its binding to the exchange.
        eventually("both replicas consume", async || {
            let asked = connection.create_channel().await.unwrap();
            let passive = QueueDeclareOptions { passive: true, ..Default::default() };
            let queue = asked.queue_declare(store.topology.store_events().into(), passive, FieldTable::default()).await;
            queue.map_or(0, |queue| queue.consumer_count()) == 2
        })
        .await;
        store
    }

    async fn publish(&self, body: &[u8]) {
        let exchange = self.topology.store_events().into();
        let properties = BasicProperties::default().with_delivery_mode(2);
        let published =
            self.channel.basic_publish(exchange, "".into(), BasicPublishOptions::default(), body, properties).await;
        published.unwrap().await.unwrap();
    }

    async fn waiting(&self, queue: String) -> u32 {
        let passive = QueueDeclareOptions { passive: true, ..Default::default() };
        self.channel.queue_declare(queue.into(), passive, FieldTable::default()).await.unwrap().message_count()
    }

    async fn dead_letter(&self) -> Vec<u8> {
        let queue = self.topology.store_events_dead_letter();
        self.channel.basic_get(queue.into(), BasicGetOptions { no_ack: true }).await.unwrap().unwrap().data.clone()
    }
}

fn event(name: &str, key: &str, etag: &str, sequencer: u64) -> Value {
    json!({"Records": [{
        "eventVersion": "2.1", "eventSource": "aws:s3", "eventTime": "2026-03-01T07:00:00.000Z", "eventName": name,
        "s3": {"bucket": {"name": "claims"},
               "object": {"key": key, "size": 7, "eTag": etag, "sequencer": format!("{sequencer:018X}")}},
    }]})
}

async fn watching() -> (Coordinator, Queues, Store) {
    let (coordinator, broker) = (Coordinator::start().await, Queues::new());
    let intake = IntakeArgs { s3_events: vec!["claims/in/".parse().unwrap()], ..IntakeArgs::default() };
    coordinator.start_loops_with(&broker.0, quick(), intake.clone());
    coordinator.start_loops_with(&broker.0, quick(), intake);
    let store = Store::connect(&broker.0).await;
    (coordinator, broker, store)
}

#[tokio::test]
async fn events_are_done_once_and_garbage_is_kept_apart() {
    let (coordinator, _broker, store) = watching().await;
    for number in 0..300 {
        let body = event("ObjectCreated:Put", &format!("in/c+{}/{number}.jpg", number % 7), "v1", 1).to_string();
        store.publish(body.as_bytes()).await;
        if number % 3 == 0 {
            store.publish(body.as_bytes()).await;
        }
    }
    let unknown = event("ObjectCreated:Put", "in/1.jpg", "v1", 1).to_string().replace("claims", "elsewhere");
    for garbage in [unknown.as_bytes(), b"\xff\x00 no JSON", b"{\"Records\": [7]}"] {
        store.publish(garbage).await;
    }
    store.publish(event("ObjectCreated:Put", "models/1.jpg", "v1", 1).to_string().as_bytes()).await;
    let present = "select count(*) from images where superseded_at is null";
    eventually("all are registered", async || number(&coordinator, present).await == 300).await;
    let dead = || store.waiting(store.topology.store_events_dead_letter());
    eventually("garbage is in the dead-letter queue", async || dead().await == 3).await;
    let first = store.dead_letter().await;
    assert!([unknown.as_bytes(), b"\xff\x00 no JSON", b"{\"Records\": [7]}"].contains(&first.as_slice()), "as it was");
    assert_eq!(
        number(&coordinator, "select count(distinct claim_id) from images where claim_id ~ '^c [0-6]$'").await,
        7
    );
    assert_eq!(number(&coordinator, "select count(*) from images").await, 300, "nothing else, and nothing twice");
    eventually("the queue is empty", async || store.waiting(store.topology.store_events()).await == 0).await;
}

#[tokio::test]
async fn a_new_version_supersedes_and_a_removal_too() {
    let (coordinator, _broker, store) = watching().await;
    for (name, etag, sequencer) in [
        ("s3:ObjectCreated:Put", "v2", 2),
        ("s3:ObjectCreated:Put", "v1", 1),
        ("s3:ObjectCreated:CompleteMultipartUpload", "v3", 3),
    ] {
        store.publish(event(name, "in/c/1.jpg", etag, sequencer).to_string().as_bytes()).await;
    }
    let present = "select count(*) from images where superseded_at is null and etag = 'v3'";
    eventually("the last version is present", async || number(&coordinator, present).await == 1).await;
    assert_eq!(number(&coordinator, "select count(*) from images where superseded_at is null").await, 1);
    store.publish(event("s3:ObjectRemoved:Delete", "in/c/1.jpg", "", 4).to_string().as_bytes()).await;
    eventually("it is gone", async || number(&coordinator, present).await == 0).await;
}

#[tokio::test]
async fn events_wait_while_the_database_cannot_take_them() {
    let (coordinator, _broker, store) = watching().await;
    let mut lock = coordinator.test.pool().begin().await.unwrap();
    sqlx::query("lock table images in access exclusive mode").execute(&mut *lock).await.unwrap();
    store.publish(event("ObjectCreated:Put", "in/c/1.jpg", "v1", 1).to_string().as_bytes()).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    coordinator.shutdown.begin();
    let ended = tokio::time::timeout(Duration::from_secs(5), async {
        lock.rollback().await.unwrap();
        coordinator.shutdown.finished().await;
    });
    ended.await.unwrap();
    // Committed and acknowledged, or neither: a message that was given back registers it later.
    eventually("the event is registered or waits", async || {
        let waiting = store.waiting(store.topology.store_events()).await;
        i64::from(waiting) + number(&coordinator, "select count(*) from images").await >= 1
    })
    .await;
}
