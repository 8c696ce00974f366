//! A whole Perito: a database, a bucket and a namespace of its own, a coordinator and workers.

use std::time::{Duration, Instant};

use perito_broker::{BrokerOptions, Topology};
use perito_database::testing::TestDatabase;
use perito_domain::{access::Role, message::TaskMessage};
use perito_objects::{ObjectStore, ObjectStoreOptions};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool, Row};
use tempfile::TempDir;
use uuid::Uuid;

use crate::{faults::StoreFaults, process::Process};

/// How long anything may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// Short, so that tests of dead workers are.
const LEASE: &str = "2s";

/// A running system.
pub struct System {
    /// Postgres.
    pub database: TestDatabase,
    /// S3.
    pub objects: ObjectStore,
    /// The system's bucket.
    pub bucket: String,
    /// The system's namespace in the broker.
    pub namespace: String,
    /// Variables for every binary.
    pub variables: Vec<(String, String)>,
    /// The coordinator's URL.
    pub api: String,
    /// The coordinator.
    pub coordinator: Process,
    addresses: Addresses,
    http: reqwest::Client,
    folder: TempDir,
    started: usize,
}

/// Where the servers are.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// `postgres://USER:PASSWORD@HOST:PORT/DATABASE`
    pub postgres: String,
    /// `amqp://USER:PASSWORD@HOST:PORT/VHOST`
    pub rabbitmq: String,
    /// `http://HOST:PORT`
    pub store: String,
}

impl Addresses {
    /// Of the servers that all tests share.
    pub fn shared() -> Self {
        Self {
            postgres: perito_database::testing::server_url(),
            rabbitmq: variable("PERITO_AMQP_URL"),
            store: variable("PERITO_S3_ENDPOINT"),
        }
    }
}

/// A variable that the stack's `env` sets.
pub fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run `make test`, or `eval \"$(deploy/local/stack env)\"` with a stack up")
    })
}

impl System {
    /// Starts a coordinator on a fresh database.
    pub async fn start() -> Self {
        Self::start_on(Addresses::shared()).await
    }

    /// The same on other servers.
    pub async fn start_on(addresses: Addresses) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let database = TestDatabase::migrated_on(&addresses.postgres).await;
        let token = database.token("test", Role::Admin).await;
        let name = format!("test-{}", Uuid::new_v4().simple());
        let mut options = ObjectStoreOptions::new(Some(addresses.store.parse().unwrap()), variable("PERITO_S3_REGION"));
        options.access_key_id = Some(variable("PERITO_S3_ACCESS_KEY_ID"));
        options.secret_access_key = Some(variable("PERITO_S3_SECRET_ACCESS_KEY"));
        let objects = ObjectStore::new(options).unwrap();
        objects.ensure_bucket(&name).await.unwrap();

