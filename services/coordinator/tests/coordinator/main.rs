//! The coordinator in this process, against a real Postgres and a real RabbitMQ.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod access;
mod catalogue;
mod control;
mod harness;
mod intake;
mod jobs;
mod loops;
mod process;
mod protocol;
mod recovery;
mod registry;
mod schedules;
