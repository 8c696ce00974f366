//! The API's JSON, as far as this program reads or writes it. Fields that a newer coordinator adds are ignored.

mod registry;

use chrono::{DateTime, Utc};
use perito_domain::{
    Severity,
    lifecycle::{JobKind, JobState},
    names::Name,
    photograph::{InvalidPhotograph, Photograph},
    preprocessing::Preprocessing,
    schedule::DeadlineOutcome,
    spec::{Architecture, Split},
    stages::Stage,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

pub use registry::*;

/// A job, as it was when asked.
#[derive(Debug, Clone, Deserialize)]
pub struct Job {
    /// Its id.
    pub id: Uuid,
    /// What it does.
    pub kind: JobKind,
    /// Where it is.
    pub state: JobState,
    /// Its specification, completed.
    pub spec: Value,
    /// 0 to 9.
    pub priority: i16,
    /// The most tasks at once.
    pub concurrency: Option<u32>,
    /// Since when it is paused.
    pub paused_at: Option<DateTime<Utc>>,
    /// The model version that it scores with, measures or has made.
    pub model: Option<String>,
    /// The dataset version that it uses.
    pub dataset: Option<String>,
    /// How far it is with its images.
    pub images: ImageCounts,
    /// How far it is with its tasks.
    pub tasks: TaskCounts,
    /// How many epochs a training job has finished.
    pub epochs_done: u64,
    /// Why it failed, or what cancelled it.
    pub error: Option<String>,
    /// The schedule that submitted it.
    pub schedule: Option<JobSchedule>,
    /// When it was submitted.
    pub created_at: DateTime<Utc>,
    /// When its tasks were frozen.
    pub planned_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
}

/// What a job was submitted by.
#[derive(Debug, Clone, Deserialize)]
pub struct JobSchedule {
    /// The schedule's name.
    pub name: String,
    /// The fire time.
    pub fire_at: DateTime<Utc>,
    /// When the job has to have succeeded.
    pub deadline_at: Option<DateTime<Utc>>,
    /// Whether it had.
    pub deadline_outcome: Option<DeadlineOutcome>,
}

/// A job's images.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub struct ImageCounts {
    /// How many were selected, once the job is planned.
    pub total: Option<u64>,
    /// How many have a score.
    pub scored: u64,
    /// How many could not be scored.
    pub failed: u64,
}

/// A job's tasks, by state.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[expect(missing_docs, reason = "named after the states")]
pub struct TaskCounts {
    pub total: u64,
    pub runnable: u64,
    pub dispatched: u64,
    pub running: u64,
    pub succeeded: u64,
    pub failed: u64,
    pub cancelled: u64,
}

/// One page of jobs.
#[derive(Debug, Clone, Deserialize)]
pub struct JobPage {
    /// The newest first.
    pub jobs: Vec<Job>,
    /// Where the next page starts.
    pub next_cursor: Option<Uuid>,
}

/// The attempts on a job's tasks.
#[derive(Debug, Clone, Deserialize)]
pub struct AttemptList {
    /// Those that began last first.
    pub attempts: Vec<Attempt>,
}

/// One claim of a task by a worker.
#[derive(Debug, Clone, Deserialize)]
pub struct Attempt {
    /// The task's number within its job.
    pub task: i32,
    /// How many images it has.
    pub images: i32,
    /// The attempt's number.
    pub attempt: i32,
    /// The worker's name.
    pub worker: String,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// What came of it.
    pub outcome: Option<String>,
    /// The class of what went wrong.
    pub error_class: Option<String>,
    /// What went wrong.
    pub error: Option<String>,
}

/// Messages that nobody could act on.
#[derive(Debug, Clone, Deserialize)]
pub struct DeadLetterList {
    /// The oldest first.
    pub dead_letters: Vec<DeadLetter>,
}

