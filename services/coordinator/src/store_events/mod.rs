//! Events of the object store, from its queue to the catalogue.
//!
//! | module | holds |
//! |---|---|
//! | [`watched`] | which buckets' events are taken |
//! | [`message`] | S3's event messages, as AWS and MinIO write them |
//! | [`consumer`] | the queue: messages are acknowledged once what they say is committed |
//!
//! Events come late, twice and out of order. What they say is done by [`perito_database::intake`], which remembers the newest event of
//! each object; a message that says nothing that could be done goes to the dead-letter queue, as it is.

pub(crate) mod consumer;
pub mod message;
pub mod watched;
