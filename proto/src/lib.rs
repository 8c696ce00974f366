//! The protobuf schema of what crosses RabbitMQ, compiled from `proto/perito/`.
//!
//! These are wire types: nothing is validated here. `perito-domain` turns them into checked values with `TryFrom`
//! and back with `From`. To add a message: write it in a `.proto` file of the current version's folder, list the
//! file in `build.rs`, and give it a checked twin in `perito-domain`.

/// Version 1 of the schema.
pub mod v1 {
    #![allow(missing_docs, clippy::all)]
    include!(concat!(env!("OUT_DIR"), "/perito.v1.rs"));
}
