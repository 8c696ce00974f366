//! Publishes runnable tasks of one kind, a bounded window at a time, which the most urgent ones have.

use anyhow::Context;
use perito_broker::Publisher;
use perito_database::Database;
use perito_domain::lifecycle::JobKind;

use super::{Pace, Step};

/// Tops up what waits in the queue of one kind. Only what the broker has confirmed counts as dispatched.
pub(super) struct Dispatcher {
    pub(super) database: Database,
    pub(super) publisher: Publisher,
    pub(super) kind: JobKind,
    pub(super) window: u32,
    /// Whether the last round failed in the broker.
    pub(super) refused: bool,
}

impl Step for Dispatcher {
    const NAME: &'static str = "dispatcher";

    async fn step(&mut self) -> anyhow::Result<Pace> {
        if self.refused {
            // Tasks are locked while they are published: let nobody wait for them as long as the broker is away.
            self.publisher.ping().await.context("reach the broker")?;
        }
        let mut refusal = None;
        let publisher = &self.publisher;
        let window = i64::from(self.window);
        let dispatched = self
            .database
            .dispatch(self.kind, window, window, async |messages| {
                let outcomes = publisher.publish(&messages).await;
                let confirmed = outcomes.iter().map(Result::is_ok).collect();
                refusal = outcomes.into_iter().find_map(Result::err);
                confirmed
            })
            .await
            .context("dispatch tasks")?;
        metrics::counter!("perito_tasks_dispatched_total", "kind" => self.kind.as_str())
            .increment(dispatched.published);
        metrics::counter!("perito_tasks_recalled_total", "kind" => self.kind.as_str()).increment(dispatched.recalled);
        self.refused = refusal.is_some();
        if let Some(refusal) = refusal {
            return Err(refusal).context("publish task messages");
        }
        Ok(if dispatched.published > 0 { Pace::Busy } else { Pace::Idle })
    }
}
