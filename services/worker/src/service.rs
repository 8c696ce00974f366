//! Start-up, the consumers of each kind of task, and shutdown.

use std::sync::Arc;

use anyhow::Context as _;
use perito_broker::{Consumer, Delivery};
use perito_database::{Database, WorkerReport};
use perito_domain::lifecycle::JobKind;
use perito_objects::ObjectStore;
use perito_runtime::lifecycle::Shutdown;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use uuid::Uuid;

use crate::{
    artifacts::Artifacts,
    budget::ImageMemory,
    config::{EngineArgs, WorkArgs},
    device::DeviceThread,
    execute::{claim, execute},
    images::{ImageSource, ImageSourceOptions},
    intake::Intake,
    leases::Leases,
    pixel_cache::CacheLimits,
    presence,
    stall::StallClock,
    together::Together,
    train::checkpoint::Policy,
};

/// What tasks need. One for the process.
pub struct Context {
    /// Truth.
    pub database: Database,
    /// Bytes.
    pub objects: ObjectStore,
    /// The bucket for what this worker writes.
    pub bucket: String,
    /// The thread that runs networks.
    pub device: DeviceThread,
    /// Engines of registered models.
    pub artifacts: Artifacts,
    /// Images to pixels.
    pub images: ImageSource,
    /// What the stages of scoring do with their time.
    pub stall_clock: StallClock,
    /// Whose turn it is at the device: scoring tasks have it one after the other.
    pub turns: Semaphore,
    /// Claims and commits that share transactions.
    pub together: Together,
    /// Every lease held.
    pub leases: Leases,
    /// Whether new tasks are taken.
    pub intake: Intake,
    /// Soft: take nothing new. Hard: drop what is being done.
    pub shutdown: Shutdown,
    /// This worker's name in attempts and logs.
    pub worker: String,
    /// Room for decoded training images.
    pub cache: CacheLimits,
    /// When training writes checkpoints.
    pub checkpoints: Policy,
}

impl Context {
    /// Puts together what tasks need.
    ///
    /// # Errors
    /// A device that is absent, or threads that cannot be started.
    pub fn new(
        args: &WorkArgs,
        engine: &EngineArgs,
        database: Database,
        objects: ObjectStore,
        bucket: String,
        shutdown: Shutdown,
    ) -> anyhow::Result<Self> {
        let device = engine.device.resolve().context("choose the device")?;
        let device = DeviceThread::start(device, engine.compute_threads()).context("start the device thread")?;
        let max_memory = args.max_memory();
        let stall_clock = StallClock::new(engine.decode_threads(), args.scoring_tasks.into());
        let options = ImageSourceOptions {
            concurrency: args.fetch_concurrency.into(),
            threads: engine.decode_threads(),
            limits: engine.limits(),
            memory: ImageMemory::within(max_memory),
        };
        tracing::info!(
            memory.bytes = max_memory,
            memory.files_bytes = options.memory.files.bytes(),
            memory.decoding_bytes = options.memory.decoding.bytes(),
            "memory is shared out"
        );
        let images =
            ImageSource::new(objects.clone(), options, stall_clock.clone()).context("start the decoding threads")?;
        let worker = args.name.clone().unwrap_or_else(default_name);
        Ok(Self {
            artifacts: Artifacts::new(
                objects.clone(),
                device.clone(),
                engine.options(),
                engine.batch_size.map(usize::from),
            ),
            leases: Leases::new(database.clone(), args.lease),
            intake: Intake::new(shutdown.soft().clone()),
            together: Together::start(database.clone(), worker.clone(), args.lease),
            worker,
            cache: CacheLimits { memory: args.cache_bytes(), disk: args.disk_cache_mib << 20 },
            checkpoints: Policy { interval: args.checkpoint_interval, epochs: args.checkpoint_epochs },
            database,
            objects,
            bucket,
            device,
            images,
            stall_clock,
            turns: Semaphore::new(1),
            shutdown,
        })
    }
}

