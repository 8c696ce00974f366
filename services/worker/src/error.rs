//! What can go wrong in a task, and whether trying again helps.

use perito_domain::retry::ErrorClass;

/// A task's error, classed where it arose.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// From Postgres.
    #[error(transparent)]
    Database(#[from] perito_database::Error),
    /// From S3, with what was being fetched or stored.
    #[error("{context}: {source}")]
    Objects {
        /// What was being done.
        context: String,
        /// What came of it.
        source: perito_objects::Error,
    },
    /// From libtorch.
    #[error(transparent)]
    Network(#[from] perito_nets::NetError),
    /// From the file of decoded images.
    #[error("read the cache of decoded images: {0}")]
    Cache(std::io::Error),
    /// The work panicked; the device thread and the process go on.
    #[error("panic during {0}")]
    Panic(&'static str),
    /// Trying again cannot help.
    #[error("{0}")]
    Permanent(String),
}

impl TaskError {
    /// Whether trying again can help.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Database(error) => error.class(),
            Self::Objects { source, .. } => source.class(),
            Self::Network(error) => error.class(),
            // Perhaps memory was short, or a disk; attempts are bounded in any case.
            Self::Panic(_) | Self::Cache(_) => ErrorClass::Transient,
            Self::Permanent(_) => ErrorClass::Permanent,
        }
    }

    /// Whether the database no longer takes this attempt's word: another attempt, or nobody, owns the task now.
    pub fn is_stale(&self) -> bool {
        matches!(self, Self::Database(error) if error.kind() == perito_database::ErrorKind::StaleAttempt)
    }
}
