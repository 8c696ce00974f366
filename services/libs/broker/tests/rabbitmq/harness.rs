//! A namespace for one test, removed at its end, and a look behind the scenes.

use std::time::Duration;

use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{BasicGetOptions, BasicPublishOptions, ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions},
    types::FieldTable,
};
use perito_broker::{BrokerOptions, Consumer, Delivery, Publisher, Topology};
use perito_domain::{lifecycle::JobKind, message::TaskMessage};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Longer than anything should take; a test that waits this long fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);
/// Long enough for a message that should not come to come.
pub(crate) const QUIET: Duration = Duration::from_millis(400);

pub(crate) fn url() -> String {
    std::env::var("PERITO_AMQP_URL").expect(
        "these tests need RabbitMQ: run them with `make test`, or start servers with `deploy/local/stack up` \
         and let `eval \"$(deploy/local/stack env)\"` set PERITO_AMQP_URL",
    )
}

/// A namespace that nobody else uses.
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    pub(crate) fn new() -> Self {
        Self { name: format!("test-{}", Uuid::now_v7().simple()) }
    }

    pub(crate) fn topology(&self) -> Topology {
        Topology::new(&self.name).unwrap()
    }

    pub(crate) fn options(&self) -> BrokerOptions {
        self.options_at(&url())
    }

    pub(crate) fn options_at(&self, url: &str) -> BrokerOptions {
        BrokerOptions { renew_after: Duration::from_millis(300), ..BrokerOptions::new(url, &self.name) }
    }

    pub(crate) fn publisher(&self) -> Publisher {
        Publisher::new(self.options())
    }

    pub(crate) fn consume(&self, prefetch: u16) -> Consuming {
        Consuming::start(self.options(), prefetch)
    }

    /// The broker, without the crate under test in between.
    pub(crate) async fn admin(&self) -> Admin {
        Admin { topology: self.topology(), channel: open_channel().await }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let topology = self.topology();
        // A runtime of its own, for the test's may be unwinding.
        let cleaning = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
                let channel = open_channel().await;
                let mut queues: Vec<String> = JobKind::ALL.iter().map(|kind| topology.queue(*kind)).collect();
                queues.push(topology.dead_letter());
                for queue in queues {
                    channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.unwrap();
                }
                for exchange in [topology.exchange(), topology.dead_letter()] {
                    channel.exchange_delete(exchange.into(), ExchangeDeleteOptions::default()).await.unwrap();
                }
            });
        });
        let cleaned = cleaning.join();
        assert!(std::thread::panicking() || cleaned.is_ok(), "the namespace was not removed");
    }
}

async fn open_channel() -> Channel {
    let connection = Connection::connect(&url(), ConnectionProperties::default()).await.unwrap();
    connection.create_channel().await.unwrap()
}

/// Operations that the crate does not offer.
pub(crate) struct Admin {
    topology: Topology,
    channel: Channel,
}

impl Admin {
    pub(crate) async fn delete_queue(&self, kind: JobKind) {
        self.channel.queue_delete(self.topology.queue(kind).into(), QueueDeleteOptions::default()).await.unwrap();
    }

    pub(crate) async fn declare_classic_queue(&self, kind: JobKind) {
        let durable = QueueDeclareOptions { durable: true, ..Default::default() };
        self.channel.queue_declare(self.topology.queue(kind).into(), durable, FieldTable::default()).await.unwrap();
    }

    /// Puts bytes into a queue.
    pub(crate) async fn publish(&self, kind: JobKind, bytes: &[u8]) {
        let (exchange, key) = (self.topology.exchange().into(), kind.as_str().into());
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let publish = self.channel.basic_publish(exchange, key, options, bytes, BasicProperties::default());
        publish.await.unwrap().await.unwrap();
    }

    /// How many messages wait.
    pub(crate) async fn ready(&self, queue: &str) -> u32 {
        let passive = QueueDeclareOptions { passive: true, ..Default::default() };
        self.channel.queue_declare(queue.into(), passive, FieldTable::default()).await.unwrap().message_count()
    }

    /// Waits until this many messages wait.
    pub(crate) async fn wait_for_ready(&self, queue: &str, expected: u32) {
        let wait = async {
            while self.ready(queue).await != expected {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let waited = timeout(PATIENCE, wait).await;
        assert!(waited.is_ok(), "{queue} has {} messages, expected {expected}", self.ready(queue).await);
    }

    /// Takes a message away.
    pub(crate) async fn take(&self, queue: &str) -> lapin::message::BasicGetMessage {
        self.channel.basic_get(queue.into(), BasicGetOptions { no_ack: true }).await.unwrap().expect("a message")
    }
}

/// A consumer of scoring tasks at work.
pub(crate) struct Consuming {
    pub(crate) deliveries: mpsc::Receiver<Delivery>,
    pub(crate) stop: CancellationToken,
    _consumer: Consumer,
}

impl Consuming {
    pub(crate) fn start(options: BrokerOptions, prefetch: u16) -> Self {
        let (consumer, stop) = (Consumer::new(options), CancellationToken::new());
        let deliveries = consumer.start(&[JobKind::Score], prefetch, stop.clone());
        Self { deliveries, stop, _consumer: consumer }
    }

    pub(crate) async fn next(&mut self) -> Delivery {
        timeout(PATIENCE, self.deliveries.recv()).await.expect("no message came").expect("the consumer has ended")
    }

    /// Waits for this message. Earlier ones may come again, for acknowledgements get lost too.
    pub(crate) async fn expect(&mut self, expected: &TaskMessage) {
        loop {
            let delivery = self.next().await;
            let message = delivery.message.clone();
            delivery.ack().await;
            if message == *expected {
                return;
            }
        }
    }

    pub(crate) async fn assert_quiet(&mut self) {
        let came = timeout(QUIET, self.deliveries.recv()).await;
        assert!(came.is_err(), "a message came: {came:?}");
    }
}

pub(crate) fn message(kind: JobKind) -> TaskMessage {
    TaskMessage {
        job_id: Uuid::now_v7(),
        task_id: Uuid::now_v7(),
        kind,
        attempt_hint: 1,
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
    }
}

pub(crate) fn messages(count: usize) -> Vec<TaskMessage> {
    std::iter::repeat_with(|| message(JobKind::Score)).take(count).collect()
}

/// Publishes, insisting.
pub(crate) async fn publish(publisher: &Publisher, messages: &[TaskMessage]) {
    for outcome in publisher.publish(messages).await {
        outcome.unwrap();
    }
}