/// A message that nobody could act on.
#[derive(Debug, Clone, Deserialize)]
pub struct DeadLetter {
    /// Names it.
    pub id: String,
    /// The queue in which it waits.
    pub queue: String,
    /// The queue that it came from.
    pub died_in: Option<String>,
    /// Why it left that queue.
    pub reason: Option<String>,
    /// When.
    pub died_at: Option<DateTime<Utc>>,
    /// The length of its body.
    pub bytes: usize,
    /// Why it is no task's message.
    pub problem: Option<String>,
    /// What it says, when it is a task's message.
    pub task: Option<DeadTask>,
    /// Its headers.
    pub headers: std::collections::BTreeMap<String, String>,
    /// Its body, when that is text.
    pub text: Option<String>,
    /// Its body in hexadecimal.
    pub hex: String,
    /// Whether that is only the beginning.
    pub truncated: bool,
}

/// What a task's message says.
#[derive(Debug, Clone, Deserialize)]
pub struct DeadTask {
    /// The job.
    pub job_id: Uuid,
    /// The task.
    pub task_id: Uuid,
    /// Its kind.
    pub kind: String,
    /// The attempt that it is for.
    pub attempt: u32,
}

/// What became of the dead letters with an id.
#[derive(Debug, Clone, Deserialize)]
pub struct SettledLetters {
    /// Their id.
    pub id: String,
    /// How many there were.
    pub messages: usize,
}

/// The workers.
#[derive(Debug, Clone, Deserialize)]
pub struct WorkerList {
    /// By name.
    pub workers: Vec<Worker>,
}

/// A worker.
#[derive(Debug, Clone, Deserialize)]
pub struct Worker {
    /// Its name.
    pub name: String,
    /// What it is at: idle, busy, draining, drained or silent.
    pub state: String,
    /// The release.
    pub version: String,
    /// What it computes on.
    pub device: String,
    /// The kinds of task that it takes.
    pub kinds: Vec<String>,
    /// When the process began.
    pub started_at: DateTime<Utc>,
    /// When it was heard of last.
    pub heartbeat_at: DateTime<Utc>,
    /// The tasks in its hands.
    pub running: Vec<RunningTask>,
}

/// Whether a coordinator can do its work.
#[derive(Debug, Clone, Deserialize)]
pub struct Readiness {
    /// Whether it can.
    pub ready: bool,
    /// What does not work, and why.
    pub failed: std::collections::BTreeMap<String, String>,
}

/// A task in a worker's hands.
#[derive(Debug, Clone, Deserialize)]
pub struct RunningTask {
    /// Its job.
    pub job_id: Uuid,
    /// Its kind.
    pub kind: String,
    /// Since how many seconds.
    pub seconds: f64,
}

/// How things stand.
#[derive(Debug, Clone, Deserialize)]
pub struct Status {
    /// Open tasks, by kind.
    pub queues: Vec<Queue>,
    /// Messages that nobody could read, if that is known.
    pub dead_letters: Option<u64>,
    /// Jobs that have not ended.
    pub jobs: OpenJobs,
    /// Images scored.
    pub images_per_second: Throughput,
    /// Workers by what they are at.
    pub workers: WorkerCounts,
    /// The scoring job that ended last.
    pub last_scoring_run: Option<ScoringRun>,
}

/// Open tasks of one kind.
#[derive(Debug, Clone, Deserialize)]
pub struct Queue {
    /// The kind.
    pub kind: String,
    /// Tasks that wait for the dispatcher.
    pub runnable: u64,
    /// Tasks that wait for a worker.
    pub dispatched: u64,
    /// Tasks that workers have.
    pub running: u64,
    /// The oldest runnable task's wait.
    pub oldest_runnable_seconds: Option<f64>,
    /// The oldest running task's age.
    pub oldest_running_seconds: Option<f64>,
    /// Messages in the broker, if that is known.
    pub ready: Option<u64>,
}

/// Jobs that have not ended.
#[derive(Debug, Clone, Copy, Deserialize)]
#[expect(missing_docs, reason = "named after the states")]
pub struct OpenJobs {
    pub queued: u64,
    pub running: u64,
    pub paused: u64,
}

