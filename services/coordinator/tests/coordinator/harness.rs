//! A coordinator in this process, on a database and queues of its own.

use std::time::Duration;

use lapin::{
    Connection, ConnectionProperties,
    options::{ExchangeDeleteOptions, QueueDeleteOptions},
};
use perito_broker::{BrokerOptions, Consumer, DeadLetters, Delivery, Publisher, Topology};
use perito_coordinator::{
    api::{self, Access, App, Limits},
    config::{IntakeArgs, LoopArgs},
    loops::{self, Loops, Queues as Seen, Wake},
};
use perito_database::{
    Claim, ClaimedTask, Database, DatabaseOptions, ImageObject, Prediction, ScoreResult,
    testing::{Service, TestDatabase},
};
use perito_domain::{access::Role, lifecycle::JobKind};
use perito_runtime::lifecycle::Shutdown;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use uuid::Uuid;

/// The API on a loopback port, without any loops until [`Coordinator::start_loops`].
pub(crate) struct Coordinator {
    pub(crate) test: TestDatabase,
    /// The coordinator's own connections.
    pub(crate) database: Database,
    pub(crate) shutdown: Shutdown,
    /// What the loops saw of the broker.
    pub(crate) seen: Seen,
    base: String,
    /// An admin's.
    token: String,
    client: reqwest::Client,
}

impl Coordinator {
    pub(crate) async fn start() -> Self {
        Self::with_limits(Limits::new(64, Duration::from_secs(30))).await
    }

    pub(crate) async fn with_limits(limits: Limits) -> Self {
        perito_runtime::install_crypto_provider();
        let test = TestDatabase::migrated().await;
        let seen = Seen::default();
        // As in production: a login that may do what the coordinator's role may. Tests look at the database as its owner.
        let options =
            DatabaseOptions { url: Service::Coordinator.url(&test.url), control_connections: 6, bulk_connections: 3 };
        let database = Database::connect(&options).await.unwrap();
        let app = App {
            database: database.clone(),
            wake: Wake::default(),
            queues: seen.clone(),
            dead_letters: DeadLetters::new(own_queues()),
        };
        let router = api::router(app, Access::Tokens, limits, axum::Router::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let token = test.token("test", Role::Admin).await;
        Self { test, database, shutdown: Shutdown::new(), seen, base, token, client: reqwest::Client::new() }
    }

    /// With a model and this many images.
    pub(crate) async fn prepared(images: usize) -> Self {
        let coordinator = Self::start().await;
        coordinator.import_model("severity").await;
        coordinator.register_images(images).await;
        coordinator
    }

    /// A job as the API shows it.
    pub(crate) async fn job(&self, id: &str) -> Value {
        self.get(&format!("/v1/jobs/{id}")).await.expect(StatusCode::OK)
    }

    /// Claims the task of a message, as a worker does.
    pub(crate) async fn claim(&self, delivery: &Delivery) -> Claim {
        let message = &delivery.message;
        self.test.database.claim(message.task_id, message.attempt_hint, "test", Duration::from_secs(30)).await.unwrap()
    }

    /// Commits a score for each image of a task.
    pub(crate) async fn score(&self, task: &ClaimedTask) {
        let predict = |image: &ImageObject| Prediction { image_id: image.id, probabilities: [0.2, 0.3, 0.5] };
        let result = ScoreResult { predictions: task.images.iter().map(predict).collect(), ..ScoreResult::default() };
        self.test.database.commit_score(task, &result).await.unwrap();
    }

    /// One replica's loops. Each replica has bells of its own, as in a process of its own.
    pub(crate) fn start_loops(&self, broker: &BrokerOptions, pace: LoopArgs) {
        self.start_loops_with(broker, pace, IntakeArgs::default());
    }

    /// Likewise, with photographs from wherever `intake` says.
    pub(crate) fn start_loops_with(&self, broker: &BrokerOptions, pace: LoopArgs, intake: IntakeArgs) {
        let loops = Loops {
            database: self.database.clone(),
            publisher: Publisher::new(broker.clone()),
            consumer: Consumer::new(broker.clone()),
            wake: Wake::default(),
            queues: self.seen.clone(),
            pace,
            intake,
        };
        loops::start(&loops, &self.shutdown);
    }

    pub(crate) async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        Answer::read(request.send().await.unwrap()).await
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.stranger(method, path).bearer_auth(&self.token)
    }

