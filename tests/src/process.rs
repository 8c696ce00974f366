//! One binary that runs, with its log.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use perito_database::testing::Service;

/// A running binary. It is killed when this is dropped.
pub struct Process {
    child: Child,
    log: PathBuf,
}

/// The path of one of the workspace's binaries.
///
/// # Panics
/// When it has not been built.
pub fn binary(name: &str) -> PathBuf {
    // Tests are in target/PROFILE/deps, binaries one folder up.
    let tests = std::env::current_exe().unwrap();
    let path = tests.parent().and_then(Path::parent).unwrap().join(name);
    assert!(path.exists(), "{} is not built: run `make test`, or `cargo build --workspace --bins`", path.display());
    path
}

/// Each service has a login of its own in Postgres, as in production, so that every test shows that its role's grants suffice.
fn own_login(binary: &str, variable: &str, value: &str) -> String {
    match (variable, binary) {
        ("PERITO_DATABASE_URL", "perito-coordinator") => Service::Coordinator.url(value),
        ("PERITO_DATABASE_URL", "perito-worker") => Service::Worker.url(value),
        _ => value.to_owned(),
    }
}

impl Process {
    /// Starts a binary with exactly these Perito variables, but with its own login in Postgres.
    pub fn start(name: &str, arguments: &[&str], variables: &[(String, String)], log: PathBuf) -> Self {
        let output = File::create(&log).unwrap();
        let mut command = Command::new(binary(name));
        for (variable, _) in std::env::vars().filter(|(variable, _)| variable.starts_with("PERITO_")) {
            command.env_remove(variable);
        }
        let child = command
            .args(arguments)
            .envs(variables.iter().map(|(variable, value)| (variable, own_login(name, variable, value))))
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        Self { child, log }
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Another signal, by name.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success(), "kill -s {name}");
    }

    /// Waits for the end.
    ///
    /// # Panics
    /// When it does not come in time.
    pub async fn wait(&mut self, limit: Duration) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(started.elapsed() < limit, "still running after {limit:?}:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its arguments, as everybody on the machine can read them.
    pub fn arguments(&self) -> String {
        let line = std::fs::read(format!("/proc/{}/cmdline", self.child.id())).unwrap();
        String::from_utf8_lossy(&line).replace('\0', " ")
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            eprintln!("--- {} ---", self.log.display());
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}
