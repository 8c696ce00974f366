//! `perito`: see [`perito_cli`].

use std::{process::ExitCode, time::Duration};

use clap::Parser as _;
use perito_cli::{arguments::Cli, exit};

fn main() -> ExitCode {
    let cli = Cli::parse();
    perito_runtime::install_crypto_provider();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return exit::report(&anyhow::Error::new(error).context("start the async runtime")),
    };
    let outcome = runtime.block_on(perito_cli::commands::run(cli));
    // What still blocks a thread is not waited for.
    runtime.shutdown_timeout(Duration::from_millis(100));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::report(&error),
    }
}
