//! All of Perito's SQL. Every query is checked against the migrations when it is compiled.
//!
//! | module | holds |
//! |---|---|
//! | [`pool`] | connections: one pool for control, another for bulk writes |
//! | `no_delay` | their sockets send at once |
//! | [`migrate`] | the schema: applying it, and refusing one that is unknown |
//! | [`images`], [`datasets`], [`models`] | the catalogue and the registry |
//! | [`aliases`] | where aliases point: the gate, rollback, history |
//! | [`measurements`], [`comparison`] | how well versions do, and which of two does better |
//! | [`removal`] | deleting a version that nothing uses |
//! | [`labels`] | what adjusters decided, and datasets of it |
//! | [`intake`] | photographs that other systems hand in: staged rows, events of the object store |
//! | [`settings`] | what an operator may change while everything runs |
//! | [`tokens`] | who may use the API |
//! | [`jobs`] | submitting, showing, listing and cancelling jobs |
//! | [`control`] | pausing a job, and changing its priority or limit |
//! | [`schedules`] | adding, showing, pausing and removing schedules |
//! | [`fire`] | what has come of a schedule's fire times becomes runs and jobs |
//! | [`plan`] | a queued job becomes tasks |
//! | [`dispatch`] | runnable tasks go out: the transactional outbox |
//! | [`lease`] | claim, heartbeat, release, failure |
//! | [`commit`] | results, behind the fence |
//! | [`together`] | claims and commits of the same moment, in one transaction |
//! | [`stages`] | what the stages of a scoring run did with their time |
//! | [`sweeps`] | runs of a sweep, its leaderboard and its winner |
//! | [`workers`] | who lives, and who is to take nothing new |
//! | [`reap`] | dead leases and lost messages |
//! | [`attempts`], [`retry`] | what became of each attempt; a failed job runs again |
//! | [`finish`] | jobs whose tasks have ended |
//! | [`inspect`] | how the server stands, for whoever looks for a fault |
//! | [`overview`] | what waits, and for how long |
//! | [`archive`] | old months of predictions leave, and come back |
//! | [`views`], [`extract`] | what analysts see, and all rows of it for a file |
//!
//! Row types are private; what leaves this crate is typed and checked. A public operation is one transaction. A move
//! of a task asks [`perito_domain::lifecycle::TaskEvent::sources`] from which states it is allowed, and checks that exactly
//! one row moved.
//!
//! To add a query: write it with `sqlx::query!` in the module of its table, run `make sqlx-prepare`, commit `.sqlx/`.

pub mod aliases;
pub mod archive;
pub mod attempts;
pub mod commit;
pub mod comparison;
pub mod control;
mod copy;
mod copy_format;
pub mod datasets;
pub mod dispatch;
mod error;
pub mod extract;
pub mod finish;
pub mod fire;
pub mod images;
pub mod inspect;
pub mod intake;
pub mod jobs;
pub mod labels;
pub mod lease;
pub mod measurements;
pub mod migrate;
pub mod models;
mod no_delay;
pub mod overview;
pub mod plan;
pub mod pool;
pub mod reap;
pub mod removal;
pub mod retry;
pub mod schedules;
pub mod settings;
pub mod stages;
pub mod sweeps;
#[cfg(feature = "testing")]
pub mod testing;
pub mod together;
pub mod tokens;
pub mod views;
pub mod workers;

pub use aliases::{AliasMove, Gate, GateCheck, Promotion};
pub use archive::{Archive, ArchiveLock, ArchiveState, PresentMonth};
pub use attempts::{Attempt, AttemptFilter};
pub use commit::{EpochRow, Measurement, Prediction, Provenance, ScoreResult};
pub use comparison::{Comparison, Contender};
pub use control::JobChange;
pub use datasets::{Dataset, DraftDataset, LabelledImage};
pub use error::{Error, ErrorKind, Result};
pub use extract::Extract;
pub use fire::{Filled, Fired, FiredRun, SettledDeadline};
pub use images::{ImageObject, NewImage, Registered};
pub use inspect::Inspection;
pub use intake::{ObjectChange, ObjectEvent, Taken};
pub use jobs::{Job, JobFilter, JobSchedule, NewJob, Submitted};
pub use labels::{BadRows, LabelledSelection, LabelsRecorded, NewLabel};
pub use lease::{AfterFailure, Claim, ClaimedTask, DropReason, Lease};
pub use measurements::Measured;
pub use models::{Model, NewModel};
pub use pool::{Database, DatabaseOptions};
pub use removal::DeletedModel;
pub use schedules::{Schedule, ScheduleRun};
pub use settings::Settings;
pub use sweeps::{Standing, SweepRun};
pub use tokens::{ApiToken, Caller};
pub use views::{Condition, Operator, RowFilter, View, ViewColumn};
pub use workers::{Beat, RunningTask, Worker, WorkerReport};
