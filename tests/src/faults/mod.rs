//! What breaks, on purpose: the only things in the tests that are not real.
//!
//! | module | holds |
//! |---|---|
//! | [`link`] | a TCP proxy before a server: latency, bandwidth, cut, silence, reset |
//! | [`store`] | an HTTP proxy before the object store: 500, 503 SlowDown, truncated and stalled bodies, slow answers |
//! | [`servers`] | Postgres and RabbitMQ of its own for a test that restarts them |

pub mod link;
pub mod servers;
pub mod store;

pub use link::{Conditions, Link};
pub use servers::Servers;
pub use store::{Odds, PACE, StoreFaults};