/// Images per second.
#[derive(Debug, Clone, Copy, Deserialize)]
#[expect(missing_docs, reason = "named after the time that has passed")]
pub struct Throughput {
    pub minute: f64,
    pub five_minutes: f64,
    pub fifteen_minutes: f64,
}

/// Workers by what they are at.
#[derive(Debug, Clone, Copy, Deserialize)]
#[expect(missing_docs, reason = "named after the states")]
pub struct WorkerCounts {
    pub idle: u64,
    pub busy: u64,
    pub draining: u64,
    pub drained: u64,
    pub silent: u64,
}

/// A scoring job that has ended.
#[derive(Debug, Clone, Deserialize)]
pub struct ScoringRun {
    /// The job.
    pub job_id: Uuid,
    /// How it ended.
    pub state: JobState,
    /// The model version.
    pub model: Option<String>,
    /// Its images.
    pub images: ImageCounts,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// From submission to end.
    pub seconds: Option<f64>,
    /// Why it failed.
    pub error: Option<String>,
}

/// The trials of a sweep.
#[derive(Debug, Clone, Deserialize)]
pub struct Leaderboard {
    /// From the best to the worst, then those that are not done.
    pub trials: Vec<Trial>,
}

/// One trial of a sweep.
#[derive(Debug, Clone, Deserialize)]
pub struct Trial {
    /// From 1; none while it is not done, or when it cannot be trained.
    pub rank: Option<u64>,
    /// Counted from 0.
    pub trial: u64,
    /// What it does not have in common with the others, by path.
    pub parameters: Map<String, Value>,
    /// Training runs that measure it.
    pub runs: u64,
    /// How many of them are done.
    pub runs_done: u64,
    /// Mean macro F1 over the runs.
    pub macro_f1: Option<f64>,
    /// Its sample standard deviation.
    pub macro_f1_deviation: Option<f64>,
    /// Mean accuracy.
    pub accuracy: Option<f64>,
    /// Mean cross-entropy, in nats.
    pub log_loss: Option<f64>,
    /// Mean number of the best epoch.
    pub best_epoch: Option<f64>,
    /// Why it cannot be trained.
    pub error: Option<String>,
}

/// The epochs of a training job.
#[derive(Debug, Clone, Deserialize)]
pub struct EpochList {
    /// The first one first.
    pub epochs: Vec<Epoch>,
}

/// One epoch.
#[derive(Debug, Clone, Deserialize)]
pub struct Epoch {
    /// Counted from 1.
    pub epoch: u64,
    /// Mean cross-entropy over the training split.
    pub training_loss: f64,
    /// Share of training images that were right.
    pub training_accuracy: f64,
    /// Mean cross-entropy over the validation split.
    pub validation_loss: f64,
    /// Share of validation images that were right.
    pub validation_accuracy: f64,
    /// Mean over classes of F1 on the validation split.
    pub validation_macro_f1: f64,
    /// The learning rate of the epoch.
    pub learning_rate: f64,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Training images per second.
    pub images_per_second: f64,
}

/// What limits a scoring job.
#[derive(Debug, Clone, Deserialize)]
pub struct StageList {
    /// In the order of an image's way.
    pub stages: Vec<StageReport>,
    /// The busiest.
    pub limiting: Option<Stage>,
}

/// What a stage did with its time, in seconds.
#[derive(Debug, Clone, Deserialize)]
pub struct StageReport {
    /// The stage.
    pub stage: Stage,
    /// It worked.
    pub busy_seconds: f64,
    /// It waited for the stage before.
    pub starved_seconds: f64,
    /// It waited for room.
    pub blocked_seconds: f64,
}

