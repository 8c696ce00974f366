//! What can go wrong with a dataset from Kaggle.

/// Why there is no dataset. None of these holds a key, or a signed URL.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server knows no such dataset.
    #[error("Kaggle has no dataset {0}, or it is private: see https://www.kaggle.com/datasets/{0}")]
    NotFound(String),
    /// The server refuses the key.
    #[error(
        "Kaggle refuses the key of KAGGLE_USERNAME and KAGGLE_KEY (status {0}): make a new one under Settings, API, on kaggle.com"
    )]
    Unauthorized(u16),
    /// The server refuses this user.
    #[error(
        "Kaggle refuses {source_name} to this user (status 403): accept its terms at https://www.kaggle.com/datasets/{source_name} first"
    )]
    Forbidden {
        /// The dataset.
        source_name: String,
    },
    /// The server answers something else.
    #[error("{what}: {detail}")]
    Unexpected {
        /// What was being done.
        what: &'static str,
        /// What came.
        detail: String,
    },
    /// The network or the server failed too often.
    #[error("{what} failed {attempts} times, the last time: {detail}; what has come is kept: run it again to go on")]
    Unavailable {
        /// What was being done.
        what: &'static str,
        /// How often.
        attempts: usize,
        /// The last failure.
        detail: String,
    },
    /// The archive is broken, or made to do harm.
    #[error("the archive cannot be unpacked: {0}")]
    Archive(String),
    /// A file of ours cannot be read or written.
    #[error("{what} {path}: {error}")]
    File {
        /// What was being done.
        what: &'static str,
        /// To which file.
        path: String,
        /// What the system says.
        error: std::io::Error,
    },
}

impl Error {
    pub(super) fn file(what: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.display().to_string();
        move |error| Self::File { what, path, error }
    }
}