/// Runs until shutdown has ended every task.
pub async fn run(context: Arc<Context>, args: &WorkArgs, consumer: Consumer) {
    let shutdown = &context.shutdown;
    let heartbeats = tokio::spawn(context.leases.clone().keep_alive());
    let report = Arc::new(WorkerReport {
        name: context.worker.clone(),
        instance: Uuid::new_v4(),
        version: perito_runtime::version().to_owned(),
        device: context.device.device().to_string(),
        kinds: args.tasks.clone(),
    });
    let reports = tokio::spawn(presence::report(Arc::clone(&context), Arc::clone(&report)));
    for &kind in &args.tasks {
        let (context, consumer) = (Arc::clone(&context), consumer.clone());
        match kind {
            JobKind::Score => shutdown.spawn(many_at_once(context, consumer, args.scoring_tasks)),
            JobKind::Train | JobKind::Evaluate | JobKind::Sweep => {
                shutdown.spawn(one_at_a_time(context, consumer, kind))
            }
        };
    }
    shutdown.finished().await;
    // Last: tasks that were finishing needed their leases.
    heartbeats.abort();
    reports.abort();
    presence::leave(&context, &report).await;
}

/// Scoring tasks are short: the message is acknowledged after the commit, and the broker gives at most `limit` of them.
async fn many_at_once(context: Arc<Context>, consumer: Consumer, limit: u16) {
    while let Some(stop) = context.intake.open().await {
        let mut deliveries = consumer.start(&[JobKind::Score], limit, stop.clone());
        while let Some(delivery) = next(&mut deliveries, &stop).await {
            let task = Arc::clone(&context);
            let span = span(&delivery);
            context.shutdown.spawn(
                async move {
                    match claim(&task, &delivery.message).await {
                        Ok(Some(guard)) => {
                            execute(&task, guard).await;
                            delivery.ack().await;
                        }
                        Ok(None) => delivery.ack().await,
                        // Unacknowledged, so the broker gives it to another worker.
                        Err(error) => tracing::error!(error = %error, "claim failed"),
                    }
                }
                .instrument(span),
            );
        }
    }
}

/// Training may outlast any broker's acknowledgement timeout: the message is acknowledged on claim and the lease protects the task.
/// While it runs nothing is consumed, so that no second message waits here for hours.
async fn one_at_a_time(context: Arc<Context>, consumer: Consumer, kind: JobKind) {
    while let Some(open) = context.intake.open().await {
        let stop = open.child_token();
        let mut deliveries = consumer.start(&[kind], 1, stop.clone());
        while let Some(delivery) = next(&mut deliveries, &stop).await {
            let span = span(&delivery);
            let claimed = claim(&context, &delivery.message).instrument(span.clone()).await;
            match claimed {
                Ok(Some(guard)) => {
                    delivery.ack().await;
                    stop.cancel();
                    execute(&context, guard).instrument(span).await;
                }
                Ok(None) => delivery.ack().await,
                Err(error) => {
                    span.in_scope(|| tracing::error!(error = %error, "claim failed"));
                    stop.cancel();
                }
            }
        }
    }
}

async fn next(deliveries: &mut tokio::sync::mpsc::Receiver<Delivery>, stop: &CancellationToken) -> Option<Delivery> {
    tokio::select! {
        biased;
        () = stop.cancelled() => None,
        delivery = deliveries.recv() => delivery,
    }
}

/// The span of a task's work: a child of the request that submitted its job.
fn span(delivery: &Delivery) -> tracing::Span {
    let message = &delivery.message;
    let span = tracing::info_span!(
        "task",
        otel.kind = "consumer",
        job.id = %message.job_id,
        task.id = %message.task_id,
        task.kind = message.kind.as_str()
    );
    perito_runtime::trace::set_parent(&span, &message.traceparent);
    span
}

fn default_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}-{}", if host.trim().is_empty() { "worker" } else { host.trim() }, std::process::id())
}
