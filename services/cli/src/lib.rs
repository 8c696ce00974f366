//! `perito`, the operator's tool: fills the catalogue, submits and follows jobs, and keeps the model registry. It talks to the
//! coordinator's HTTP API, to S3 for photographs, weights and archives, to Postgres for migrations, exports and retention, and to all of them
//! and RabbitMQ to find faults.
//!
//! | module | holds |
//! |---|---|
//! | [`arguments`] | the command line |
//! | [`commands`] | one file for each command: its options and what it does |
//! | [`api`] | the coordinator's API: client and wire types |
//! | [`watch`] | following a job to its end |
//! | [`specification`] | options to a job's specification |
//! | [`folders`] | class folders and claims folders on disk, and the same layout in S3 |
//! | [`labels`] | files of adjusters' decisions |
//! | [`kaggle`] | datasets from Kaggle: download and unpacking |
//! | [`store`] | uploads and listings |
//! | [`manifest`] | photographs that are named by the rows of a file |
//! | [`registration`] | batches of images for the catalogue |
//! | [`doctor`] | looking for faults: what is asked of each part, and what to do about it |
//! | [`export`], [`destination`] | rows from Postgres into a file, an object or standard output |
//! | [`retention`] | old months of scores to the object store, and back |
//! | [`weights`] | reading and checking weight files without libtorch |
//! | [`synthetic`] | drawn cars |
//! | [`report`] | what people read: tables of jobs, models, datasets and metrics |
//! | [`output`] | standard output: tables or JSON, never both |
//! | [`progress`] | standard error: bars on a terminal, a line now and then elsewhere |
//! | [`exit`] | exit codes |
//!
//! To add a command: its file in [`commands`] with a clap struct and a `run`, and a variant of [`arguments::Command`].

pub mod api;
pub mod arguments;
pub mod commands;
pub mod destination;
pub mod doctor;
pub mod exit;
pub mod export;
pub mod folders;
pub mod kaggle;
pub mod labels;
pub mod manifest;
pub mod output;
pub mod progress;
pub mod registration;
pub mod report;
pub mod retention;
pub mod specification;
pub mod store;
pub mod synthetic;
pub mod watch;
pub mod weights;
