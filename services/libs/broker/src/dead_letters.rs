//! What nobody could act on: looked at, sent again or dropped, by a person's hand.
//!
//! Looking takes messages into hand and gives them back, so it loses nothing, whatever dies meanwhile. A message that was given back many
//! times is replaced by a copy of itself first: RabbitMQ 4 drops what exceeds a delivery limit (20 unless told).

use std::{collections::BTreeMap, fmt::Write as _};

use lapin::{
    BasicProperties, Channel, Confirmation,
    message::Delivery as Raw,
    options::{BasicAckOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions},
    protocol::{AMQPErrorKind, AMQPSoftError},
    types::{AMQPValue, FieldTable},
};
use perito_domain::{limits::MAX_LOOKED_THROUGH, message::TaskMessage};
use perito_proto::v1;
use prost::Message as _;
use sha2::{Digest as _, Sha256};

use crate::{
    connection::Connector,
    delivery::give_back,
    error::{Error, ErrorKind, Result, within},
    options::BrokerOptions,
    topology::{Topology, name},
};

/// Half of what RabbitMQ 4 allows.
const MAX_RETURNS: i64 = 10;

/// A message that nobody could act on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Names it: made of what it says and where it was sent, so that copies of one message have one id.
    pub id: String,
    /// The queue in which it waits.
    pub queue: String,
    /// The queue that it came from; unknown when it was published to the dead-letter queue itself.
    pub died_in: Option<String>,
    /// Why it left that queue, in RabbitMQ's words: `rejected`, for one.
    pub reason: Option<String>,
    /// When, in seconds since 1970 (UTC).
    pub died_at: Option<u64>,
    /// The exchange and the routing key that it was published with.
    pub origin: Option<(String, String)>,
    /// All headers, as text.
    pub headers: BTreeMap<String, String>,
    /// What it says.
    pub body: Vec<u8>,
    /// What it means, if this release can read it as a task's message; otherwise why not.
    pub task: std::result::Result<TaskMessage, String>,
}

/// Looks at dead letters over a connection of its own, made when it is first needed. Clones share it.
#[derive(Clone)]
pub struct DeadLetters(std::sync::Arc<Inner>);

struct Inner {
    connector: Connector,
    /// One look at a time: what one has in hand another would not see.
    turn: tokio::sync::Mutex<()>,
}

/// What becomes of a message that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Replay,
    Drop,
}

impl DeadLetters {
    /// Nothing is connected yet.
    pub fn new(options: BrokerOptions) -> Self {
        Self(std::sync::Arc::new(Inner {
            connector: Connector::new(options, "perito-dead-letters"),
            turn: tokio::sync::Mutex::default(),
        }))
    }

    /// The oldest dead letters, at most `limit` of each queue. They stay where they are.
    ///
    /// # Errors
    /// The kinds of every operation.
    pub async fn list(&self, limit: usize) -> Result<Vec<DeadLetter>> {
        let _turn = self.0.turn.lock().await;
        let mut letters = Vec::new();
        for queue in self.queues()? {
            letters.extend(self.look_through(&queue, limit, |_| false).await?.letters);
        }
        Ok(letters)
    }

    /// The dead letter with this id; it stays where it is.
    ///
    /// # Errors
    /// The kinds of every operation.
    pub async fn find(&self, id: &str) -> Result<Option<DeadLetter>> {
        let found = self.list(MAX_LOOKED_THROUGH).await?;
        Ok(found.into_iter().find(|letter| letter.id == id))
    }

    /// Sends the dead letters with this id to where they came from, and removes them once the broker has confirmed that; how many.
    ///
    /// # Errors
    /// `Invalid` when it does not say where it came from, `Unroutable` when that is gone; the message stays where it is.
    pub async fn replay(&self, id: &str) -> Result<usize> {
        self.settle(id, Fate::Replay).await
    }

    /// Removes the dead letters with this id; how many.
    ///
    /// # Errors
    /// The kinds of every operation.
    pub async fn remove(&self, id: &str) -> Result<usize> {
        self.settle(id, Fate::Drop).await
    }

