//! A Python process that does the same work, to be compared with in the same run.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

/// A running `deploy/bench/peers.py`.
pub struct Peer {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    /// Starts it by the Python that `PERITO_BENCH_PYTHON` names. `None`, with a message, when that has not got what is needed.
    pub fn start(arguments: &[&str]) -> Option<Self> {
        let skip = |why: &str| {
            eprintln!("{} is not measured: {why} (see deploy/bench/README.md)", arguments[0]);
            None
        };
        let Ok(python) = std::env::var("PERITO_BENCH_PYTHON") else { return skip("PERITO_BENCH_PYTHON is not set") };
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/peers.py");
        let started =
            Command::new(&python).arg(script).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let Ok(mut child) = started else { return skip(&format!("{python} cannot be started")) };
        let (Some(requests), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return skip("no pipes");
        };
        let mut peer = Self { child, requests, answers: BufReader::new(answers) };
        match peer.answer().as_deref() {
            Some("ready") => Some(peer),
            _ => skip(&format!("{python} has not what it needs")),
        }
    }

    /// How long it takes to do so, so many times.
    pub fn time(&mut self, iterations: u64, what: &str) -> Duration {
        let sent = writeln!(self.requests, "{iterations} {what}").and_then(|()| self.requests.flush());
        let seconds = sent.ok().and_then(|()| self.answer()).and_then(|answer| answer.parse().ok());
        Duration::from_secs_f64(seconds.unwrap_or_else(|| panic!("the Python process ended")))
    }

    fn answer(&mut self) -> Option<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line).ok()?;
        Some(line.trim().to_owned())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It would end by itself when its input does.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
