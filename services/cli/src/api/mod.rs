//! The coordinator's HTTP API, one file for each kind of resource: its JSON, and the requests about it.

mod aliases;
mod client;
mod comparisons;
mod datasets;
mod error;
mod evaluation;
mod images;
mod jobs;
mod labels;
mod models;
mod operation;
mod recovery;
mod runs;
pub mod schedules;
pub mod tokens;

pub use aliases::*;
pub use client::{Answer, Api};
use client::{Repeat, Result};
pub use comparisons::*;
pub use datasets::*;
pub use error::ApiError;
pub use evaluation::*;
pub use images::*;
pub use jobs::*;
pub use labels::*;
pub use models::*;
pub use operation::*;
pub use recovery::*;
pub use runs::*;
