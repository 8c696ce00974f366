//! The database crate against a real Postgres: each test in a database of its own.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod aliases;
mod analytics;
mod catalogue;
mod claims;
mod comparison;
mod connections;
mod control;
mod intake;
mod labels;
mod life_cycle;
mod lifecycle;
mod planning;
mod poison;
mod removal;
mod results;
mod retry;
mod roles;
mod scale;
mod schedules;
mod schema;
mod sweeps;
mod together;
mod workers;
mod world;
