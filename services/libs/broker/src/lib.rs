//! All AMQP: hints that a task may be runnable, to RabbitMQ and back, and events of an object store. No type of the client library leaves this crate.
//!
//! A task message is never a lock and never the only copy of anything: it may be lost, doubled, late or out of order, and no
//! result changes. What this crate owes is that loss is noticed where it can be (a message that was not confirmed is an error)
//! and that publisher and consumer come back by themselves after any outage.
//!
//! | module | holds |
//! |---|---|
//! | [`options`] | where the broker is and how long to wait |
//! | [`topology`] | names and arguments of exchanges and queues |
//! | [`connection`] | one connection, made anew when it is lost |
//! | [`publisher`] | messages out, each confirmed or an error |
//! | [`consumer`] | messages in, for ever |
//! | [`feed`] | what is consumed: task messages, events of an object store |
//! | [`delivery`] | one message in hand, to be settled |
//! | [`inspect`] | how the broker stands, for whoever looks for a fault |
//! | [`dead_letters`] | what nobody could act on, in a person's hands |
//! | [`error`] | what can go wrong, by kind |
//!
//! To add a kind of task: nothing here; each [`perito_domain::lifecycle::JobKind`] has a queue of its own.

mod connection;
mod consumer;
mod dead_letters;
mod delivery;
mod error;
mod feed;
mod inspect;
mod options;
mod publisher;
mod topology;

pub use consumer::Consumer;
pub use dead_letters::{DeadLetter, DeadLetters};
pub use delivery::Delivery;
pub use error::{Error, ErrorKind, Result};
pub use inspect::{Inspection, QueueInspection, inspect};
pub use options::BrokerOptions;
pub use publisher::Publisher;
pub use topology::Topology;
