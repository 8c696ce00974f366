//! Every connection over TLS: Postgres, RabbitMQ, the object store and the API, with a certificate authority of the test's own; and each
//! refused where another one vouches for it.
#![allow(clippy::unwrap_used)]

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use perito_database::{Database, DatabaseOptions, testing::Service};
use perito_domain::access::Role;
use perito_tests::{
    Process, manual,
    system::free_address,
    tls::{Authority, terminate},
};
use tokio::process::Command;

/// A private Postgres and RabbitMQ with certificates, gone with this value.
struct Servers {
    base: u16,
}

impl Servers {
    fn stack(command: &str, base: u16, tls: Option<&Path>) -> std::process::Output {
        let mut stack = std::process::Command::new(manual::root().join("deploy/local/stack"));
        for (variable, _) in std::env::vars().filter(|(variable, _)| variable.starts_with("PERITO_")) {
            stack.env_remove(variable);
        }
        stack.arg(command).env("PERITO_STACK", "tls").env("PERITO_PORT_BASE", base.to_string());
        // Ours stands behind a proxy.
        stack.env("PERITO_S3_ENDPOINT", "none").envs(tls.map(|folder| ("PERITO_TLS_FOLDER", folder)));
        stack.output().unwrap()
    }

    fn start(tls: &Path) -> Self {
        let taken = |port: u16| std::net::TcpListener::bind(("127.0.0.1", port)).is_err();
        let base = (20_000..28_000).step_by(20).rev().find(|base| !(0..7).any(|n| taken(base + n))).unwrap();
        // What a killed test left.
        Self::stack("wipe", base, None);
        let servers = Self { base };
        let up = Self::stack("up", base, Some(tls));
        assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
        servers
    }

    fn database(&self) -> String {
        format!("postgres://perito:perito@127.0.0.1:{}/perito", self.base)
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        Self::stack("wipe", self.base, None);
    }
}

struct Installation {
    variables: Vec<(String, String)>,
}

impl Installation {
    fn set(&mut self, name: &str, value: impl Into<String>) {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.into()));
    }

    fn with(&self, changes: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut changed = Self { variables: self.variables.clone() };
        for (name, value) in changes {
            changed.set(name, *value);
        }
        changed.variables
    }

    /// `perito`, and whether it went well, with everything that it wrote.
    async fn perito(&self, changes: &[(&str, &str)], arguments: &[&str]) -> (bool, String) {
        let mut command = Command::new(perito_tests::process::binary("perito"));
        for (variable, _) in std::env::vars().filter(|(variable, _)| variable.starts_with("PERITO_")) {
            command.env_remove(variable);
        }
        let run = command.args(arguments).envs(self.with(changes)).kill_on_drop(true).output();
        let output = tokio::time::timeout(Duration::from_secs(90), run).await.unwrap().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }
}

fn files(folder: &Path, name: &str) -> PathBuf {
    let files = folder.join(name);
    std::fs::create_dir(&files).unwrap();
    Authority::new(name).write(&files);
    files
}