    async fn settle(&self, id: &str, fate: Fate) -> Result<usize> {
        let _turn = self.0.turn.lock().await;
        let mut settled = 0;
        for queue in self.queues()? {
            let mut looked = self.look_through(&queue, MAX_LOOKED_THROUGH, |letter| letter.id == id).await?;
            for (letter, raw) in std::mem::take(&mut looked.taken) {
                let Some(channel) = &looked.channel else { break };
                let sent = match fate {
                    Fate::Drop => Ok(()),
                    Fate::Replay => self.resend(channel, &letter, &raw).await,
                };
                if let Err(error) = sent {
                    give_back(&raw.acker).await;
                    return Err(error);
                }
                self.acknowledge(&raw).await?;
                settled += 1;
            }
        }
        Ok(settled)
    }

    fn queues(&self) -> Result<[String; 2]> {
        let topology = self.topology()?;
        Ok([topology.dead_letter(), topology.store_events_dead_letter()])
    }

    fn topology(&self) -> Result<Topology> {
        Topology::new(&self.0.connector.options().namespace)
    }

    /// Takes messages into hand, gives back those that are not wanted, and keeps those that are.
    async fn look_through(
        &self,
        queue: &str,
        most: usize,
        wanted: impl Fn(&DeadLetter) -> bool,
    ) -> Result<LookedThrough> {
        const OPERATION: &str = "look at dead letters";
        let limit = self.0.connector.options().request_timeout;
        let channel = self.0.connector.channel(&self.topology()?).await?;
        within(limit, "ask for confirmations", channel.confirm_select(ConfirmSelectOptions::default())).await?;
        let mut looked = LookedThrough::default();
        let mut others = Vec::new();
        while looked.letters.len() < most {
            let taken = channel.basic_get(name(queue.to_owned()), BasicGetOptions::default());
            let message = match tokio::time::timeout(limit, taken).await {
                Ok(Ok(message)) => message,
                // Nobody has ever consumed an object store's events here.
                Ok(Err(error)) if is_missing(&error) => return Ok(LookedThrough::default()),
                Ok(Err(error)) => return Err(Error::client(OPERATION, &error)),
                Err(_) => return Err(Error::late(OPERATION, limit)),
            };
            let Some(message) = message else { break };
            let letter = read(queue, &message.delivery);
            if wanted(&letter) {
                looked.taken.push((letter.clone(), message.delivery));
            } else {
                others.push(message.delivery);
            }
            looked.letters.push(letter);
        }
        for raw in others {
            self.put_back(&channel, queue, raw).await?;
        }
        looked.channel = Some(channel);
        Ok(looked)
    }

    async fn put_back(&self, channel: &Channel, queue: &str, raw: Raw) -> Result<()> {
        let returns = raw.properties.headers().as_ref().and_then(|headers| headers.inner().get("x-delivery-count"));
        if returns.and_then(number).is_some_and(|returns| returns >= MAX_RETURNS) {
            let properties = without(raw.properties.clone(), |header| header == "x-delivery-count");
            self.publish(channel, "", queue, &raw.data, properties).await?;
            return self.acknowledge(&raw).await;
        }
        give_back(&raw.acker).await;
        Ok(())
    }

    async fn resend(&self, channel: &Channel, letter: &DeadLetter, raw: &Raw) -> Result<()> {
        let Some((exchange, routing_key)) = &letter.origin else {
            let detail = format!("dead letter {} does not say where it came from: it can only be dropped", letter.id);
            return Err(Error::new(ErrorKind::Invalid, "send a dead letter again", detail));
        };
        let marks = |header: &str| {
            header.starts_with("x-death") || header.starts_with("x-first-death") || header.starts_with("x-last-death")
        };
        let properties = without(raw.properties.clone(), |header| marks(header) || header == "x-delivery-count");
        self.publish(channel, exchange, routing_key, &raw.data, properties).await
    }

    /// Publishes one message, and returns once the broker holds it.
    async fn publish(
        &self,
        channel: &Channel,
        exchange: &str,
        routing_key: &str,
        body: &[u8],
        properties: BasicProperties,
    ) -> Result<()> {
        const OPERATION: &str = "send a dead letter again";
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let publishing = async {
            channel
                .basic_publish(exchange.into(), routing_key.into(), options, body, properties.with_delivery_mode(2))
                .await?
                .await
        };
        match within(self.0.connector.options().publish_timeout, OPERATION, publishing).await? {
            Confirmation::Ack(None) => Ok(()),
            Confirmation::Ack(Some(_)) => {
                let detail =
                    format!("no queue takes it: it came from exchange {exchange:?} with routing key {routing_key:?}");
                Err(Error::new(ErrorKind::Unroutable, OPERATION, detail))
            }
            Confirmation::Nack(_) | Confirmation::NotRequested => {
                Err(Error::new(ErrorKind::Unavailable, OPERATION, "RabbitMQ did not store it"))
            }
        }
    }

