//! Messages out: persistent, mandatory, confirmed, in bounded time.

use std::sync::Arc;

use futures::future::join_all;
use lapin::{
    BasicProperties, Channel, Confirmation, Connection,
    options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::FieldTable,
};
use perito_domain::{lifecycle::JobKind, message::TaskMessage};
use perito_proto::v1;
use prost::Message;
use tokio::sync::Mutex;

use crate::{
    error::{Error, ErrorKind, Result},
    topology::{BrokerOptions, Topology},
};

/// AMQP's delivery mode for messages that survive a restart of the broker.
const PERSISTENT: u8 = 2;

/// One connection for publishing and for looking at queues. It is made when it is first needed, and made again when it broke;
/// clones share it.
#[derive(Clone)]
pub struct Publisher {
    options: BrokerOptions,
    topology: Topology,
    live: Arc<Mutex<Option<Live>>>,
}

/// Dropping it closes the connection.
struct Live {
    _connection: Connection,
    channel: Channel,
}

impl Publisher {
    /// Connects to nothing yet.
    pub fn new(options: BrokerOptions) -> Self {
        let topology = Topology::new(&options.namespace);
        Self { options, topology, live: Arc::default() }
    }

    /// Publishes messages, each to the queue of its kind. For each, in order: whether the broker has taken responsibility for it.
    ///
    /// # Errors
    /// Per message: `Unroutable` when its queue is gone, `Refused`, `Timeout`, `Unavailable`.
    pub async fn publish(&self, messages: &[TaskMessage]) -> Vec<Result<()>> {
        let channel = match self.channel().await {
            Ok(channel) => channel,
            Err(error) => {
                let text = error.to_string();
                return messages.iter().map(|_| Err(Error::new(error.kind(), text.clone()))).collect();
            }
        };
        let outcomes = join_all(messages.iter().map(|message| self.publish_one(&channel, message))).await;
        // A queue that vanished is declared anew with the next connection, as is a channel that hangs.
        if outcomes.iter().any(|outcome| outcome.as_ref().is_err_and(|error| error.kind() != ErrorKind::Refused)) {
            *self.live.lock().await = None;
        }
        outcomes
    }

    async fn publish_one(&self, channel: &Channel, message: &TaskMessage) -> Result<()> {
        let body = v1::TaskMessage::from(message.clone()).encode_to_vec();
        let properties = BasicProperties::default()
            .with_delivery_mode(PERSISTENT)
            .with_content_type("application/x-protobuf".into())
            .with_type("perito.v1.TaskMessage".into())
            .with_message_id(message.task_id.to_string().as_str().into());
        let publishing = async {
            let confirmed = channel
                .basic_publish(
                    self.topology.exchange().as_str().into(),
                    message.kind.as_str().into(),
                    BasicPublishOptions { mandatory: true, ..Default::default() },
                    &body,
                    properties,
                )
                .await
                .map_err(|error| Error::during("publish a message", &error))?;
            confirmed.await.map_err(|error| Error::during("await the broker's confirm", &error))
        };
        match tokio::time::timeout(self.options.timeout, publishing).await {
            Ok(Ok(Confirmation::Ack(None))) => Ok(()),
            // An unroutable message is returned and confirmed all the same.
            Ok(Ok(Confirmation::Ack(Some(_)))) => {
                let queue = self.topology.queue(message.kind);
                Err(Error::new(ErrorKind::Unroutable, format!("the queue {queue} does not take messages: is it gone?")))
            }
            Ok(Ok(Confirmation::Nack(_) | Confirmation::NotRequested)) => {
                Err(Error::new(ErrorKind::Refused, "the broker refused a message"))
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(Error::new(
                ErrorKind::Timeout,
                format!("the broker confirmed nothing within {} s", self.options.timeout.as_secs_f64()),
            )),
        }
    }

    /// How many messages wait in the queue of a kind, not counting those that consumers hold.
    ///
    /// # Errors
    /// `Unavailable`, `Timeout`.
    pub async fn ready(&self, kind: JobKind) -> Result<u64> {
        let channel = self.channel().await?;
        let queue = self.topology.queue(kind);
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
        let asking = channel.queue_declare(queue.as_str().into(), options, FieldTable::default());
        let answer = match tokio::time::timeout(self.options.timeout, asking).await {
            Ok(Ok(answer)) => Ok(u64::from(answer.message_count())),
            Ok(Err(error)) => Err(Error::during(&format!("look at the queue {queue}"), &error)),
            Err(_) => Err(Error::new(ErrorKind::Timeout, format!("look at the queue {queue}: no answer"))),
        };
        if answer.is_err() {
            // The broker closes a channel that asks for a queue that is gone.
            *self.live.lock().await = None;
        }
        answer
    }

    /// Asks the broker for an answer.
    ///
    /// # Errors
    /// `Unavailable`, `Timeout`.
    pub async fn ping(&self) -> Result<()> {
        self.ready(JobKind::Score).await.map(|_| ())
    }

    async fn channel(&self) -> Result<Channel> {
        let mut live = self.live.lock().await;
        if let Some(live) = live.as_ref().filter(|live| live.channel.status().connected()) {
            return Ok(live.channel.clone());
        }
        *live = None;
        let (connection, channel) = self.options.connect("publisher").await?;
        tokio::time::timeout(self.options.timeout, channel.confirm_select(ConfirmSelectOptions::default()))
            .await
            .map_err(|_| Error::new(ErrorKind::Timeout, "turn on confirms: no answer"))?
            .map_err(|error| Error::during("turn on confirms", &error))?;
        *live = Some(Live { _connection: connection, channel: channel.clone() });
        Ok(channel)
    }
}
