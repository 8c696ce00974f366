//! Postgres and RabbitMQ of its own for a test that restarts them, by the project's own script. The object store is everybody's.

use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::system::{Addresses, variable};

/// Ports that one stack wants, and where they are looked for: below those that the system gives to outgoing connections.
const PORTS: u16 = 10;
const FIRST_PORT: u16 = 24_000;
const LAST_PORT: u16 = 28_000;

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// Postgres.
    Postgres,
    /// RabbitMQ.
    RabbitMq,
}

impl Server {
    fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::RabbitMq => "rabbitmq",
        }
    }
}

/// A private instance of both. They are stopped, and their data removed, when this is dropped.
#[derive(Debug)]
pub struct Servers {
    stack: String,
    base: u16,
}

impl Servers {
    /// Starts them, under a name that no other test uses. What a killed run of the same test left is removed first.
    pub async fn start(stack: &str) -> Self {
        let servers = Self { stack: stack.to_owned(), base: free_ports() };
        servers.run(&["wipe"]).await;
        servers.run(&["up"]).await;
        servers
    }

    /// Where they are.
    pub fn addresses(&self) -> Addresses {
        Addresses {
            postgres: format!("postgres://perito:perito@127.0.0.1:{}/perito", self.base),
            rabbitmq: format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.base + 1),
            store: variable("PERITO_S3_ENDPOINT"),
        }
    }

    /// Stops one: Postgres at once, ending its sessions; RabbitMQ in good order.
    pub async fn stop(&self, server: Server) {
        self.run(&["stop", server.name()]).await;
    }

    /// Kills one, with everything that it was doing.
    pub async fn kill(&self, server: Server) {
        self.run(&["stop", server.name(), "KILL"]).await;
    }

    /// Starts what is not running.
    pub async fn up(&self) {
        self.run(&["up"]).await;
    }

    async fn run(&self, arguments: &[&str]) {
        let mut command = self.command(arguments);
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        assert!(output.status.success(), "stack {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy/local/stack");
        let mut command = Command::new(script);
        command
            .args(arguments)
            .env("PERITO_STACK", &self.stack)
            .env("PERITO_PORT_BASE", self.base.to_string())
            .env("PERITO_S3_ENDPOINT", variable("PERITO_S3_ENDPOINT"))
            .env_remove("PERITO_STACK_URLS")
            .env_remove("PERITO_DATABASE_URL")
            .env_remove("PERITO_AMQP_URL")
            .stdin(Stdio::null());
        command
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        match self.command(&["wipe"]).output() {
            Ok(output) if output.status.success() => {}
            outcome => eprintln!("the stack '{}' could not be removed: {outcome:?}", self.stack),
        }
    }
}

/// The first of some ports in a row that nothing listens on.
fn free_ports() -> u16 {
    let start = FIRST_PORT + u16::try_from(std::process::id() % 300).unwrap() * PORTS;
    let free = |base: &u16| (*base..base + PORTS).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok());
    (start..LAST_PORT).step_by(PORTS.into()).find(free).expect("ten free ports in a row")
}
