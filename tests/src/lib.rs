//! The harness of the end-to-end tests: a whole Perito of its own for each test, from the real binaries, on the servers of the
//! test stack.
//!
//! | module | holds |
//! |---|---|
//! | [`system`] | a database, a bucket, a namespace in the broker, a coordinator and workers |
//! | [`process`] | one binary that runs, with its log |
//! | [`photographs`] | pictures for tests, whole and broken |
//! | [`manual`] | the pages below `docs/`: the commands in them, and what is generated
//! | [`datasets`] | a dataset that is learned in seconds |
//! | [`models`] | a model without training |
//! | [`cluster`] | replicas and workers, each behind links of its own that can be disturbed |
//! | [`faults`] | what disturbs: links, the object store's faults, servers that can be restarted |
//! | [`chaos`] | a run of all of that by a seed, and the audit after it |
//! | [`tls`] | a certificate authority, and a server that speaks TLS before one that does not |
//!
//! Everything panics instead of returning errors: a test that cannot be set up has failed.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot be set up has failed, and says where")]

pub mod chaos;
pub mod cluster;
pub mod datasets;
pub mod faults;
pub mod manual;
pub mod models;
pub mod photographs;
pub mod process;
pub mod system;
pub mod tls;

pub use cluster::Cluster;
pub use process::Process;
pub use system::System;
