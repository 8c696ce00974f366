//! What is consumed: which queue, and how its bytes become messages.

use std::future::Future;

use lapin::Channel;
use perito_domain::{lifecycle::JobKind, limits::MAX_EVENT_BYTES, message::TaskMessage};
use perito_proto::v1;
use prost::Message as _;

use crate::topology::Topology;

/// A queue and what is in it.
pub(crate) trait Feed: Send + Sync + 'static {
    /// A message that can be acted on.
    type Message: Send + 'static;

    /// What the queue holds, in logs and metrics.
    fn kind(&self) -> &'static str;

    /// The queue.
    fn queue(&self, topology: &Topology) -> String;

    /// Makes what is missing beyond what every channel declares.
    fn declare(&self, topology: &Topology, channel: &Channel) -> impl Future<Output = lapin::Result<()>> + Send;

    /// A message, or why it is none: then it goes to the dead-letter queue.
    fn read(&self, bytes: &[u8]) -> Result<Self::Message, String>;
}

/// Task messages of one kind.
pub(crate) struct Tasks(pub(crate) JobKind);

impl Feed for Tasks {
    type Message = TaskMessage;

    fn kind(&self) -> &'static str {
        self.0.as_str()
    }

    fn queue(&self, topology: &Topology) -> String {
        topology.queue(self.0)
    }

    async fn declare(&self, _: &Topology, _: &Channel) -> lapin::Result<()> {
        Ok(())
    }

    fn read(&self, bytes: &[u8]) -> Result<TaskMessage, String> {
        let wire = v1::TaskMessage::decode(bytes).map_err(|error| error.to_string())?;
        let message = TaskMessage::try_from(wire).map_err(|error| error.to_string())?;
        if message.kind != self.0 {
            return Err(format!("a message of kind {} in the queue of kind {}", message.kind, self.0));
        }
        Ok(message)
    }
}

/// Events of an object store, as they were published: what they mean is for their consumer to say.
pub(crate) struct StoreEvents;

impl Feed for StoreEvents {
    type Message = Vec<u8>;

    fn kind(&self) -> &'static str {
        "s3-events"
    }

    fn queue(&self, topology: &Topology) -> String {
        topology.store_events()
    }

    async fn declare(&self, topology: &Topology, channel: &Channel) -> lapin::Result<()> {
        topology.declare_store_events(channel).await
    }

    fn read(&self, bytes: &[u8]) -> Result<Vec<u8>, String> {
        if bytes.len() > MAX_EVENT_BYTES {
            return Err(format!("has {} bytes: at most {} are read", bytes.len(), MAX_EVENT_BYTES));
        }
        Ok(bytes.to_vec())
    }
}
