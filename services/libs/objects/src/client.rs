//! The client: connecting, and the operations without a body to speak of.

use std::sync::Arc;

use aws_sdk_s3::{
    Client,
    config::{
        BehaviorVersion, Region, RequestChecksumCalculation, ResponseChecksumValidation, StalledStreamProtectionConfig,
        retry::RetryConfig, timeout::TimeoutConfig,
    },
    primitives::ByteStream,
    types::{BucketLocationConstraint, CreateBucketConfiguration},
};
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode};
use bytes::Bytes;

use crate::{
    error::{Error, ErrorKind, Failure, Result},
    list::ObjectSummary,
    options::{Checksums, ObjectStoreOptions, Timeouts},
};

/// A store. Clones share its connections.
#[derive(Debug, Clone)]
pub struct ObjectStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: Client,
    endpoint: String,
    region: String,
    timeouts: Timeouts,
    max_attempts: u32,
}

/// An object that was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutObject {
    /// Its ETag, without quotes.
    pub etag: String,
}

impl ObjectStore {
    /// A client for a store. Nothing is sent yet: [`Self::ping`] tells whether the store answers.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when there are no credentials.
    pub fn new(options: ObjectStoreOptions) -> Result<Self> {
        let endpoint = options.endpoint.as_ref().map_or_else(|| "AWS".to_owned(), ToString::to_string);
        let credentials = credentials(options.access_key_id, options.secret_access_key)
            .map_err(|failure| Error::new("connect to the object store", endpoint.clone(), failure))?;
        let mut trust = TrustStore::default();
        if let Some(authorities) = options.certificate_authorities {
            trust = trust.with_pem_certificate(authorities);
        }
        let context = TlsContext::builder().with_trust_store(trust).build().map_err(|error| {
            let failure = Failure::new(ErrorKind::Invalid, error.to_string());
            Error::new("connect to the object store", endpoint.clone(), failure)
        })?;
        let http = aws_smithy_http_client::Builder::new()
            .tls_provider(Provider::Rustls(CryptoMode::Ring))
            .tls_context(context)
            .build_https();
        let mut config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(http)
            .region(Region::new(options.region.clone()))
            .credentials_provider(credentials)
            .force_path_style(options.force_path_style)
            // This crate has its own, in `retry` and `get`.
            .retry_config(RetryConfig::disabled())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .timeout_config(TimeoutConfig::builder().connect_timeout(options.timeouts.connect).build());
        config = match options.checksums {
            Checksums::WhenRequired => config
                .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
                .response_checksum_validation(ResponseChecksumValidation::WhenRequired),
            Checksums::WhenSupported => config
                .request_checksum_calculation(RequestChecksumCalculation::WhenSupported)
                .response_checksum_validation(ResponseChecksumValidation::WhenSupported),
        };
        if let Some(endpoint) = options.endpoint {
            config = config.endpoint_url(endpoint);
        }
        Ok(Self(Arc::new(Inner {
            client: Client::from_conf(config.build()),
            endpoint,
            region: options.region,
            timeouts: options.timeouts,
            max_attempts: options.max_attempts,
        })))
    }

    /// Stores an object, replacing one of the same key.
    ///
    /// # Errors
    /// The kinds of every operation: [`ErrorKind::NotFound`] for a missing bucket, [`ErrorKind::Denied`],
    /// [`ErrorKind::Unavailable`], [`ErrorKind::Invalid`].
    pub async fn put(&self, bucket: &str, key: &str, bytes: impl Into<Bytes>, content_type: &str) -> Result<PutObject> {
        let bytes: Bytes = bytes.into();
        let request = || {
            let request = self.client().put_object().bucket(bucket).key(key).content_type(content_type);
            self.answer(bytes.len(), request.body(ByteStream::from(bytes.clone())).send())
        };
        let answer = self.run("put object", format!("{bucket}/{key}"), request).await?;
        Ok(PutObject { etag: unquoted(answer.e_tag().unwrap_or_default()).to_owned() })
    }

