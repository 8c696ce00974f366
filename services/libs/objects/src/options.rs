//! How to reach the store.

use std::{fmt, time::Duration};

use aws_sdk_s3::config::{
    BehaviorVersion, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation, retry::RetryConfig,
    timeout::TimeoutConfig,
};
use aws_smithy_http_client::{Builder, tls};
use url::Url;

use crate::error::{Error, ErrorKind, Result};

/// How to reach an S3-compatible store.
#[derive(Clone)]
pub struct ObjectStoreOptions {
    /// The store's URL; AWS's own when absent.
    pub endpoint: Option<Url>,
    /// The region.
    pub region: String,
    /// The access key's id and secret.
    pub access_key_id: String,
    /// The access key's secret.
    pub secret_access_key: String,
    /// Sends and checks the SDK's default checksums. Some S3-compatible stores refuse them.
    pub checksums_when_supported: bool,
    /// How long a connection may take.
    pub connect_timeout: Duration,
    /// How long one attempt may take, its whole body included.
    pub attempt_timeout: Duration,
    /// How often a request is tried in all.
    pub attempts: u32,
}

impl ObjectStoreOptions {
    /// Options with the usual timeouts and three attempts.
    pub fn new(
        endpoint: Option<Url>,
        region: impl Into<String>,
        access_key_id: impl Into<String>,
        secret_access_key: impl Into<String>,
    ) -> Self {
        Self {
            endpoint,
            region: region.into(),
            access_key_id: access_key_id.into(),
            secret_access_key: secret_access_key.into(),
            checksums_when_supported: false,
            connect_timeout: Duration::from_secs(3),
            attempt_timeout: Duration::from_secs(30),
            attempts: 3,
        }
    }

    pub(crate) fn client(&self) -> Result<aws_sdk_s3::Client> {
        if self.access_key_id.is_empty() || self.secret_access_key.is_empty() {
            return Err(Error::new(
                ErrorKind::Invalid,
                "no S3 credentials: set PERITO_S3_ACCESS_KEY_ID and PERITO_S3_SECRET_ACCESS_KEY",
            ));
        }
        let credentials = Credentials::new(&self.access_key_id, &self.secret_access_key, None, None, "perito");
        let http =
            Builder::new().tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring)).build_https();
        let (request, response) = if self.checksums_when_supported {
            (RequestChecksumCalculation::WhenSupported, ResponseChecksumValidation::WhenSupported)
        } else {
            (RequestChecksumCalculation::WhenRequired, ResponseChecksumValidation::WhenRequired)
        };
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(self.connect_timeout)
            .read_timeout(self.attempt_timeout)
            .operation_attempt_timeout(self.attempt_timeout)
            .build();
        let mut config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(self.region.clone()))
            .credentials_provider(credentials)
            .http_client(http)
            .timeout_config(timeouts)
            .retry_config(RetryConfig::standard().with_max_attempts(self.attempts))
            .request_checksum_calculation(request)
            .response_checksum_validation(response);
        if let Some(endpoint) = &self.endpoint {
            // Other stores than AWS rarely answer to BUCKET.HOST.
            config = config.endpoint_url(endpoint.as_str()).force_path_style(true);
        }
        Ok(aws_sdk_s3::Client::from_conf(config.build()))
    }
}

impl fmt::Debug for ObjectStoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectStoreOptions")
            .field("endpoint", &self.endpoint.as_ref().map(Url::as_str))
            .field("region", &self.region)
            .field("access_key_id", &self.access_key_id)
            .field("secret_access_key", &"***")
            .finish_non_exhaustive()
    }
}
