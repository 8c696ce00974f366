//! What a person who looks for a fault wants to know of the broker. Nothing is made and nothing is changed.

use std::sync::Arc;

use lapin::{
    Connection,
    options::QueueDeclareOptions,
    protocol::{AMQPErrorKind, AMQPSoftError},
    types::FieldTable,
};
use perito_domain::lifecycle::JobKind;

use crate::{
    connection::Connector,
    error::{Error, ErrorKind, Result, within},
    options::BrokerOptions,
    topology::{Topology, name},
};

/// How the broker stands.
#[derive(Debug, Clone)]
pub struct Inspection {
    /// Whether the broker holds publishers back, for want of memory or disk.
    pub blocked: bool,
    /// The namespace's queues.
    pub queues: Vec<QueueInspection>,
    /// Why exchanges and queues are not as this release declares them; absent when they are, or when a queue is missing.
    pub mismatch: Option<Error>,
}

/// One queue.
#[derive(Debug, Clone)]
pub struct QueueInspection {
    /// Its name.
    pub name: String,
    /// Messages and consumers; absent when there is no such queue.
    pub content: Option<(u32, u32)>,
}

/// Looks at the broker.
///
/// # Errors
/// [`ErrorKind::Unavailable`], [`ErrorKind::Refused`] when it lets this user not in or not look, [`ErrorKind::Invalid`] options.
pub async fn inspect(options: BrokerOptions) -> Result<Inspection> {
    let topology = Topology::new(&options.namespace)?;
    let connector = Connector::new(options, "perito-doctor");
    let connection = connector.connection().await?;
    let mut queues = Vec::new();
    for queue in JobKind::ALL.iter().map(|kind| topology.queue(*kind)).chain([topology.dead_letter()]) {
        queues.push(look(&connector, &connection, queue).await?);
    }
    let mut mismatch = None;
    if queues.iter().all(|queue| queue.content.is_some()) {
        // Declaring what is there already changes nothing, and is refused where the arguments differ.
        mismatch = match connector.channel(&topology).await {
            Ok(_) => None,
            Err(error) if error.kind() == ErrorKind::Refused => Some(error),
            Err(error) => return Err(error),
        };
    }
    Ok(Inspection { blocked: connection.status().blocked(), queues, mismatch })
}

/// Asks for a queue on a channel of its own: the broker closes the channel when there is none.
async fn look(connector: &Connector, connection: &Arc<Connection>, queue: String) -> Result<QueueInspection> {
    const OPERATION: &str = "look at a queue";
    let limit = connector.options().request_timeout;
    let channel = within(limit, "open a channel", connection.create_channel()).await?;
    let passive = QueueDeclareOptions { passive: true, ..Default::default() };
    let answer = channel.queue_declare(name(queue.clone()), passive, FieldTable::default());
    let content = match tokio::time::timeout(limit, answer).await {
        Ok(Ok(found)) => Some((found.message_count(), found.consumer_count())),
        Ok(Err(error)) if is_absent(&error) => None,
        Ok(Err(error)) => return Err(Error::client(OPERATION, &error)),
        Err(_) => return Err(Error::late(OPERATION, limit)),
    };
    Ok(QueueInspection { name: queue, content })
}

fn is_absent(error: &lapin::Error) -> bool {
    matches!(error.kind(), lapin::ErrorKind::ProtocolError(error)
        if matches!(error.kind(), AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND)))
}
