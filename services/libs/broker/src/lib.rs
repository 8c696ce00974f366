//! All of Perito's AMQP: RabbitMQ delivers hints that tasks are runnable. It may lose, duplicate, delay or reorder any of them and no
//! result changes, since every task is looked up and claimed in Postgres.
//!
//! | module | holds |
//! |---|---|
//! | [`topology`] | exchanges and queues, and the options to reach them |
//! | [`publisher`] | messages out: persistent, mandatory, confirmed, in bounded time |
//! | [`consumer`] | messages in: resubscribes for ever, sends what it cannot read to the dead-letter queue |
//!
//! To add a kind of task: a variant of `JobKind` in `perito-domain`; its queue follows.

pub mod consumer;
mod error;
pub mod publisher;
pub mod topology;

pub use consumer::{Consumer, Delivery};
pub use error::{Error, ErrorKind, Result};
pub use publisher::Publisher;
pub use topology::{BrokerOptions, Topology};