/// How well a model did on a labelled split.
#[derive(Debug, Clone, Deserialize)]
pub struct Evaluation {
    /// How many images were evaluated.
    pub images: u64,
    /// Share of images that were right.
    pub accuracy: f64,
    /// Each class's figures.
    pub classes: Vec<ClassMetrics>,
    /// Mean over classes, each class alike.
    pub macro_average: Average,
    /// Mean over classes, weighted by support.
    pub weighted_average: Average,
    /// The counts that all of these follow from.
    pub confusion: Confusion,
    /// What needs the probabilities; nothing for a measurement of an earlier release.
    pub certainty: Option<Certainty>,
}

/// One class's figures.
#[derive(Debug, Clone, Deserialize)]
#[expect(missing_docs, reason = "the usual names")]
pub struct ClassMetrics {
    pub severity: Severity,
    pub precision: f64,
    pub recall: f64,
    pub f1: f64,
    pub support: u64,
}

/// A mean over classes.
#[derive(Debug, Clone, Copy, Deserialize)]
#[expect(missing_docs, reason = "the usual names")]
pub struct Average {
    pub precision: f64,
    pub recall: f64,
    pub f1: f64,
}

/// What a measurement says beyond its confusion matrix.
#[derive(Debug, Clone, Deserialize)]
pub struct Certainty {
    /// Mean cross-entropy, in nats.
    pub log_loss: f64,
    /// Expected calibration error.
    pub calibration_error: f64,
    /// By class; nothing where the class is absent.
    pub roc_auc: Vec<Option<f64>>,
    /// 95 % interval of the accuracy.
    pub accuracy: Interval,
    /// 95 % interval of the macro F1.
    pub macro_f1: Interval,
}

/// A 95 % confidence interval.
#[derive(Debug, Clone, Copy, Deserialize)]
#[expect(missing_docs, reason = "the usual names")]
pub struct Interval {
    pub low: f64,
    pub high: f64,
}

/// Counts of images by actual class (row) and predicted class (column).
#[derive(Debug, Clone, Deserialize)]
pub struct Confusion {
    /// `counts[actual][predicted]`
    pub counts: Vec<Vec<u64>>,
}

/// One version of one photograph, to be registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NewImage {
    /// The bucket that holds it.
    pub bucket: String,
    /// Its key.
    pub key: String,
    /// The object's ETag, without quotes.
    pub etag: String,
    /// The object's length.
    pub size_bytes: u64,
    /// The claim it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim_id: Option<String>,
    /// What a person says it shows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<Severity>,
}

impl NewImage {
    /// Refuses what the catalogue does not take.
    ///
    /// # Errors
    /// Names the field.
    pub fn check(&self) -> Result<(), InvalidPhotograph> {
        let Self { bucket, key, etag, size_bytes, claim_id, .. } = self;
        // Beyond what the API can be told, nothing is a photograph.
        let size_bytes = i64::try_from(*size_bytes).unwrap_or(-1);
        Photograph { bucket, key, etag, size_bytes, claim_id: claim_id.as_deref() }.check()
    }
}

/// What waits to be scored.
#[derive(Debug, Clone, Deserialize)]
pub struct Backlog {
    /// Only buckets where something waits or could not be scored.
    pub buckets: Vec<BucketBacklog>,
}

/// What waits to be scored in one bucket.
#[derive(Debug, Clone, Deserialize)]
pub struct BucketBacklog {
    /// The bucket.
    pub bucket: String,
    /// How many photographs wait.
    pub waiting: u64,
    /// When the one that waits longest was registered.
    pub oldest_registered_at: Option<DateTime<Utc>>,
    /// How many more could not be scored by a run that has finished.
    pub unscorable: u64,
}

/// What may be changed while everything runs.
#[derive(Debug, Clone, Deserialize)]
pub struct Settings {
    /// The confidence from which a single photograph decides about its claim.
    pub claim_confidence: f64,
    /// When a setting was last changed.
    pub updated_at: DateTime<Utc>,
}

