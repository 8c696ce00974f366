//! All of Perito's S3: whole objects in and out, and listings, against any S3-compatible store.
//!
//! | module | holds |
//! |---|---|
//! | [`store`] | the client: get, put, head, list |
//! | [`options`] | how to reach the store |
//!
//! Every call has a timeout, bodies included (a body can stall after its headers), and a bounded number of retries with jitter. No
//! type of the SDK leaves this crate: errors tell their [`ErrorKind`].

mod error;
pub mod options;
pub mod store;

pub use error::{Error, ErrorKind, Result};
pub use options::ObjectStoreOptions;
pub use store::{ObjectStore, ObjectSummary};
