//! A run in which everything breaks by a seed while jobs are scored, and the audit after it.
//!
//! | module | holds |
//! |---|---|
//! | [`plan`] | a seed becomes faults, each with its moment |
//! | [`run`](mod@run) | the faults are done, jobs submitted, and everything healed |
//! | [`queue`] | duplicates and garbage into the broker; what is left in it |
//! | [`reader`] | an analyst who looks at the views all the time |
//! | [`audit`] | whether anything was lost, doubled, stuck or shown in part |

pub mod audit;
pub mod plan;
pub mod queue;
pub mod reader;
pub mod run;

pub use run::{Report, run};
