//! The coordinator: the HTTP API, and the loops that plan, dispatch, rescue and finish jobs. It never links libtorch.
//!
//! | module | holds |
//! |---|---|
//! | [`config`] | the command line |
//! | [`service`] | the process: start, health, shutdown |
//! | [`api`] | a file for each resource: routes and wire types |
//! | [`loops`] | a file for each loop |
//! | [`store_events`] | photographs from the object store's event notifications |
//!
//! Postgres decides, RabbitMQ delivers: no state lives here, so any number of replicas may run. To add a route, see
//! [`api`]; to add a loop, see [`loops`].

pub mod api;
pub mod config;
pub mod loops;
pub mod service;
pub mod store_events;