    /// What the store tells of an object without its bytes.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], and the kinds of every operation.
    pub async fn head(&self, bucket: &str, key: &str) -> Result<ObjectSummary> {
        let request = || self.answer(0, self.client().head_object().bucket(bucket).key(key).send());
        let answer = self.run("head object", format!("{bucket}/{key}"), request).await?;
        Ok(ObjectSummary {
            key: key.to_owned(),
            etag: unquoted(answer.e_tag().unwrap_or_default()).to_owned(),
            size: answer.content_length().and_then(|size| size.try_into().ok()).unwrap_or_default(),
        })
    }

    /// Whether there is an object of this key.
    ///
    /// # Errors
    /// The kinds of every operation.
    pub async fn exists(&self, bucket: &str, key: &str) -> Result<bool> {
        match self.head(bucket, key).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes an object, if it is there.
    ///
    /// # Errors
    /// The kinds of every operation.
    pub async fn delete(&self, bucket: &str, key: &str) -> Result<()> {
        let request = || self.answer(0, self.client().delete_object().bucket(bucket).key(key).send());
        match self.run("delete object", format!("{bucket}/{key}"), request).await {
            Ok(_) => Ok(()),
            // AWS answers the same for a key that is not there; some stores do not.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Makes a bucket, if it is not there.
    ///
    /// # Errors
    /// The kinds of every operation.
    pub async fn ensure_bucket(&self, bucket: &str) -> Result<()> {
        let request = || self.answer(0, self.client().head_bucket().bucket(bucket).send());
        match self.run("head bucket", bucket.to_owned(), request).await {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        // AWS wants the region named, but for its first one.
        let place = Some(self.0.region.as_str()).filter(|region| *region != "us-east-1").map(|region| {
            CreateBucketConfiguration::builder().location_constraint(BucketLocationConstraint::from(region)).build()
        });
        let request = || async {
            let request = self.client().create_bucket().bucket(bucket).set_create_bucket_configuration(place.clone());
            match request.send().await {
                Ok(_) => Ok(()),
                // Somebody else made it in between.
                Err(error) if error.as_service_error().is_some_and(|error| error.is_bucket_already_owned_by_you()) => {
                    Ok(())
                }
                Err(error) => Err(error),
            }
        };
        self.run("create bucket", bucket.to_owned(), || self.answer(0, request())).await
    }

    /// Whether the store answers and the bucket is there and ours: one attempt.
    ///
    /// # Errors
    /// The kinds of every operation: [`ErrorKind::NotFound`] for a missing bucket.
    pub async fn ping(&self, bucket: &str) -> Result<()> {
        let answer = self.answer(0, self.client().head_bucket().bucket(bucket).send()).await;
        answer.map(drop).map_err(|failure| Error::new("head bucket", bucket.to_owned(), failure))
    }

    pub(crate) fn client(&self) -> &Client {
        &self.0.client
    }

    pub(crate) fn timeouts(&self) -> &Timeouts {
        &self.0.timeouts
    }

    pub(crate) fn max_attempts(&self) -> u32 {
        self.0.max_attempts
    }

    /// Says where the store is, if that is the trouble.
    pub(crate) fn name_endpoint(&self, mut failure: Failure) -> Failure {
        if failure.kind == ErrorKind::Unavailable {
            failure.detail = format!("object store {}: {}", self.0.endpoint, failure.detail);
        }
        failure
    }
}

/// An ETag without its quotes.
pub(crate) fn unquoted(etag: &str) -> &str {
    etag.trim_matches('"')
}

fn credentials(
    id: Option<String>,
    secret: Option<String>,
) -> std::result::Result<aws_sdk_s3::config::Credentials, Failure> {
    let (id, secret, token) = match (id, secret) {
        (None, None) => {
            let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
            (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY"), variable("AWS_SESSION_TOKEN"))
        }
        (id, secret) => (id, secret, None),
    };
    match (id, secret) {
        (Some(id), Some(secret)) => Ok(aws_sdk_s3::config::Credentials::new(id, secret, token, None, "perito")),
        _ => Err(Failure::new(
            ErrorKind::Invalid,
            "no access key: set both PERITO_S3_ACCESS_KEY_ID and PERITO_S3_SECRET_ACCESS_KEY \
             (or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)",
        )),
    }
}
