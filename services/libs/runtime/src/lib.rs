//! What every binary shares: its command-line options, logs and traces, metrics, health endpoints and shutdown.
//!
//! | module | holds |
//! |---|---|
//! | [`args`] | options and environment variables of the servers that Perito talks to |
//! | [`secret`] | where secrets come from, and text that never shows in logs |
//! | [`telemetry`] | logs, with the trace id on every line |
//! | [`export`] | spans to a collector, by OTLP |
//! | [`tls`] | certificate authorities of one's own, and serving TLS |
//! | [`trace`] | W3C Trace Context between processes |
//! | [`health`] | `/healthz`, `/readyz`, `/metrics` |
//! | [`lifecycle`] | SIGTERM: first soft, then hard |
//!
//! To add an option that several binaries need: a field in [`args`], flattened by each binary.

use std::{process::ExitCode, time::Duration};

pub mod args;
pub mod export;
pub mod health;
pub mod lifecycle;
pub mod secret;
pub mod telemetry;
pub mod tls;
pub mod trace;

pub use args::{BrokerArgs, DatabaseArgs, ObjectStoreArgs, ShutdownArgs, TelemetryArgs};
pub use secret::Secret;

/// The release and, when built from a git checkout, the commit: `0.1.0+1a2b3c4d5e6f`.
pub fn version() -> &'static str {
    env!("PERITO_VERSION")
}

/// Runs a service's `main`: an async runtime, and an error, if one comes back, told once with what led to it.
///
/// Parse the command line inside: clap ends the process by itself when it has to.
pub fn main(run: impl AsyncFnOnce() -> anyhow::Result<()>) -> ExitCode {
    install_crypto_provider();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: start the async runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(run());
    // What still blocks a thread was told to stop and did not: the process does not wait for it.
    runtime.shutdown_timeout(Duration::from_secs(1));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if tracing::dispatcher::has_been_set() {
                tracing::error!(error.message = format!("{error:#}"), "stopped by an error");
            } else {
                eprintln!("error: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}

/// Chooses ring as the process's TLS implementation. Only for a binary that does not use [`main`].
pub fn install_crypto_provider() {
    // An error means that one is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
