//! What Perito means, without any I/O: the life cycles of jobs and tasks, job specifications, the message between
//! services, the retry policy and the arithmetic of metrics. Nothing here knows of tokio, SQL, AMQP, S3 or torch.
//!
//! | module | holds |
//! |---|---|
//! | [`severity`] | the three classes |
//! | [`access`] | roles, and the tokens that carry them |
//! | [`audit`] | who did something, and why |
//! | [`aliases`] | where an alias has pointed, and its way back |
//! | [`names`] | references to models and datasets, checked |
//! | [`photograph`] | what the catalogue knows a photograph by, checked |
//! | [`claims`] | which claim a photograph belongs to, by its key |
//! | [`spec`] | what a user submits: `train`, `score`, `evaluate` |
//! | [`schedule`] | when jobs are submitted by themselves: fire times, and what becomes of them |
//! | [`lifecycle`] | states of jobs and tasks and the moves between them |
//! | [`poison`] | what becomes of a task whose worker died |
//! | [`window`] | which tasks hold the places in the broker |
//! | [`message`] | the checked form of a task message |
//! | [`retry`] | error classes and what follows from each |
//! | [`limits`] | how much is taken of what comes from outside |
//! | [`failure`] | why one image could not be scored |
//! | [`metrics`] | confusion matrix, precision, recall, F1 |
//! | [`month`] | months and ages: what is archived |
//! | [`parameters`] | every tensor of each network: name, shape, part |
//! | [`artifact`] | what a model file says of itself |
//! | [`preprocessing`] | the versioned contract from bytes to pixels |
//! | [`stages`] | where a scoring run's time goes |
//! | [`random`] | randomness as a function of (seed, epoch, image index) |
//! | [`table`] | rows of typed cells, between the database and files |
//!
//! To add a kind of job: a module in [`spec`], a variant of [`spec::JobSpec`] and of [`lifecycle::JobKind`], and
//! the compiler names every place that must decide about it.

pub mod access;
pub mod aliases;
pub mod artifact;
pub mod audit;
pub mod claims;
pub mod failure;
pub mod lifecycle;
pub mod limits;
pub mod message;
pub mod metrics;
pub mod month;
pub mod names;
pub mod parameters;
pub mod photograph;
pub mod poison;
pub mod preprocessing;
pub mod random;
pub mod retry;
pub mod schedule;
pub mod severity;
pub mod spec;
pub mod stages;
pub mod table;
mod text_enum;
pub mod window;

pub use severity::Severity;
pub use text_enum::UnknownValue;
