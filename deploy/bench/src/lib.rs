//! What the benches share.

mod peer;
mod photograph;

pub use peer::Peer;
pub use photograph::photograph;
