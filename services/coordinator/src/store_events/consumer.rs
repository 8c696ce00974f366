//! The queue of events: what messages say is committed, then they are acknowledged.

use std::time::Duration;

use perito_broker::Delivery;
use perito_database::{Database, ObjectEvent, Taken};
use perito_domain::{
    claims::ClaimRule,
    retry::{Backoff, ErrorClass},
};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    message::{Parsed, parse},
    watched::Watched,
};

/// Messages that are unacknowledged at once, and so the most that one transaction is about.
pub(crate) const PREFETCH: u16 = 256;
/// How long a batch waits for one more message.
const LINGER: Duration = Duration::from_millis(20);
const BACKOFF: Backoff = Backoff { base: Duration::from_millis(200), cap: Duration::from_secs(5) };

/// What the consumer works with.
pub(crate) struct StoreEvents {
    pub(crate) database: Database,
    pub(crate) watched: Vec<Watched>,
    pub(crate) claims: ClaimRule,
    pub(crate) stop: CancellationToken,
}

type Message = (Delivery<Vec<u8>>, Parsed);

impl StoreEvents {
    /// Works until the consumer ends.
    pub(crate) async fn run(self, mut deliveries: mpsc::Receiver<Delivery<Vec<u8>>>) {
        while let Some(first) = deliveries.recv().await {
            let mut batch = vec![self.read(first)];
            while batch.len() < usize::from(PREFETCH) {
                let Ok(Some(next)) = timeout(LINGER, deliveries.recv()).await else { break };
                batch.push(self.read(next));
            }
            self.settle(batch).await;
        }
    }

    fn read(&self, delivery: Delivery<Vec<u8>>) -> Message {
        let parsed = parse(&delivery.message, &self.watched, &self.claims);
        (delivery, parsed)
    }

    /// Does what a batch says and settles its messages. Those that are not settled when the service stops are given back.
    async fn settle(&self, batch: Vec<Message>) {
        let events: Vec<ObjectEvent> = batch.iter().flat_map(|(_, parsed)| parsed.events.clone()).collect();
        match self.apply(&events).await {
            Outcome::Done(taken) => {
                count_taken(&taken);
                for (delivery, parsed) in batch {
                    finish(delivery, parsed).await;
                }
            }
            Outcome::Stopped => {}
            Outcome::Refused(reason) if batch.len() == 1 => {
                for (delivery, parsed) in batch {
                    finish(delivery, Parsed { refused: Some(reason.clone()), ..parsed }).await;
                }
            }
            // Which of them the database cannot take shows when each is alone.
            Outcome::Refused(_) => {
                for message in batch {
                    Box::pin(self.settle(vec![message])).await;
                }
            }
        }
    }

    /// Commits events, however long the database is away.
    async fn apply(&self, events: &[ObjectEvent]) -> Outcome {
        let mut failures = 0;
        while !events.is_empty() {
            let error = match self.database.apply_events(events).await {
                Ok(taken) => return Outcome::Done(taken),
                Err(error) if error.class() == ErrorClass::Permanent => return Outcome::Refused(error.to_string()),
                Err(error) => error,
            };
            failures += 1;
            if failures == 1 {
                tracing::warn!(error.message = %error, "events cannot be committed, will go on trying");
            }
            tokio::select! {
                () = self.stop.cancelled() => return Outcome::Stopped,
                () = tokio::time::sleep(BACKOFF.delay(failures, &mut rand::rng())) => {}
            }
        }
        Outcome::Done(Taken::default())
    }
}

enum Outcome {
    /// It is committed.
    Done(Taken),
    /// It was not when the service stopped.
    Stopped,
    /// It never will be.
    Refused(String),
}

async fn finish(delivery: Delivery<Vec<u8>>, parsed: Parsed) {
    count("passed_over", parsed.passed_over);
    let Some(reason) = parsed.refused else { return delivery.ack().await };
    metrics::counter!("perito_messages_dead_lettered_total", "kind" => "s3-events").increment(1);
    tracing::warn!(
        message.bytes = delivery.message.len(),
        error.message = reason,
        "event message goes to the dead-letter queue"
    );
    delivery.reject().await;
}

fn count_taken(taken: &Taken) {
    for (outcome, records) in
        [("registered", taken.new), ("known", taken.known), ("removed", taken.removed), ("late", taken.late)]
    {
        count(outcome, records);
    }
}

fn count(outcome: &'static str, records: u64) {
    if records > 0 {
        metrics::counter!("perito_store_events_total", "outcome" => outcome).increment(records);
    }
}
