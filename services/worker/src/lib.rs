//! The worker: claims tasks that RabbitMQ hints at, runs them on one device, and commits their results to Postgres.
//!
//! | module | holds |
//! |---|---|
//! | [`config`] | the command line |
//! | [`service`] | start-up, the consumers of each kind of task, shutdown |
//! | [`execute`] | one task from claim to settlement, whatever its kind |
//! | [`intake`] | whether new tasks are taken |
//! | [`presence`] | this worker in the registry |
//! | [`leases`] | heartbeats for every lease held, and what a lost one stops |
//! | [`device`] | the one thread that runs networks |
//! | [`artifacts`] | model files from S3, checked and cached |
//! | [`images`] | an image from S3 to pixels: fetch and decode |
//! | [`fetching`], [`budget`] | how many images are fetched at once, and with how much memory |
//! | [`gpu`] | what the GPU says of itself, as metrics |
//! | [`stall`] | what each stage of scoring does with its time |
//! | [`together`] | claims and commits of the same moment, in one transaction |
//! | [`score`], [`train`], [`evaluate`], [`sweep`] | the work itself, a module for each kind of task |
//! | [`labelled`], [`pixel_cache`] | a labelled split, decoded once, and batches of it |
//! | [`measure`] | a network measured on labelled images, for training and evaluation alike |
//! | [`predict`] | `perito-worker predict`: photographs on disk, without any server |
//! | [`error`] | what can go wrong in a task, and whether trying again helps |
//!
//! To add a kind of task: a module with a `run` function beside [`score`], and an arm in [`execute`].

pub mod artifacts;
pub mod budget;
pub mod config;
pub mod device;
pub mod error;
pub mod evaluate;
pub mod execute;
pub mod fetching;
pub mod gpu;
pub mod images;
pub mod intake;
pub mod labelled;
pub mod leases;
pub mod measure;
pub mod pixel_cache;
pub mod predict;
pub mod presence;
pub mod score;
pub mod service;
pub mod stall;
pub mod sweep;
pub mod together;
pub mod train;