/// What became of a batch of photographs.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Registered {
    /// How many were not known before.
    pub new: u64,
    /// How many were.
    pub known: u64,
    /// How many older versions of objects were superseded.
    pub superseded: u64,
    /// The catalogue's numbers, in the order of the request.
    pub ids: Vec<i64>,
}

/// A dataset version that is being filled.
#[derive(Debug, Clone, Deserialize)]
pub struct Draft {
    /// The number by which it is filled and frozen.
    pub id: i64,
}

/// One labelled image of a draft.
#[derive(Debug, Clone, Serialize)]
pub struct Item {
    /// The image's number in the catalogue.
    pub image_id: i64,
    /// What it is for.
    pub split: Split,
    /// What it shows.
    pub label: Severity,
}

/// A frozen version of a dataset.
#[derive(Debug, Clone, Deserialize)]
pub struct Dataset {
    /// `demo@2`
    pub reference: String,
    /// What has the same digest is the same dataset.
    pub digest: String,
    /// How many images it has.
    pub images: u64,
    /// How many of each kind.
    pub counts: Vec<Count>,
    /// When it was frozen.
    pub frozen_at: DateTime<Utc>,
    /// What it was made of, where its images do not tell.
    pub origin: Option<String>,
}

/// How many images of a dataset have one split and label.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Count {
    /// What they are for.
    pub split: Split,
    /// What they show.
    pub label: Severity,
    /// How many they are.
    pub images: u64,
}

/// What became of a draft.
#[derive(Debug, Clone, Deserialize)]
pub struct Frozen {
    /// The version.
    #[serde(flatten)]
    pub dataset: Dataset,
    /// Whether an older version has the same content and is this one.
    pub existing: bool,
}

/// The frozen versions of datasets.
#[derive(Debug, Clone, Deserialize)]
pub struct DatasetList {
    /// The newest first.
    pub datasets: Vec<Dataset>,
}

/// A model to be registered.
#[derive(Debug, Clone, Serialize)]
pub struct ImportModel {
    /// Its name.
    pub name: Name,
    /// The network.
    pub architecture: Architecture,
    /// The classes by index; none for weights whose head is another.
    pub class_names: Vec<String>,
    /// How bytes become the model's input.
    pub preprocessing: Preprocessing,
    /// Where the weights are.
    pub artifact: Artifact,
    /// What was imported.
    pub source: String,
}

/// A weight file in the store.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Artifact {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// SHA-256 of the bytes, in hexadecimal.
    pub sha256: String,
    /// The length.
    pub bytes: u64,
}

/// One version of a model.
#[derive(Debug, Clone, Deserialize)]
pub struct Model {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: i32,
    /// Both: `severity@3`.
    pub reference: String,
    /// The aliases that point to it.
    pub aliases: Vec<String>,
    /// The network.
    pub architecture: Architecture,
    /// The classes by index.
    pub class_names: Vec<String>,
    /// How bytes become its input.
    pub preprocessing: Preprocessing,
    /// Where the weights are.
    pub artifact: Artifact,
    /// The training job that made it.
    pub job_id: Option<Uuid>,
    /// The dataset version that it was trained on.
    pub dataset: Option<String>,
    /// The digest of that dataset.
    pub dataset_digest: Option<String>,
    /// The whole specification of its training.
    pub hyperparameters: Option<Value>,
    /// The epoch whose weights these are.
    pub best_epoch: Option<i32>,
    /// The seed of its training.
    pub seed: Option<u64>,
    /// The digest of its training's specification.
    pub spec_sha256: Option<String>,
    /// The libtorch that trained it.
    pub libtorch_version: Option<String>,
    /// What it was trained on.
    pub device: Option<String>,
    /// The release that trained or imported it.
    pub code_version: String,
    /// Where it is from.
    pub source: String,
    /// When it was registered.
    pub created_at: DateTime<Utc>,
}

/// The versions of models.
#[derive(Debug, Clone, Deserialize)]
pub struct ModelList {
    /// The newest first.
    pub models: Vec<Model>,
}
