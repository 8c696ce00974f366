//! The bells between the API and the loops of one process. They only save waiting: a missed one costs a poll interval.

use std::sync::Arc;

use perito_domain::lifecycle::JobKind;
use tokio::sync::Notify;

/// The bells. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Wake {
    planner: Arc<Notify>,
    scheduler: Arc<Notify>,
    train: Arc<Notify>,
    score: Arc<Notify>,
    evaluate: Arc<Notify>,
    sweep: Arc<Notify>,
}

impl Wake {
    /// Rung when a job was submitted.
    pub(crate) fn planner(&self) -> Arc<Notify> {
        self.planner.clone()
    }

    /// Rung when a schedule was added, or runs were filled in.
    pub(crate) fn scheduler(&self) -> Arc<Notify> {
        self.scheduler.clone()
    }

    /// Rung when tasks of this kind have become runnable.
    pub(crate) fn dispatcher(&self, kind: JobKind) -> Arc<Notify> {
        match kind {
            JobKind::Train => &self.train,
            JobKind::Score => &self.score,
            JobKind::Evaluate => &self.evaluate,
            JobKind::Sweep => &self.sweep,
        }
        .clone()
    }

    /// Rings for every kind of task.
    pub(crate) fn dispatchers(&self) {
        JobKind::ALL.iter().for_each(|kind| self.dispatcher(*kind).notify_one());
    }
}
