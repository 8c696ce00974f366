//! The coordinator's binary.

use anyhow::Context;
use clap::Parser;
use perito_coordinator::{config::Config, service};
use perito_runtime::telemetry;

fn main() -> anyhow::Result<()> {
    perito_runtime::install_crypto_provider();
    let config = Config::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(async {
        let _spans = telemetry::init("perito-coordinator", &config.telemetry)?;
        service::run(config).await
    })
}