    /// A request without a token.
    pub(crate) fn stranger(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    pub(crate) async fn patch(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::PATCH, path).json(body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::PUT, path).json(body)).await
    }

    /// Registers this many images of one claim; their ids.
    pub(crate) async fn register_images(&self, count: usize) -> Vec<i64> {
        let images: Vec<_> = (0..count)
            .map(|n| json!({"bucket": "photos", "key": format!("claim/{n}.jpg"), "etag": "e1", "size_bytes": 100}))
            .collect();
        let registered = self.post("/v1/images", &json!({"images": images})).await.expect(StatusCode::OK);
        serde_json::from_value(registered["ids"].clone()).unwrap()
    }

    /// Registers a model that can score.
    pub(crate) async fn import_model(&self, name: &str) -> Value {
        self.post("/v1/models", &model(name)).await.expect(StatusCode::CREATED)
    }

    /// Submits a job that scores all registered images; its id.
    pub(crate) async fn submit_scoring(&self, shard_size: u32) -> String {
        let job = self.post("/v1/jobs", &scoring(shard_size)).await.expect(StatusCode::CREATED);
        job["id"].as_str().unwrap().to_owned()
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        self.shutdown.now();
    }
}

/// Queues of one test's own, removed at its end.
pub(crate) struct Queues(pub(crate) BrokerOptions);

impl Queues {
    pub(crate) fn new() -> Self {
        Self(own_queues())
    }
}

/// A namespace that nobody else uses.
fn own_queues() -> BrokerOptions {
    let url = std::env::var("PERITO_AMQP_URL")
        .expect("PERITO_AMQP_URL is not set: run `make test`, or `eval \"$(deploy/local/stack env)\"` with a stack up");
    BrokerOptions::new(url, format!("test-{}", Uuid::now_v7().simple()))
}

impl Drop for Queues {
    fn drop(&mut self) {
        let options = self.0.clone();
        // A runtime of its own, for the test's may be unwinding. What stays behind does no harm to other tests.
        let removing = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(remove(&options)).unwrap();
        });
        let _ = removing.join();
    }
}

async fn remove(options: &BrokerOptions) -> lapin::Result<()> {
    let topology = Topology::new(&options.namespace).unwrap();
    let connection = Connection::connect(&options.url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let others = [topology.dead_letter(), topology.store_events(), topology.store_events_dead_letter()];
    for queue in JobKind::ALL.iter().map(|kind| topology.queue(*kind)).chain(others.clone()) {
        channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await?;
    }
    for exchange in others.into_iter().chain([topology.exchange()]) {
        channel.exchange_delete(exchange.into(), ExchangeDeleteOptions::default()).await?;
    }
    Ok(())
}

/// A job that scores whatever is in the bucket.
pub(crate) fn scoring(shard_size: u32) -> Value {
    let selection = json!({"by": "prefix", "bucket": "photos"});
    json!({"spec": {"kind": "score", "model": "severity", "selection": selection, "shard_size": shard_size}})
}

/// A model to import.
pub(crate) fn model(name: &str) -> Value {
    json!({
        "name": name, "architecture": "cnn4", "class_names": ["minor", "moderate", "severe"],
        "artifact": {"bucket": "perito", "key": "m.safetensors", "sha256": "0".repeat(64), "bytes": 10},
        "source": "a test",
    })
}

/// Loops that look often, so that tests are quick.
pub(crate) fn quick() -> LoopArgs {
    LoopArgs { window: 64, poll_interval: Duration::from_millis(25), lost_after: Duration::from_millis(200) }
}

/// A response, read.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    async fn read(response: Response) -> Self {
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Self { status, headers, body }
    }

    /// The body of a response that has to have this status.
    pub(crate) fn expect(self, status: StatusCode) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.body
    }

    /// The problem of a refusal that has to have this status.
    pub(crate) fn refused(self, status: StatusCode) -> Problem {
        assert_eq!(self.headers["content-type"], "application/problem+json", "{}", self.body);
        assert_eq!(self.body["status"], status.as_u16());
        for member in ["type", "title", "detail"] {
            assert!(self.body[member].is_string(), "{member} of {}", self.body);
        }
        Problem(self.expect(status))
    }
}

/// What was refused and why.
pub(crate) struct Problem(pub(crate) Value);

impl Problem {
    pub(crate) fn detail(&self) -> &str {
        self.0["detail"].as_str().unwrap()
    }

    pub(crate) fn field(&self) -> &str {
        self.0["errors"][0]["field"].as_str().unwrap_or_else(|| panic!("no field in {}", self.0))
    }
}

/// Waits until it holds, a few seconds at most.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    for _ in 0..200 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("never: {what}");
}

/// Turns traces on, which is a matter of the whole process.
pub(crate) fn log() {
    let args =
        perito_runtime::TelemetryArgs { log_format: perito_runtime::args::LogFormat::Text, log: "warn".to_owned() };
    // A second test in this process finds it turned on.
    let _ = perito_runtime::telemetry::init("test", &args);
}