    async fn acknowledge(&self, raw: &Raw) -> Result<()> {
        let limit = self.0.connector.options().request_timeout;
        within(limit, "remove a dead letter", raw.acker.ack(BasicAckOptions::default())).await.map(drop)
    }
}

#[derive(Default)]
struct LookedThrough {
    letters: Vec<DeadLetter>,
    taken: Vec<(DeadLetter, Raw)>,
    /// Closing it gives back whatever is still in hand.
    channel: Option<Channel>,
}

fn is_missing(error: &lapin::Error) -> bool {
    matches!(error.kind(), lapin::ErrorKind::ProtocolError(error)
        if matches!(error.kind(), AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND)))
}

fn read(queue: &str, raw: &Raw) -> DeadLetter {
    let headers = raw.properties.headers().clone().unwrap_or_default();
    let death = match headers.inner().get("x-death") {
        Some(AMQPValue::FieldArray(deaths)) => match deaths.as_slice().first() {
            Some(AMQPValue::FieldTable(death)) => death.clone(),
            _ => FieldTable::default(),
        },
        _ => FieldTable::default(),
    };
    let said = |key: &str| death.inner().get(key).map(text);
    let routing_key = match death.inner().get("routing-keys") {
        Some(AMQPValue::FieldArray(keys)) => keys.as_slice().first().map(text),
        _ => None,
    };
    let mut digest = Sha256::new();
    for part in [routing_key.as_deref().unwrap_or_default().as_bytes(), &raw.data] {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    let id = digest.finalize().iter().take(8).fold(String::new(), |mut id, byte| {
        let _ = write!(id, "{byte:02x}");
        id
    });
    DeadLetter {
        id,
        queue: queue.to_owned(),
        died_in: said("queue"),
        reason: said("reason"),
        died_at: match death.inner().get("time") {
            Some(AMQPValue::Timestamp(at)) => Some(*at),
            _ => None,
        },
        origin: said("exchange").zip(routing_key),
        headers: headers.inner().iter().map(|(key, value)| (key.to_string(), text(value))).collect(),
        body: raw.data.clone(),
        task: v1::TaskMessage::decode(raw.data.as_slice())
            .map_err(|error| error.to_string())
            .and_then(|wire| TaskMessage::try_from(wire).map_err(|error| error.to_string())),
    }
}

fn text(value: &AMQPValue) -> String {
    match value {
        AMQPValue::LongString(text) => String::from_utf8_lossy(text.as_bytes()).into_owned(),
        AMQPValue::ShortString(text) => text.to_string(),
        AMQPValue::FieldArray(values) => {
            let values: Vec<String> = values.as_slice().iter().map(text).collect();
            format!("[{}]", values.join(", "))
        }
        AMQPValue::FieldTable(table) => {
            let fields: Vec<String> =
                table.inner().iter().map(|(key, value)| format!("{key}: {}", text(value))).collect();
            format!("{{{}}}", fields.join(", "))
        }
        AMQPValue::Timestamp(at) => at.to_string(),
        value => number(value).map_or_else(|| format!("{value:?}"), |number| number.to_string()),
    }
}

fn number(value: &AMQPValue) -> Option<i64> {
    match value {
        AMQPValue::ShortShortInt(number) => Some((*number).into()),
        AMQPValue::ShortInt(number) => Some((*number).into()),
        AMQPValue::LongInt(number) => Some((*number).into()),
        AMQPValue::LongLongInt(number) => Some(*number),
        AMQPValue::LongUInt(number) => Some((*number).into()),
        _ => None,
    }
}

/// A message's properties without some of its headers.
fn without(properties: BasicProperties, dropped: impl Fn(&str) -> bool) -> BasicProperties {
    let mut kept = FieldTable::default();
    for (key, value) in properties.headers().clone().unwrap_or_default().inner() {
        if !dropped(key.as_str()) {
            kept.insert(key.clone(), value.clone());
        }
    }
    properties.with_headers(kept)
}
