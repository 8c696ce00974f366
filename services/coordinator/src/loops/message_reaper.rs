//! Returns dispatched tasks whose message is no longer in the broker, as after a purge or the loss of a node.

use std::time::Duration;

use anyhow::Context;
use perito_broker::Publisher;
use perito_database::Database;
use perito_domain::lifecycle::JobKind;

use super::{Pace, Queues, Step, Wake, queues::Depths};

/// Compares what the database believes to be in the queues with what is there.
///
/// A task that a worker was handed but has not claimed within the grace is taken for lost too: its second message goes
/// to whoever is free, and the first one is dropped.
pub(super) struct MessageReaper {
    pub(super) database: Database,
    pub(super) publisher: Publisher,
    pub(super) wake: Wake,
    pub(super) queues: Queues,
    pub(super) lost_after: Duration,
}

impl Step for MessageReaper {
    const NAME: &'static str = "message_reaper";

    async fn step(&mut self) -> anyhow::Result<Pace> {
        let mut depths = Depths::default();
        for kind in JobKind::ALL.iter().copied() {
            let ready = self.publisher.ready(kind).await.context("count the messages that are ready")?;
            metrics::gauge!("perito_queue_ready", "kind" => kind.as_str()).set(ready as f64);
            depths.ready.push((kind, ready));
            let lost = self.database.reap_lost(kind, ready, self.lost_after).await.context("reap lost messages")?;
            if lost > 0 {
                tracing::warn!(task.kind = %kind, tasks.returned = lost, queue.ready = ready, "messages lost");
                metrics::counter!("perito_messages_lost_total", "kind" => kind.as_str()).increment(lost);
                self.wake.dispatcher(kind).notify_one();
            }
        }
        depths.dead_letters = self.publisher.dead_letters().await.context("count the dead letters")?;
        metrics::gauge!("perito_dead_letters").set(depths.dead_letters as f64);
        self.queues.saw(depths);
        Ok(Pace::Idle)
    }
}
