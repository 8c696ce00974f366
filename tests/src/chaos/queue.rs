//! The broker, seen by the test itself: duplicates and garbage in, losses made, and what is left at the end.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{
        BasicAckOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
        QueueDeleteOptions, QueuePurgeOptions,
    },
};
use perito_broker::Topology;
use perito_domain::{lifecycle::JobKind, message::TaskMessage};
use tokio::time::timeout;

/// For each request: the broker may be away.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Straight to the broker, by no link.
pub struct Queue {
    url: String,
    topology: Topology,
    /// Messages that nobody can read and that the broker has confirmed, by their ids.
    pub garbage: BTreeSet<String>,
    /// Those that it may or may not have taken.
    pub doubtful: BTreeSet<String>,
    /// What has come to the dead-letter queue. A broker that crashes may do a dead letter again, so these are more than there are ids.
    pub dead: Vec<String>,
}

impl Queue {
    /// Nothing is sent yet.
    pub fn new(url: &str, topology: Topology) -> Self {
        let [garbage, doubtful] = [BTreeSet::new(), BTreeSet::new()];
        Self { url: url.to_owned(), topology, garbage, doubtful, dead: Vec::new() }
    }

    /// Loses every message that waits: their number.
    pub async fn purge(&self) -> Result<u32, String> {
        let name = self.topology.queue(JobKind::Score);
        self.with(async |channel| channel.queue_purge(name.as_str().into(), QueuePurgeOptions::default()).await).await
    }

    /// Removes the queue with all that is in it: the number of messages.
    pub async fn delete(&self) -> Result<u32, String> {
        let name = self.topology.queue(JobKind::Score);
        self.with(async |channel| channel.queue_delete(name.as_str().into(), QueueDeleteOptions::default()).await).await
    }

    /// Publishes messages, each this many times.
    pub async fn publish(&self, options: perito_broker::BrokerOptions, messages: &[TaskMessage], times: u32) -> usize {
        let publisher = perito_broker::Publisher::new(options);
        let mut confirmed = 0;
        for _ in 0..times {
            confirmed += publisher.publish(messages).await.iter().filter(|outcome| outcome.is_ok()).count();
        }
        confirmed
    }

    /// Publishes what nobody can read.
    pub async fn litter(&mut self, messages: usize) -> Result<(), String> {
        for number in 0..messages {
            let bytes: &[u8] = if number % 2 == 0 { b"not protobuf at all" } else { &[8, 99] };
            let (exchange, key) = (self.topology.exchange(), JobKind::Score.as_str());
            let id = format!("garbage-{}", self.garbage.len() + self.doubtful.len());
            let mut sent = false;
            let outcome = self
                .with(async |channel| {
                    sent = true;
                    channel.confirm_select(ConfirmSelectOptions::default()).await?;
                    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
                    let properties =
                        BasicProperties::default().with_delivery_mode(2).with_message_id(id.as_str().into());
                    let sent =
                        channel.basic_publish(exchange.as_str().into(), key.into(), options, bytes, properties).await?;
                    match sent.await? {
                        // Returned: no queue has it.
                        lapin::Confirmation::Ack(None) => Ok(()),
                        _ => Err(std::io::Error::from(std::io::ErrorKind::NotFound).into()),
                    }
                })
                .await;
            if let Err(error) = outcome {
                if sent {
                    // It is not known whether it came.
                    self.doubtful.insert(id);
                }
                return Err(error);
            }
            self.garbage.insert(id);
        }
        Ok(())
    }

    /// Messages that wait for a worker.
    pub async fn waiting(&self) -> Result<u32, String> {
        self.count(self.topology.queue(JobKind::Score)).await
    }

    /// Waits until all garbage has gone where it belongs. Whether it has.
    pub async fn swept(&mut self, patience: Duration) -> bool {
        let started = Instant::now();
        loop {
            // The broker may be away.
            let _ = self.collect().await;
            if self.garbage.iter().all(|id| self.dead.contains(id)) {
                return true;
            }
            if started.elapsed() > patience {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Empties the dead-letter queue.
    pub async fn collect(&mut self) -> Result<(), String> {
        let name = self.topology.dead_letter();
        let mut dead = Vec::new();
        let outcome = self
            .with(async |channel| {
                while let Some(message) = channel.basic_get(name.as_str().into(), BasicGetOptions::default()).await? {
                    let id = message.properties.message_id().as_ref().map(ToString::to_string);
                    dead.push(id.unwrap_or_else(|| format!("no garbage: {:?}", message.data)));
                    message.ack(BasicAckOptions::default()).await?;
                }
                Ok(())
            })
            .await;
        self.dead.append(&mut dead);
        outcome
    }

    async fn count(&self, queue: String) -> Result<u32, String> {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
        self.with(async |channel| channel.queue_declare(queue.as_str().into(), options, Default::default()).await)
            .await
            .map(|queue| queue.message_count())
    }

    async fn with<T>(&self, request: impl AsyncFnOnce(&Channel) -> lapin::Result<T>) -> Result<T, String> {
        let answer = async {
            let connection = Connection::connect(&self.url, ConnectionProperties::default()).await?;
            let channel = connection.create_channel().await?;
            let answer = request(&channel).await;
            let _ = connection.close(200, "done".into()).await;
            answer
        };
        timeout(TIMEOUT, answer).await.map_err(|_| "no answer".to_owned())?.map_err(|error| error.to_string())
    }
}