        let listen = free_address();
        let api = format!("http://{listen}");
        let set = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut variables = vec![
            set("PERITO_DATABASE_URL", &database.url),
            set("PERITO_BROKER_NAMESPACE", &name),
            set("PERITO_S3_BUCKET", &name),
            set("PERITO_API_URL", &api),
            set("PERITO_TOKEN", &token),
            set("PERITO_LISTEN", &listen),
            set("PERITO_LEASE", LEASE),
            set("PERITO_LOST_AFTER", "1s"),
            set("PERITO_POLL_INTERVAL", "100ms"),
            set("PERITO_DEVICE", "cpu"),
            set("PERITO_AMQP_URL", &addresses.rabbitmq),
            set("PERITO_S3_ENDPOINT", &addresses.store),
        ];
        for name in ["PERITO_S3_REGION", "PERITO_S3_ACCESS_KEY_ID", "PERITO_S3_SECRET_ACCESS_KEY"] {
            variables.push((name.to_owned(), variable(name)));
        }
        let folder = TempDir::new().unwrap();
        let coordinator = Process::start("perito-coordinator", &[], &variables, folder.path().join("coordinator.log"));
        let mut system = Self {
            database,
            objects,
            bucket: name.clone(),
            namespace: name,
            variables,
            api,
            coordinator,
            addresses,
            http: client(&token),
            folder,
            started: 0,
        };
        system.wait_until_ready().await;
        system
    }

    /// Waits until the coordinator says that it can do its work.
    pub async fn wait_until_ready(&mut self) {
        let url = format!("{}/readyz", self.api);
        let started = Instant::now();
        while !self.http.get(&url).send().await.is_ok_and(|response| response.status().is_success()) {
            assert!(self.coordinator.is_running(), "the coordinator ended:\n{}", self.coordinator.log());
            assert!(started.elapsed() < PATIENCE, "the coordinator is not ready:\n{}", self.coordinator.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The object store, for what is started from now on, at a pace that the test sets: see [`StoreFaults::pace`].
    pub async fn paced_store(&mut self, each: Duration) -> StoreFaults {
        let store = StoreFaults::before(&self.addresses.store, 0).await;
        store.pace(each);
        self.variables.push(("PERITO_S3_ENDPOINT".to_owned(), format!("http://{}", store.address())));
        store
    }

    /// Starts a worker. Small threads, as tests run side by side.
    pub fn worker(&mut self, name: &str) -> Process {
        self.run("perito-worker", &["--name", name, "--compute-threads", "1", "--decode-threads", "1"])
    }

    /// Starts any binary with this system's variables.
    pub fn run(&mut self, binary: &str, arguments: &[&str]) -> Process {
        self.run_with(binary, arguments, &[])
    }

    /// The same with variables that take the place of the system's.
    pub fn run_with(&mut self, binary: &str, arguments: &[&str], others: &[(String, String)]) -> Process {
        self.started += 1;
        let log = self.folder.path().join(format!("{binary}-{}.log", self.started));
        let variables: Vec<_> = self.variables.iter().chain(others).cloned().collect();
        Process::start(binary, arguments, &variables, log)
    }

    /// Runs `perito` to its end. Its exit code, what it wrote to standard output, and to standard error.
    pub async fn perito(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = tokio::process::Command::new(crate::process::binary("perito"))
            .args(arguments)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .output()
            .await
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
    }

    /// An admin's token.
    pub fn token(&self) -> &str {
        let token = self.variables.iter().find(|(name, _)| name == "PERITO_TOKEN");
        &token.unwrap().1
    }

    /// Sends a request; the status and the JSON that came back.
    pub async fn request(&self, method: reqwest::Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let mut request = self.http.request(method, format!("{}{path}", self.api));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        (status, response.json().await.unwrap_or(Value::Null))
    }

    /// GET that has to succeed.
    pub async fn get(&self, path: &str) -> Value {
        let (status, body) = self.request(reqwest::Method::GET, path, None).await;
        assert_eq!(status, 200, "GET {path}: {body}");
        body
    }

    /// POST that has to succeed.
    pub async fn post(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.request(reqwest::Method::POST, path, Some(body)).await;
        assert!((200..300).contains(&status), "POST {path}: {status} {answer}");
        answer
    }

    /// Submits a job; its id.
    pub async fn submit(&self, spec: Value) -> String {
        self.post("/v1/jobs", json!({ "spec": spec })).await["id"].as_str().unwrap().to_owned()
    }

    /// Waits until a job is as `done` wants it.
    pub async fn wait_for(&self, job: &str, what: &str, done: impl Fn(&Value) -> bool) -> Value {
        let started = Instant::now();
        loop {
            let state = self.get(&format!("/v1/jobs/{job}")).await;
            if done(&state) {
                return state;
            }
            assert!(started.elapsed() < PATIENCE, "waited for {what}: {state:#}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until a job has ended, in whatever way.
    pub async fn end_of(&self, job: &str) -> Value {
        self.wait_for(job, "its end", |job| job["finished_at"].is_string()).await
    }

    /// Waits until a job has succeeded.
    pub async fn success_of(&self, job: &str) -> Value {
        let job = self.end_of(job).await;
        assert_eq!(job["state"], "succeeded", "{job:#}");
        job
    }

    /// Puts objects into the bucket and registers them without labels; their ids, in ascending order.
    pub async fn register(&self, objects: &[(String, Vec<u8>)]) -> Vec<i64> {
        let mut images = Vec::with_capacity(objects.len());
        for (key, bytes) in objects {
            let put = self.objects.put(&self.bucket, key, bytes.clone(), "image/jpeg").await.unwrap();
            let claim = key.rsplit('/').nth(1).unwrap_or("claim");
            images.push(json!({"bucket": self.bucket, "key": key, "etag": put.etag, "size_bytes": bytes.len(), "claim_id": claim}));
        }
        let answer = self.post("/v1/images", json!({ "images": images })).await;
        let mut ids: Vec<i64> = answer["ids"].as_array().unwrap().iter().map(|id| id.as_i64().unwrap()).collect();
        ids.sort_unstable();
        ids
    }

    /// The connections to the system's database, for what a test looks at.
    pub fn pool(&self) -> &PgPool {
        self.database.pool()
    }

    /// One number by SQL.
    pub async fn count(&self, sql: &str) -> i64 {
        let row = sqlx::query(AssertSqlSafe(sql)).fetch_one(self.pool()).await.unwrap();
        row.get(0)
    }

    /// The scores of a job, in order of images.
    pub async fn scores(&self, job: &str) -> Vec<(i64, String, [f32; 3])> {
        let sql = format!(
            "select image_id, severity::text, p_minor, p_moderate, p_severe from predictions where job_id = '{job}' order by image_id"
        );
        let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(self.pool()).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1), [row.get(2), row.get(3), row.get(4)])).collect()
    }

    /// The messages that the tasks of a job would have.
    pub async fn messages(&self, job: &str) -> Vec<TaskMessage> {
        self.try_messages(job).await.unwrap()
    }

    /// The same, where Postgres may be away.
    ///
    /// # Errors
    /// It is.
    pub async fn try_messages(&self, job: &str) -> sqlx::Result<Vec<TaskMessage>> {
        let sql = format!("select id, job_id, kind, attempt from tasks where job_id = '{job}' order by ordinal");
        let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(self.pool()).await?;
        Ok(rows
            .iter()
            .map(|row| TaskMessage {
                task_id: row.get(0),
                job_id: row.get(1),
                kind: row.get::<String, _>(2).parse().unwrap(),
                attempt_hint: row.get::<i32, _>(3).unsigned_abs() + 1,
                traceparent: String::new(),
            })
            .collect())
    }

    /// How to reach the broker.
    pub fn broker(&self) -> BrokerOptions {
        BrokerOptions::new(&self.addresses.rabbitmq, &self.namespace)
    }

    /// Where the servers are.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// The names of the system's queues.
    pub fn topology(&self) -> Topology {
        Topology::new(&self.namespace).unwrap()
    }
}

/// A client that carries a token.
pub fn client(token: &str) -> reqwest::Client {
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, HeaderValue::try_from(format!("Bearer {token}")).unwrap());
    reqwest::Client::builder().default_headers(headers).build().unwrap()
}

/// An address on loopback that nothing listens on just now.
pub fn free_address() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}
