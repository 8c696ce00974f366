//! Messages out, each confirmed or an error.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use futures::future::join_all;
use lapin::{
    BasicProperties, Channel, Confirmation, Connection,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use perito_domain::{lifecycle::JobKind, message::TaskMessage};
use perito_proto::v1;
use prost::Message;
use tokio::time::{Instant, timeout_at};

use crate::{
    connection::Connector,
    error::{Error, ErrorKind, Result, within},
    options::BrokerOptions,
    topology::{self, Topology},
};

/// AMQP's mark of a message that survives a restart of the broker.
const PERSISTENT: u8 = 2;

/// Publishes task messages over one connection, made when it is first needed and again whenever it was lost. Clones share it.
#[derive(Clone)]
pub struct Publisher(Arc<Inner>);

struct Inner {
    connector: Connector,
    /// Channels that nobody uses now. A batch has one to itself, so that what one batch meets never reaches another.
    idle: Mutex<Vec<Channel>>,
}

/// What one user of the connection needs.
struct Loan {
    connection: Arc<Connection>,
    topology: Topology,
    channel: Channel,
}

impl Publisher {
    /// A publisher; nothing is sent yet.
    pub fn new(options: BrokerOptions) -> Self {
        Self(Arc::new(Inner { connector: Connector::new(options, "perito-publisher"), idle: Mutex::default() }))
    }

    /// Publishes messages, and says for each whether the broker holds it now, in bounded time.
    ///
    /// A message that was not confirmed may nevertheless have arrived.
    ///
    /// # Errors
    /// For each message: [`ErrorKind::Unroutable`] when no queue took it, and the kinds of every operation.
    pub async fn publish(&self, messages: &[TaskMessage]) -> Vec<Result<()>> {
        if messages.is_empty() {
            return Vec::new();
        }
        let Loan { connection, topology, channel } = match self.checkout().await {
            Ok(loan) => loan,
            Err(error) => return vec![Err(error); messages.len()],
        };
        let started = Instant::now();
        let limit = self.0.connector.options().publish_timeout;
        let exchange = topology.exchange();
        let published = join_all(messages.iter().map(async |message| {
            match timeout_at(started + limit, publish_one(&channel, &exchange, message)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(Error::late("publish a message", limit)),
            }
        }))
        .await;
        metrics::histogram!("perito_publish_seconds").record(started.elapsed());

        // The client hands a returned message to some confirmation of the channel, not always its own.
        let returned: HashSet<&str> =
            published.iter().filter_map(|outcome| outcome.as_ref().ok()?.as_deref()).collect();
        let outcomes: Vec<Result<()>> = messages
            .iter()
            .zip(&published)
            .map(|(message, outcome)| match outcome {
                Err(error) => Err(error.clone()),
                Ok(_) if returned.contains(message_id(message).as_str()) => Err(Error::new(
                    ErrorKind::Unroutable,
                    "publish a message",
                    format!(
                        "no queue takes it; {} is declared again before the next one",
                        topology.queue(message.kind)
                    ),
                )),
                Ok(_) => Ok(()),
            })
            .collect();
        for (message, outcome) in messages.iter().zip(&outcomes) {
            let label = if outcome.is_ok() { "confirmed" } else { "failed" };
            metrics::counter!("perito_messages_published_total", "kind" => message.kind.as_str(), "outcome" => label)
                .increment(1);
        }
        if outcomes.iter().all(Result::is_ok) {
            self.checkin(channel);
        } else {
            self.distrust(&connection, &outcomes).await;
        }
        outcomes
    }

    /// How many messages wait in a queue for a worker.
    ///
    /// # Errors
    /// The kinds of every operation.
    pub async fn ready(&self, kind: JobKind) -> Result<u64> {
        self.count(|topology| topology.queue(kind)).await
    }

    /// How many messages nobody could read: they wait for a person.
    ///
    /// # Errors
    /// The kinds of every operation.
    pub async fn dead_letters(&self) -> Result<u64> {
        self.count(Topology::dead_letter).await
    }

    async fn count(&self, queue: impl FnOnce(&Topology) -> String) -> Result<u64> {
        let Loan { connection, topology, channel } = self.checkout().await?;
        let limit = self.0.connector.options().request_timeout;
        let counting = topology::ready(&channel, queue(&topology));
        let answer = within(limit, "count the messages in a queue", counting).await;
        if answer.is_ok() {
            self.checkin(channel);
        } else {
            self.distrust(&connection, std::slice::from_ref(&answer)).await;
        }
        answer
    }

    /// Whether the broker answers and takes messages.
    ///
    /// # Errors
    /// The kinds of every operation.
    pub async fn ping(&self) -> Result<()> {
        self.ready(JobKind::Score).await.map(drop)
    }

    async fn checkout(&self) -> Result<Loan> {
        let connector = &self.0.connector;
        let topology = Topology::new(&connector.options().namespace)?;
        let connection = connector.connection().await?;
        if connection.status().blocked() {
            // The client would hold everything back, and this batch until its timeout.
            return Err(Error::new(
                ErrorKind::Unavailable,
                "publish a message",
                "RabbitMQ holds publishers back: it is short of memory or disk space",
            ));
        }
        while let Some(channel) = self.pop() {
            if channel.status().connected() {
                return Ok(Loan { connection, topology, channel });
            }
        }
        let channel = connector.channel(&topology).await?;
        let confirm = channel.confirm_select(ConfirmSelectOptions::default());
        within(connector.options().request_timeout, "ask for confirmations", confirm).await?;
        Ok(Loan { connection, topology, channel })
    }

    fn pop(&self) -> Option<Channel> {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn checkin(&self, channel: Channel) {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner).push(channel);
    }

    /// After a failure: the next batch gets a new channel, with exchanges and queues declared again; and a new connection,
    /// if this one does not answer.
    async fn distrust<T>(&self, connection: &Arc<Connection>, outcomes: &[Result<T>]) {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let unavailable = |outcome: &Result<T>| matches!(outcome, Err(error) if error.kind() == ErrorKind::Unavailable);
        // A connection that is held back says so, and is kept for the day when it is not.
        if outcomes.iter().any(unavailable) && !connection.status().blocked() {
            self.0.connector.discard(connection).await;
        }
    }
}

/// The id of a returned message, if this or another message of the batch came back.
async fn publish_one(channel: &Channel, exchange: &str, message: &TaskMessage) -> Result<Option<String>> {
    const OPERATION: &str = "publish a message";
    let properties = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_content_type("application/x-protobuf".into())
        .with_type("perito.v1.TaskMessage".into())
        .with_message_id(message_id(message).into());
    let bytes = v1::TaskMessage::from(message.clone()).encode_to_vec();
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    let confirmation = channel
        .basic_publish(exchange.into(), message.kind.as_str().into(), options, &bytes, properties)
        .await
        .map_err(|error| Error::client(OPERATION, &error))?
        .await
        .map_err(|error| Error::client(OPERATION, &error))?;
    match confirmation {
        Confirmation::Ack(returned) => {
            Ok(returned.and_then(|message| message.properties.message_id().as_ref().map(ToString::to_string)))
        }
        Confirmation::Nack(_) => Err(Error::new(ErrorKind::Unavailable, OPERATION, "RabbitMQ could not store it")),
        Confirmation::NotRequested => {
            Err(Error::new(ErrorKind::Unavailable, OPERATION, "the channel gives no confirmations"))
        }
    }
}

fn message_id(message: &TaskMessage) -> String {
    message.task_id.to_string()
}
