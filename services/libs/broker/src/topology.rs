//! Exchanges and queues, and the options to reach them.
//!
//! ```text
//! NS.tasks (direct) --kind--> NS.train, NS.score, NS.evaluate (quorum queues)
//!                                     | rejected
//!                                     v
//! NS.dead-letter (fanout) --> NS.dead-letter (quorum queue)
//! ```

use std::{fmt, time::Duration};

use lapin::{
    Channel, Connection, ConnectionProperties, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use perito_domain::lifecycle::JobKind;

use crate::error::{Error, ErrorKind, Result};

/// How to reach RabbitMQ.
#[derive(Clone)]
pub struct BrokerOptions {
    /// `amqp://USER:PASSWORD@HOST:PORT/VHOST`
    pub url: String,
    /// The first part of the names of queues and exchanges.
    pub namespace: String,
    /// How long connecting, or any one operation, may take.
    pub timeout: Duration,
}

impl BrokerOptions {
    /// Options with the usual timeout.
    pub fn new(url: impl Into<String>, namespace: impl Into<String>) -> Self {
        Self { url: url.into(), namespace: namespace.into(), timeout: Duration::from_secs(5) }
    }

    /// Connects and declares what is missing.
    pub(crate) async fn connect(&self, role: &str) -> Result<(Connection, Channel)> {
        let name = format!("perito {role}");
        let properties = ConnectionProperties::default().with_connection_name(name.as_str().into());
        let connecting = async {
            let connection = Connection::connect(&self.url, properties)
                .await
                .map_err(|error| Error::during(&self.place(), &error))?;
            let channel = connection.create_channel().await.map_err(|error| Error::during("open a channel", &error))?;
            Topology::new(&self.namespace).declare(&channel).await?;
            Ok((connection, channel))
        };
        tokio::time::timeout(self.timeout, connecting).await.unwrap_or_else(|_| {
            let seconds = self.timeout.as_secs_f64();
            Err(Error::new(ErrorKind::Timeout, format!("{}: no answer within {seconds} s", self.place())))
        })
    }

    /// Where the broker is, without user and password.
    fn place(&self) -> String {
        let place = self.url.rsplit_once('@').map_or("the given URL (PERITO_AMQP_URL)", |(_, place)| place);
        format!("connect to RabbitMQ at {place}")
    }
}

impl fmt::Debug for BrokerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrokerOptions").field("url", &"***").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

/// The names of exchanges and queues.
#[derive(Debug, Clone)]
pub struct Topology {
    namespace: String,
}

impl Topology {
    /// The names in a namespace.
    pub fn new(namespace: &str) -> Self {
        Self { namespace: namespace.to_owned() }
    }

    /// The exchange that task messages go to, with the kind as routing key.
    pub fn exchange(&self) -> String {
        format!("{}.tasks", self.namespace)
    }

    /// The queue of one kind of task.
    pub fn queue(&self, kind: JobKind) -> String {
        format!("{}.{kind}", self.namespace)
    }

    /// The exchange and the queue for messages that nobody can read.
    pub fn dead_letter(&self) -> String {
        format!("{}.dead-letter", self.namespace)
    }

    /// Declares everything. What exists stays as it is.
    pub(crate) async fn declare(&self, channel: &Channel) -> Result<()> {
        let dead_letter = self.dead_letter();
        self.declare_exchange(channel, &dead_letter, ExchangeKind::Fanout).await?;
        self.declare_queue(channel, &dead_letter, None).await?;
        self.bind(channel, &dead_letter, &dead_letter, "").await?;
        let tasks = self.exchange();
        self.declare_exchange(channel, &tasks, ExchangeKind::Direct).await?;
        for kind in JobKind::ALL {
            let queue = self.queue(*kind);
            self.declare_queue(channel, &queue, Some(&dead_letter)).await?;
            self.bind(channel, &queue, &tasks, kind.as_str()).await?;
        }
        Ok(())
    }

    async fn declare_exchange(&self, channel: &Channel, name: &str, kind: ExchangeKind) -> Result<()> {
        let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
        channel
            .exchange_declare(name.into(), kind, options, FieldTable::default())
            .await
            .map_err(|error| Error::during(&format!("declare the exchange {name}"), &error))
    }

    async fn declare_queue(&self, channel: &Channel, name: &str, dead_letter: Option<&str>) -> Result<()> {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        if let Some(exchange) = dead_letter {
            arguments.insert("x-dead-letter-exchange".into(), AMQPValue::LongString(exchange.into()));
        }
        channel
            .queue_declare(name.into(), QueueDeclareOptions::durable(), arguments)
            .await
            .map(|_| ())
            .map_err(|error| Error::during(&format!("declare the queue {name}"), &error))
    }

    async fn bind(&self, channel: &Channel, queue: &str, exchange: &str, routing_key: &str) -> Result<()> {
        channel
            .queue_bind(
                queue.into(),
                exchange.into(),
                routing_key.into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await
            .map_err(|error| Error::during(&format!("bind the queue {queue}"), &error))
    }
}