#[tokio::test]
async fn everything_speaks_tls_and_trusts_only_whom_it_is_told_to() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = tempfile::tempdir().unwrap();
    let (ours, strangers) = (files(folder.path(), "ours"), files(folder.path(), "strangers"));
    let path = |folder: &Path, name: &str| folder.join(name).to_str().unwrap().to_owned();
    let strangers = path(&strangers, "ca.pem");

    let servers = Servers::start(&ours);
    let plain = std::env::var("PERITO_S3_ENDPOINT").unwrap();
    let config = perito_runtime::tls::server_config(&ours.join("cert.pem"), &ours.join("key.pem")).unwrap();
    let store = terminate(config, plain.trim_start_matches("http://").trim_end_matches('/').to_owned()).await;
    let listen = free_address();
    let mut installation = Installation { variables: Vec::new() };
    let bucket = format!("tls-{}", uuid::Uuid::new_v4().simple());
    for (name, value) in [
        ("PERITO_CA_FILE", path(&ours, "ca.pem")),
        ("PERITO_TLS_CERT", path(&ours, "cert.pem")),
        ("PERITO_TLS_KEY", path(&ours, "key.pem")),
        ("PERITO_DATABASE_URL", servers.database()),
        ("PERITO_AMQP_URL", format!("amqps://guest:guest@127.0.0.1:{}/%2f", servers.base + 6)),
        ("PERITO_S3_ENDPOINT", format!("https://{store}")),
        ("PERITO_S3_BUCKET", bucket),
        ("PERITO_LISTEN", listen.clone()),
        ("PERITO_API_URL", format!("https://{listen}")),
        ("PERITO_DEVICE", "cpu".to_owned()),
    ] {
        installation.set(name, value);
    }
    for name in ["PERITO_S3_REGION", "PERITO_S3_ACCESS_KEY_ID", "PERITO_S3_SECRET_ACCESS_KEY"] {
        installation.set(name, std::env::var(name).unwrap());
    }

    // Postgres: verified because PERITO_CA_FILE is given, refused where another authority is.
    let refused = installation.perito(&[("PERITO_CA_FILE", &strangers)], &["migrate"]).await;
    assert!(
        !refused.0 && refused.1.contains("connect to Postgres") && refused.1.contains("PERITO_CA_FILE"),
        "{}",
        refused.1
    );
    let (done, text) = installation.perito(&[], &["migrate"]).await;
    assert!(done, "{text}");
    let (done, token) = installation.perito(&[], &["token", "create", "ana", "--role", "admin", "--direct"]).await;
    assert!(done, "{token}");
    installation.set("PERITO_TOKEN", token.trim());
    let url = format!("{}?sslmode=verify-full&sslrootcert={}", servers.database(), path(&ours, "ca.pem"));
    let options = DatabaseOptions { url, control_connections: 2, bulk_connections: 1 };
    let database = Database::connect(&options).await.unwrap();
    for service in [Service::Coordinator, Service::Worker] {
        service.ensure_login(&database).await;
    }
    assert!(database.create_token(&"unused".parse().unwrap(), Role::Viewer, None, None).await.is_ok());

    // RabbitMQ: a coordinator that could never reach it does not start.
    let in_the_clear = format!("{}?sslmode=disable", servers.database());
    let wrong = installation.with(&[("PERITO_CA_FILE", &strangers), ("PERITO_DATABASE_URL", &in_the_clear)]);
    let mut coordinator = Process::start("perito-coordinator", &[], &wrong, folder.path().join("refused.log"));
    assert!(!coordinator.wait(Duration::from_secs(30)).await.success());
    let log = coordinator.log();
    assert!(log.contains("RabbitMQ at 127.0.0.1") && log.contains("PERITO_CA_FILE"), "{log}");

    let start = |name: &str, arguments: &[&str]| {
        Process::start(name, arguments, &installation.variables, folder.path().join(format!("{name}.log")))
    };
    let coordinator = start("perito-coordinator", &[]);
    let worker = start("perito-worker", &["--name", "w", "--compute-threads", "1", "--decode-threads", "1"]);
    let started = Instant::now();
    while !installation.perito(&[], &["worker", "list"]).await.1.contains(" w ") {
        assert!(started.elapsed() < Duration::from_secs(60), "{}\n{}", coordinator.log(), worker.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    // The API and the object store, with whom we do not trust.
    let (done, text) = installation.perito(&[("PERITO_CA_FILE", &strangers)], &["job", "list"]).await;
    assert!(!done && text.contains("reach the API") && text.contains("PERITO_CA_FILE"), "{text}");
    let photographs = folder.path().join("photographs");
    let photographs = photographs.to_str().unwrap();
    let draw = ["dataset", "synthesize", photographs, "--training", "12", "--validation", "6", "--backlog-claims", "1"];
    let (done, text) = installation.perito(&[], &draw).await;
    assert!(done, "{text}");
    let upload = ["dataset", "upload", "small", photographs];
    let (done, text) = installation.perito(&[("PERITO_CA_FILE", &strangers)], &upload).await;
    assert!(!done && text.contains(&store) | text.contains("bucket") && text.contains("PERITO_CA_FILE"), "{text}");

    // And all of it together: photographs to the store, a job by the broker, epochs and a model to Postgres and the store.
    let (done, text) = installation.perito(&[], &upload).await;
    assert!(done, "{text}");
    let train = [
        "train",
        "--model",
        "m",
        "--dataset",
        "small",
        "--arch",
        "cnn4",
        "--image-size",
        "32",
        "--epochs",
        "1",
        "--watch",
    ];
    let (done, text) = installation.perito(&[], &train).await;
    assert!(done, "{text}\n{}", worker.log());
    let over_tls: bool = sqlx::query_scalar("select ssl from pg_stat_ssl where pid = pg_backend_pid()")
        .fetch_one(perito_database::testing::pool(&database))
        .await
        .unwrap();
    assert!(over_tls);

    // A file that is none, and half a pair.
    let (done, text) = installation.perito(&[("PERITO_CA_FILE", "/nowhere.pem")], &["job", "list"]).await;
    assert!(!done && text.contains("/nowhere.pem") && text.contains("PERITO_CA_FILE"), "{text}");
    let key = path(&ours, "key.pem");
    let (done, text) = installation.perito(&[("PERITO_CA_FILE", &key)], &["job", "list"]).await;
    assert!(!done && text.contains("certificate"), "{text}");
}
