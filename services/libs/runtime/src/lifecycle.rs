//! Shutdown: the first signal is soft (take nothing new, end what is running), the second one, or the end of the grace
//! period, is hard (drop what is running).

use std::{future::Future, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The two tokens and everything that has to end before the process may. Clones share both.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    soft: CancellationToken,
    hard: CancellationToken,
    tasks: TaskTracker,
}

impl Shutdown {
    /// Without signals: whoever holds a clone begins it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins on SIGTERM or SIGINT.
    ///
    /// # Errors
    /// When the signals cannot be handled.
    pub fn on_signals(grace: Duration) -> std::io::Result<Self> {
        let shutdown = Self::new();
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let begun = shutdown.clone();
        tokio::spawn(async move {
            either(&mut terminate, &mut interrupt).await;
            tracing::info!(grace.seconds = grace.as_secs_f64(), "shutting down");
            begun.begin();
            tokio::select! {
                () = tokio::time::sleep(grace) => tracing::warn!("grace period is over"),
                () = either(&mut terminate, &mut interrupt) => tracing::warn!("second signal"),
            }
            begun.now();
        });
        Ok(shutdown)
    }

    /// Take nothing new; end what is running.
    pub fn begin(&self) {
        self.soft.cancel();
    }

    /// Drop what is running.
    pub fn now(&self) {
        self.soft.cancel();
        self.hard.cancel();
    }

    /// Cancelled when the process should take nothing new.
    pub fn soft(&self) -> &CancellationToken {
        &self.soft
    }

    /// Cancelled when the process should drop what is running.
    pub fn hard(&self) -> &CancellationToken {
        &self.hard
    }

    /// Runs something that has to end before the process may.
    pub fn spawn<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.tasks.spawn(work)
    }

    /// Waits until shutdown has begun and everything spawned here has ended.
    pub async fn finished(&self) {
        self.soft.cancelled().await;
        self.tasks.close();
        self.tasks.wait().await;
    }
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn soft_waits_for_work_and_hard_stops_it() {
        let shutdown = Shutdown::new();
        let hard = shutdown.hard().clone();
        shutdown.spawn(async move { hard.cancelled().await });
        shutdown.begin();
        let early = tokio::time::timeout(Duration::from_millis(50), shutdown.finished()).await;
        assert!(early.is_err(), "work was still running");
        shutdown.now();
        let late = tokio::time::timeout(Duration::from_secs(5), shutdown.finished()).await;
        assert!(late.is_ok());
    }
}
