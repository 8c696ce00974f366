//! Where the store is, who we are, how long to wait.

use std::{fmt, time::Duration};

use url::Url;

/// How to reach a store.
///
/// Without an access key, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN` are read.
#[derive(Clone)]
pub struct ObjectStoreOptions {
    /// The store's URL (`http` or `https`); AWS's own when absent.
    pub endpoint: Option<Url>,
    /// The region.
    pub region: String,
    /// The access key's id.
    pub access_key_id: Option<String>,
    /// The access key's secret.
    pub secret_access_key: Option<String>,
    /// Certificate authorities (PEM, which has to be well-formed) that are trusted besides the machine's own.
    pub certificate_authorities: Option<String>,
    /// Whether the bucket's name stands in the path rather than in the host's name.
    pub force_path_style: bool,
    /// When checksums are sent and checked.
    pub checksums: Checksums,
    /// How long to wait.
    pub timeouts: Timeouts,
    /// Attempts of one operation, the first included. At least one is made.
    pub max_attempts: u32,
}

impl ObjectStoreOptions {
    /// Options with the defaults for this place, path style for an endpoint of one's own and host style for AWS, and no access
    /// key.
    pub fn new(endpoint: Option<Url>, region: impl Into<String>) -> Self {
        Self {
            force_path_style: endpoint.is_some(),
            endpoint,
            region: region.into(),
            access_key_id: None,
            secret_access_key: None,
            certificate_authorities: None,
            checksums: Checksums::default(),
            timeouts: Timeouts::default(),
            max_attempts: 6,
        }
    }
}

impl fmt::Debug for ObjectStoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectStoreOptions")
            .field("endpoint", &self.endpoint.as_ref().map(Url::as_str))
            .field("region", &self.region)
            .field("access_key_id", &self.access_key_id)
            .field("secret_access_key", &self.secret_access_key.as_ref().map(|_| "***"))
            .field("force_path_style", &self.force_path_style)
            .field("checksums", &self.checksums)
            .field("timeouts", &self.timeouts)
            .field("max_attempts", &self.max_attempts)
            .finish()
    }
}

/// When checksums are sent and checked. Some stores that speak S3 refuse those that they do not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Checksums {
    /// Only where the protocol demands it.
    #[default]
    WhenRequired,
    /// Wherever the protocol allows it.
    WhenSupported,
}

/// How long to wait for what.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For a connection.
    pub connect: Duration,
    /// For the answer to one attempt, up to its body. Sending a body adds a second for each MiB.
    pub attempt: Duration,
    /// For the next part of a body that is being received.
    pub stall: Duration,
    /// For an operation with all its attempts.
    pub operation: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            attempt: Duration::from_secs(15),
            stall: Duration::from_secs(10),
            operation: Duration::from_secs(300),
        }
    }
}
