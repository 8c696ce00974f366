//! Names and arguments of exchanges and queues.
//!
//! | name | what it is |
//! |---|---|
//! | `{namespace}.tasks` | direct exchange; the routing key is the kind of task |
//! | `{namespace}.train`, `.score`, `.evaluate` | quorum queues, one for each kind |
//! | `{namespace}.dead-letter` | fanout exchange, and the quorum queue behind it, for what no build of this release can read |
//! | `{namespace}.s3-events` | fanout exchange to which an object store publishes, and the quorum queue behind it; made by whoever consumes it |
//! | `{namespace}.s3-events.dead-letter` | likewise, for events that cannot be acted on |
//!
//! Only arguments that RabbitMQ 3.10 and 4.x take alike: quorum queues know no priorities, and their delivery limit differs
//! between versions (none, then 20), so nothing relies on a message being requeued: retries are Postgres' business.

use lapin::{
    Channel, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, ShortString},
};
use perito_domain::{
    lifecycle::JobKind,
    limits::{MAX_DEAD_LETTERS, MAX_NAMESPACE_BYTES, MAX_STORE_EVENTS},
};

use crate::error::{Error, ErrorKind, Result};

/// The names within one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    namespace: String,
}

impl Topology {
    /// The names within `namespace`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when it is not 1 to 128 letters, digits, `.`, `-` or `_`.
    pub fn new(namespace: &str) -> Result<Self> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if namespace.is_empty() || namespace.len() > MAX_NAMESPACE_BYTES || !namespace.chars().all(allowed) {
            return Err(Error::new(
                ErrorKind::Invalid,
                "read the broker namespace",
                format!("{namespace:?} is not 1 to {MAX_NAMESPACE_BYTES} of a-z A-Z 0-9 . - _"),
            ));
        }
        Ok(Self { namespace: namespace.to_owned() })
    }

    /// The exchange that takes task messages.
    pub fn exchange(&self) -> String {
        format!("{}.tasks", self.namespace)
    }

    /// The queue of a kind of task.
    pub fn queue(&self, kind: JobKind) -> String {
        format!("{}.{kind}", self.namespace)
    }

    /// The exchange, and the queue, for messages that cannot be acted on.
    pub fn dead_letter(&self) -> String {
        format!("{}.dead-letter", self.namespace)
    }

    /// The exchange to which an object store publishes its events, and the queue behind it.
    pub fn store_events(&self) -> String {
        format!("{}.s3-events", self.namespace)
    }

    /// The exchange, and the queue, for events that cannot be acted on.
    pub fn store_events_dead_letter(&self) -> String {
        format!("{}.s3-events.dead-letter", self.namespace)
    }

    /// Makes what is missing for events of an object store. Doing it twice changes nothing.
    pub(crate) async fn declare_store_events(&self, channel: &Channel) -> lapin::Result<()> {
        let text = |text: String| AMQPValue::LongString(text.into());
        let dead = self.store_events_dead_letter();
        let limit = |most| ("x-max-length", AMQPValue::LongLongInt(most));
        self.declare_fanout(channel, name(dead.clone()), [limit(MAX_DEAD_LETTERS)]).await?;
        let arguments = [
            limit(MAX_STORE_EVENTS),
            ("x-overflow", text("reject-publish".to_owned())),
            ("x-dead-letter-exchange", text(dead)),
            // Out of this queue only once it is in the other one.
            ("x-dead-letter-strategy", text("at-least-once".to_owned())),
        ];
        self.declare_fanout(channel, name(self.store_events()), arguments).await
    }

    /// A fanout exchange and the queue of the same name behind it.
    async fn declare_fanout<const N: usize>(
        &self,
        channel: &Channel,
        both: ShortString,
        arguments: [(&str, AMQPValue); N],
    ) -> lapin::Result<()> {
        let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
        channel.exchange_declare(both.clone(), ExchangeKind::Fanout, durable, FieldTable::default()).await?;
        self.declare_queue(channel, both.clone(), arguments).await?;
        self.bind(channel, both.clone(), both, ShortString::default()).await
    }

    /// Makes what is missing. Doing it twice changes nothing.
    pub(crate) async fn declare(&self, channel: &Channel) -> lapin::Result<()> {
        let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let limit = [("x-max-length", AMQPValue::LongLongInt(MAX_DEAD_LETTERS))];
        self.declare_fanout(channel, name(self.dead_letter()), limit).await?;
        let tasks = name(self.exchange());
        channel.exchange_declare(tasks.clone(), ExchangeKind::Direct, durable, FieldTable::default()).await?;
        for kind in JobKind::ALL {
            let queue = name(self.queue(*kind));
            let to_dead = [("x-dead-letter-exchange", AMQPValue::LongString(self.dead_letter().into()))];
            self.declare_queue(channel, queue.clone(), to_dead).await?;
            self.bind(channel, queue, tasks.clone(), kind.as_str().into()).await?;
        }
        Ok(())
    }

    async fn declare_queue<const N: usize>(
        &self,
        channel: &Channel,
        queue: ShortString,
        arguments: [(&str, AMQPValue); N],
    ) -> lapin::Result<()> {
        let mut table = FieldTable::default();
        table.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        for (argument, value) in arguments {
            table.insert(argument.into(), value);
        }
        let durable = QueueDeclareOptions { durable: true, ..Default::default() };
        channel.queue_declare(queue, durable, table).await.map(drop)
    }

    async fn bind(
        &self,
        channel: &Channel,
        queue: ShortString,
        exchange: ShortString,
        routing_key: ShortString,
    ) -> lapin::Result<()> {
        channel.queue_bind(queue, exchange, routing_key, QueueBindOptions::default(), FieldTable::default()).await
    }
}

/// How many messages wait in a queue.
pub(crate) async fn ready(channel: &Channel, queue: String) -> lapin::Result<u64> {
    let passive = QueueDeclareOptions { passive: true, ..Default::default() };
    let queue = channel.queue_declare(name(queue), passive, FieldTable::default()).await?;
    Ok(u64::from(queue.message_count()))
}

/// Cannot fail: a namespace is short.
pub(crate) fn name(text: String) -> ShortString {
    text.into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_start_with_the_namespace() {
        let topology = Topology::new("night-1").unwrap();
        assert_eq!(topology.exchange(), "night-1.tasks");
        assert_eq!(topology.queue(JobKind::Score), "night-1.score");
        assert_eq!(topology.dead_letter(), "night-1.dead-letter");
        assert_eq!(topology.store_events(), "night-1.s3-events");
    }

    #[test]
    fn odd_namespaces_are_refused() {
        for namespace in ["", "a b", "ä", "a/b", &"a".repeat(129)] {
            let error = Topology::new(namespace).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
        }
    }
}
