//! The worker's binary: arguments in, an exit code out.

use std::{process::ExitCode, sync::Arc};

use anyhow::Context as _;
use perito_broker::{BrokerOptions, Consumer};
use perito_database::{Database, DatabaseOptions};
use perito_objects::{Checksums, ObjectStore, ObjectStoreOptions};
use perito_runtime::{args, health::Health, lifecycle::Shutdown, telemetry, tls};
use perito_worker::{
    config::{Config, Invocation},
    gpu, predict,
    service::{self, Context},
};

mod memory;
mod spinning;

fn main() -> ExitCode {
    memory::keep();
    let invocation = Invocation::parse();
    // Not before: help and mistakes need no network.
    spinning::few();
    match invocation {
        Invocation::Serve(config) => perito_runtime::main(async move || run(*config).await),
        Invocation::Predict(args) => predict::main(&args),
    }
}

async fn run(config: Config) -> anyhow::Result<()> {
    let _spans = telemetry::init("perito-worker", &config.telemetry)?;
    let metrics = telemetry::install_metrics()?;
    tracing::info!(version = perito_runtime::version(), config = ?config, "starting");
    let shutdown = Shutdown::on_signals(config.shutdown.grace).context("handle signals")?;

    let database = Database::connect(&DatabaseOptions {
        url: config.database.url()?.expose().to_owned(),
        control_connections: config.database.database_connections,
        bulk_connections: config.database.database_bulk_connections,
    })
    .await?;
    database.check_schema().await?;
    let bucket = config.objects.s3_bucket.clone();
    let objects = ObjectStore::new(object_store_options(&config.objects)?)?;
    objects
        .ensure_bucket(&bucket)
        .await
        .context("PERITO_S3_ENDPOINT and PERITO_S3_BUCKET say where models are stored")?;
    let mut broker = BrokerOptions::new(config.broker.url()?.expose(), &config.broker.broker_namespace);
    broker.certificate_authorities = tls::ca_bundle()?;
    let consumer = Consumer::new(broker);
    let context = Context::new(
        &config.work,
        &config.engine,
        database.clone(),
        objects.clone(),
        bucket.clone(),
        shutdown.clone(),
    )?;
    tracing::info!(
        worker = context.worker,
        device = %context.device.device(),
        libtorch.version = perito_nets::libtorch_version(),
        "ready for tasks"
    );

    tokio::spawn(database.clone().keep_measuring());
    if let Some(index) = context.device.device().gpu_index() {
        gpu::keep_measuring(index);
    }
    if let Some(address) = config.work.listen {
        let health = Health::new(shutdown.soft().clone(), metrics)
            .check("database", move || {
                let database = database.clone();
                async move { database.ping().await }
            })
            .check("objects", move || {
                let (objects, bucket) = (objects.clone(), bucket.clone());
                async move { objects.ping(&bucket).await }
            });
        let serving = health.serve(address);
        tokio::spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(error = %error, listen = %address, "serving health and metrics failed");
            }
        });
    }
    service::run(Arc::new(context), &config.work, consumer).await;
    tracing::info!("stopped");
    Ok(())
}

fn object_store_options(args: &args::ObjectStoreArgs) -> anyhow::Result<ObjectStoreOptions> {
    let mut options = ObjectStoreOptions::new(args.s3_endpoint.clone(), &args.s3_region);
    options.access_key_id.clone_from(&args.s3_access_key_id);
    options.secret_access_key = args.secret_access_key()?.map(|secret| secret.expose().to_owned());
    options.certificate_authorities = tls::ca_bundle()?;
    options.checksums = match args.s3_checksums {
        args::Checksums::WhenRequired => Checksums::WhenRequired,
        args::Checksums::WhenSupported => Checksums::WhenSupported,
    };
    Ok(options)
}
