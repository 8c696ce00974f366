//! Messages in, for ever: after the loss of a connection, the close of a channel or the deletion of a queue, it subscribes
//! again.

use std::sync::Arc;

use futures::StreamExt;
use lapin::{
    Channel,
    message::Delivery as Raw,
    options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions},
    types::{FieldTable, ShortString},
};
use perito_domain::lifecycle::JobKind;
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    connection::{BACKOFF, Connector},
    delivery::{Delivery, give_back, to_dead_letters},
    error::{Error, ErrorKind, Result, within},
    feed::{Feed, StoreEvents, Tasks},
    options::BrokerOptions,
    topology::{Topology, name},
};

/// Consumes task messages over one connection, made when it is first needed and again whenever it was lost. Clones share it.
#[derive(Clone)]
pub struct Consumer {
    connector: Arc<Connector>,
}

impl Consumer {
    /// A consumer; nothing is received yet.
    pub fn new(options: BrokerOptions) -> Self {
        Self { connector: Arc::new(Connector::new(options, "perito-consumer")) }
    }

    /// Receives messages of these kinds until `stop` is cancelled or the receiver is dropped. At most `prefetch` messages of each
    /// kind (at least 1) are in hand and unsettled at any time.
    ///
    /// Messages that were received but not handed out when it stops are given back at once. Those that were handed out can still
    /// be acknowledged.
    pub fn start(&self, kinds: &[JobKind], prefetch: u16, stop: CancellationToken) -> mpsc::Receiver<Delivery> {
        let (sender, receiver) = mpsc::channel(1);
        for kind in kinds.iter().copied() {
            self.subscribe(Tasks(kind), prefetch, &sender, &stop);
        }
        receiver
    }

    /// Receives the events of an object store, as they were published, likewise.
    pub fn start_store_events(&self, prefetch: u16, stop: CancellationToken) -> mpsc::Receiver<Delivery<Vec<u8>>> {
        let (sender, receiver) = mpsc::channel(1);
        self.subscribe(StoreEvents, prefetch, &sender, &stop);
        receiver
    }

    fn subscribe<F: Feed>(
        &self,
        feed: F,
        prefetch: u16,
        sender: &mpsc::Sender<Delivery<F::Message>>,
        stop: &CancellationToken,
    ) {
        let subscription = Subscription {
            connector: Arc::clone(&self.connector),
            feed,
            prefetch: prefetch.max(1),
            sender: sender.clone(),
            stop: stop.clone(),
        };
        tokio::spawn(subscription.run());
    }
}

const RECEIVE: &str = "receive a message";

/// Feeds one receiver from one queue.
struct Subscription<F: Feed> {
    connector: Arc<Connector>,
    feed: F,
    prefetch: u16,
    sender: mpsc::Sender<Delivery<F::Message>>,
    stop: CancellationToken,
}

/// Why a subscription ended.
enum End {
    /// Nobody wants more.
    Stopped,
    /// The broker ended it, or the connection to it did.
    Lost(Error),
    /// Nothing came for a while. It may be as it should; but a RabbitMQ (3.10) whose queue is deleted and made again at once keeps
    /// silent for ever, with messages that it thinks are here. A new channel gets those, and shows whether the connection lives.
    Stale,
}

impl<F: Feed> Subscription<F> {
    async fn run(self) {
        let mut failures = 0;
        let mut reported = String::new();
        loop {
            let subscribed = tokio::select! {
                () = self.stop.cancelled() => return,
                () = self.sender.closed() => return,
                subscribed = self.subscribe() => subscribed,
            };
            let error = match subscribed {
                Ok((channel, consumer)) => {
                    tracing::debug!(queue.kind = self.feed.kind(), "consuming");
                    if !reported.is_empty() {
                        tracing::info!(queue.kind = self.feed.kind(), consumer.failures = failures, "consuming again");
                        reported.clear();
                    }
                    failures = 0;
                    match self.forward(&channel, consumer).await {
                        End::Stopped => return,
                        End::Lost(error) => error,
                        End::Stale => continue,
                    }
                }
                Err(error) => error,
            };
            failures += 1;
            metrics::counter!("perito_consumer_losses_total", "kind" => self.feed.kind()).increment(1);
            let message = error.to_string();
            if message != reported {
                tracing::warn!(
                    queue.kind = self.feed.kind(),
                    error.message = message,
                    "not consuming, will go on trying"
                );
                reported = message;
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = self.sender.closed() => return,
                () = tokio::time::sleep(BACKOFF.delay(failures, &mut rand::rng())) => {}
            }
        }
    }

