//! Against a real RabbitMQ, whose URL is in `PERITO_AMQP_URL`. Each test has a namespace of its own and removes it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod consuming;
mod dead_letters;
mod harness;
mod options;
mod outages;
mod proxy;
mod publishing;
