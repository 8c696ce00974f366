//! All S3: objects in, objects out, for any store that speaks the protocol. No type of the SDK leaves this crate.
//!
//! | module | holds |
//! |---|---|
//! | [`options`] | where the store is, who we are, how long to wait |
//! | [`client`] | [`ObjectStore`]: connecting, and the operations without a body to speak of |
//! | [`get`] | whole objects, within limits of size and time; larger ones part by part |
//! | [`upload`] | objects whose bytes come bit by bit |
//! | [`list`] | everything below a prefix, as a stream |
//! | [`inspect`] | whether everything that Perito does in a store is allowed |
//! | [`retry`] | what every operation goes through: timeouts, attempts with backoff and jitter, metrics |
//! | [`error`] | what can go wrong, by kind |
//!
//! To add an operation: a method on [`ObjectStore`] that hands one attempt to `ObjectStore::run`.

mod client;
mod error;
mod get;
mod inspect;
mod list;
mod options;
mod retry;
mod upload;

pub use client::{ObjectStore, PutObject};
pub use error::{Error, ErrorKind, Result};
pub use list::ObjectSummary;
pub use options::{Checksums, ObjectStoreOptions, Timeouts};
pub use upload::Upload;