    async fn subscribe(&self) -> Result<(Arc<Channel>, lapin::Consumer)> {
        let options = self.connector.options();
        let limit = options.request_timeout;
        let topology = Topology::new(&options.namespace)?;
        let channel = self.connector.channel(&topology).await?;
        within(limit, "limit unsettled messages", channel.basic_qos(self.prefetch, BasicQosOptions::default())).await?;
        within(limit, "declare a queue", self.feed.declare(&topology, &channel)).await?;
        let queue = name(self.feed.queue(&topology));
        let consume =
            channel.basic_consume(queue, ShortString::default(), BasicConsumeOptions::default(), FieldTable::default());
        let consumer = within(limit, "consume a queue", consume).await?;
        Ok((Arc::new(channel), consumer))
    }

    async fn forward(&self, channel: &Arc<Channel>, mut consumer: lapin::Consumer) -> End {
        let renew_after = self.connector.options().renew_after;
        let end = loop {
            let raw = tokio::select! {
                biased;
                () = self.stop.cancelled() => break End::Stopped,
                () = self.sender.closed() => break End::Stopped,
                next = consumer.next() => match next {
                    Some(Ok(raw)) => raw,
                    Some(Err(error)) => return End::Lost(Error::client(RECEIVE, &error)),
                    None => return End::Lost(Error::new(
                        ErrorKind::Unavailable,
                        RECEIVE,
                        "RabbitMQ ended the subscription, as when a queue is deleted",
                    )),
                },
                () = tokio::time::sleep(renew_after) => {
                    // Each message in hand has a share in the channel, and counts against the limit of that channel only.
                    if Arc::strong_count(channel) == 1 {
                        break End::Stale;
                    }
                    continue;
                }
            };
            let message = match self.feed.read(&raw.data) {
                Ok(message) => message,
                Err(reason) => {
                    self.refuse(&raw, &reason).await;
                    continue;
                }
            };
            metrics::counter!("perito_messages_received_total", "kind" => self.feed.kind()).increment(1);
            let delivery = Delivery::new(message, raw.acker, Arc::clone(channel), self.stop.clone());
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break End::Stopped,
                sent = self.sender.send(delivery) => if sent.is_err() { break End::Stopped },
            }
        };
        self.unsubscribe(channel, consumer).await;
        end
    }

    /// To the dead-letter queue.
    async fn refuse(&self, raw: &Raw, reason: &str) {
        metrics::counter!("perito_messages_dead_lettered_total", "kind" => self.feed.kind()).increment(1);
        tracing::warn!(
            queue.kind = self.feed.kind(),
            message.bytes = raw.data.len(),
            error.message = reason,
            "message goes to the dead-letter queue"
        );
        to_dead_letters(&raw.acker).await;
    }

    /// Takes no more and gives back what was received and not handed out. The channel stays open for what was.
    async fn unsubscribe(&self, channel: &Channel, mut consumer: lapin::Consumer) {
        let limit = self.connector.options().request_timeout;
        let cancel = channel.basic_cancel(consumer.tag(), BasicCancelOptions::default());
        if within(limit, "stop consuming", cancel).await.is_ok() {
            // The stream ends by itself once the broker has agreed.
            while let Ok(Some(Ok(raw))) = timeout(limit, consumer.next()).await {
                give_back(&raw.acker).await;
            }
        }
    }
}
