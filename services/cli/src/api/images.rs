//! Photographs in the catalogue, and those that wait to be scored.

use chrono::{DateTime, Utc};
use perito_domain::{
    Severity,
    photograph::{InvalidPhotograph, Photograph},
};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Api, Repeat, Result};

/// One version of one photograph, to be registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NewImage {
    /// The bucket that holds it.
    pub bucket: String,
    /// Its key.
    pub key: String,
    /// The object's ETag, without quotes.
    pub etag: String,
    /// The object's length.
    pub size_bytes: u64,
    /// The claim it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim_id: Option<String>,
    /// What a person says it shows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<Severity>,
}

impl NewImage {
    /// Refuses what the catalogue does not take.
    ///
    /// # Errors
    /// Names the field.
    pub fn check(&self) -> std::result::Result<(), InvalidPhotograph> {
        let Self { bucket, key, etag, size_bytes, claim_id, .. } = self;
        // Beyond what the API can be told, nothing is a photograph.
        let size_bytes = i64::try_from(*size_bytes).unwrap_or(-1);
        Photograph { bucket, key, etag, size_bytes, claim_id: claim_id.as_deref() }.check()
    }
}

/// What waits to be scored.
#[derive(Debug, Clone, Deserialize)]
pub struct Backlog {
    /// Only buckets where something waits or could not be scored.
    pub buckets: Vec<BucketBacklog>,
}

/// What waits to be scored in one bucket.
#[derive(Debug, Clone, Deserialize)]
pub struct BucketBacklog {
    /// The bucket.
    pub bucket: String,
    /// How many photographs wait.
    pub waiting: u64,
    /// When the one that waits longest was registered.
    pub oldest_registered_at: Option<DateTime<Utc>>,
    /// How many more could not be scored by a run that has finished.
    pub unscorable: u64,
}

/// What became of a batch of photographs.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Registered {
    /// How many were not known before.
    pub new: u64,
    /// How many were.
    pub known: u64,
    /// How many older versions of objects were superseded.
    pub superseded: u64,
    /// The catalogue's numbers, in the order of the request.
    pub ids: Vec<i64>,
}

impl Api {
    /// Registers a batch of images, at most [`crate::registration::BATCH`].
    ///
    /// # Errors
    /// [`super::ApiError`]
    pub async fn register(&self, images: &[NewImage]) -> Result<Registered> {
        self.send(self.request(Method::POST, &["images"], Repeat::Safe).with(json!({ "images": images }))).await
    }

    /// What waits to be scored.
    ///
    /// # Errors
    /// [`super::ApiError`]
    pub async fn backlog(&self) -> Result<Backlog> {
        self.send(self.request(Method::GET, &["images", "backlog"], Repeat::Safe)).await
    }
}
