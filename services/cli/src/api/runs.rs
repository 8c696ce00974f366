//! What a job has done so far: epochs, trials, the time of stages.

use perito_domain::stages::Stage;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{Api, Repeat, Result};

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

impl Api {
    /// The trials of a sweep.
    ///
    /// # Errors
    /// [`super::ApiError`].
    pub async fn leaderboard(&self, id: Uuid) -> Result<Leaderboard> {
        self.send(self.request(Method::GET, &["jobs", &id.to_string(), "leaderboard"], Repeat::Safe)).await
    }

    /// The epochs that a training job has finished.
    ///
    /// # Errors
    /// [`super::ApiError`], `NotFound` when there is no such job.
    pub async fn epochs(&self, id: Uuid) -> Result<EpochList> {
        self.send(self.request(Method::GET, &["jobs", &id.to_string(), "epochs"], Repeat::Safe)).await
    }

    /// What each stage of a scoring job has done with its time.
    ///
    /// # Errors
    /// See [`super::ApiError`].
    pub async fn stages(&self, id: Uuid) -> Result<StageList> {
        self.send(self.request(Method::GET, &["jobs", &id.to_string(), "stages"], Repeat::Safe)).await
    }
}
