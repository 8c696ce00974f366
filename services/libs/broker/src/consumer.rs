//! Messages in: resubscribes for ever, sends what it cannot read to the dead-letter queue.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use lapin::{
    Connection,
    options::{
        BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions, BasicRejectOptions,
    },
    types::FieldTable,
};
use perito_domain::{lifecycle::JobKind, message::TaskMessage, retry::Backoff};
use perito_proto::v1;
use prost::Message;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    error::{Error, Result},
    topology::{BrokerOptions, Topology},
};

const BACKOFF: Backoff = Backoff { base: Duration::from_millis(200), cap: Duration::from_secs(5) };
const TAG: &str = "perito";

/// A message that can be acted on. Until it is acknowledged it counts against the prefetch; if it is dropped or its connection breaks,
/// the broker gives it to somebody else.
pub struct Delivery {
    /// The hint.
    pub message: TaskMessage,
    received: lapin::message::Delivery,
    // An acknowledgement belongs to the channel that delivered: this keeps its connection open for as long as there are deliveries of it.
    _connection: Arc<Connection>,
}

impl Delivery {
    /// Tells the broker that the message has served. On a connection that broke meanwhile this does nothing: the broker has given the
    /// message to somebody else, who will find the task taken.
    pub async fn ack(self) {
        if let Err(error) = self.received.ack(BasicAckOptions::default()).await {
            tracing::debug!(error = %error, "acknowledgement came too late");
        }
    }
}

/// A subscription to the queue of one kind of task.
pub struct Consumer {
    options: BrokerOptions,
    topology: Topology,
    kind: JobKind,
    prefetch: u16,
    sender: mpsc::Sender<Delivery>,
    stop: CancellationToken,
}

impl Consumer {
    /// Subscribes in the background until `stop`. At most `prefetch` messages are unacknowledged at any time. A broken connection, a closed
    /// channel or a deleted queue leads to another subscription.
    pub fn start(
        options: BrokerOptions,
        kind: JobKind,
        prefetch: u16,
        stop: CancellationToken,
    ) -> mpsc::Receiver<Delivery> {
        let (sender, receiver) = mpsc::channel(1);
        let topology = Topology::new(&options.namespace);
        tokio::spawn(Self { options, topology, kind, prefetch, sender, stop }.run());
        receiver
    }

    async fn run(self) {
        let mut failures = 0;
        while !self.stop.is_cancelled() && !self.sender.is_closed() {
            let error = match self.subscribe(&mut failures).await {
                Ok(()) => continue,
                Err(error) => error,
            };
            failures += 1;
            let wait = BACKOFF.delay(failures, &mut rand::rng());
            tracing::warn!(
                error = %error,
                queue = self.topology.queue(self.kind),
                retry.seconds = wait.as_secs_f64(),
                "subscription lost"
            );
            metrics::counter!("perito_subscriptions_lost_total", "kind" => self.kind.as_str()).increment(1);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.stop.cancelled() => {}
            }
        }
    }

    /// One subscription, until it is stopped (`Ok`) or breaks.
    async fn subscribe(&self, failures: &mut u32) -> Result<()> {
        let (connection, channel) = tokio::select! {
            connected = self.options.connect("consumer") => connected?,
            () = self.stop.cancelled() => return Ok(()),
        };
        let connection = Arc::new(connection);
        let queue = self.topology.queue(self.kind);
        let lost = |error: &lapin::Error| Error::during(&format!("consume from {queue}"), error);
        let subscribing = async {
            channel.basic_qos(self.prefetch, BasicQosOptions::default()).await?;
            channel
                .basic_consume(queue.as_str().into(), TAG.into(), BasicConsumeOptions::default(), FieldTable::default())
                .await
        };
        let mut deliveries = tokio::time::timeout(self.options.timeout, subscribing)
            .await
            .map_err(|_| Error::new(crate::ErrorKind::Timeout, format!("consume from {queue}: no answer")))?
            .map_err(|error| lost(&error))?;
        *failures = 0;
        tracing::debug!(queue, prefetch = self.prefetch, "subscribed");
        loop {
            let delivery = tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                () = self.sender.closed() => break,
                delivery = deliveries.next() => delivery,
            };
            match delivery {
                Some(Ok(delivery)) => {
                    if let Some(undelivered) = self.hand_on(delivery, &connection).await {
                        give_back(&undelivered.received).await;
                        break;
                    }
                }
                Some(Err(error)) => return Err(lost(&error)),
                // The broker cancelled the subscription: its queue was deleted, or moved.
                None => {
                    return Err(Error::new(
                        crate::ErrorKind::Unavailable,
                        format!("consume from {queue}: cancelled by the broker"),
                    ));
                }
            }
        }
        // What the broker has sent already goes back at once, and not only when the last delivery of this connection is done.
        if channel.basic_cancel(TAG.into(), BasicCancelOptions::default()).await.is_ok() {
            while let Ok(Some(Ok(delivery))) = tokio::time::timeout(self.options.timeout, deliveries.next()).await {
                give_back(&delivery).await;
            }
        }
        Ok(())
    }

    /// Hands a readable message to the receiver. What is returned could not be handed on any more.
    async fn hand_on(&self, delivery: lapin::message::Delivery, connection: &Arc<Connection>) -> Option<Delivery> {
        let message = v1::TaskMessage::decode(delivery.data.as_slice())
            .map_err(|error| error.to_string())
            .and_then(|wire| TaskMessage::try_from(wire).map_err(|error| error.to_string()));
        let message = match message {
            Ok(message) => message,
            Err(reason) => {
                tracing::error!(reason, message.bytes = delivery.data.len(), "message goes to the dead-letter queue");
                metrics::counter!("perito_messages_dead_lettered_total", "kind" => self.kind.as_str()).increment(1);
                // If this fails the connection is broken, and the message comes again.
                let _ = delivery.reject(BasicRejectOptions { requeue: false }).await;
                return None;
            }
        };
        let delivery = Delivery { message, received: delivery, _connection: Arc::clone(connection) };
        tokio::select! {
            permit = self.sender.reserve() => match permit {
                Ok(permit) => {
                    permit.send(delivery);
                    None
                }
                Err(_) => Some(delivery),
            },
            () = self.stop.cancelled() => Some(delivery),
        }
    }
}

async fn give_back(received: &lapin::message::Delivery) {
    // If this fails the connection is broken, and the broker takes the message back by itself.
    let _ = received.nack(BasicNackOptions { requeue: true, ..Default::default() }).await;
}
