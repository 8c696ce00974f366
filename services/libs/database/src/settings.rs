//! What an operator may change while everything runs.

use chrono::{DateTime, Utc};

use crate::{
    Database,
    error::{During, Error, ErrorKind, Result},
};

/// The settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The confidence, 0 to 1, from which a single photograph decides about its claim.
    pub claim_confidence: f64,
    /// When one was last changed.
    pub updated_at: DateTime<Utc>,
}

impl Database {
    /// The settings as they are.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn settings(&self) -> Result<Settings> {
        sqlx::query_as!(Settings, "select claim_confidence, updated_at from settings")
            .fetch_one(&self.control)
            .await
            .during("read the settings")
    }

    /// Changes the confidence from which a single photograph decides about its claim; the settings then.
    ///
    /// # Errors
    /// `Invalid` when it is not within 0 to 1.
    pub async fn set_claim_confidence(&self, confidence: f64) -> Result<Settings> {
        if !(0.0..=1.0).contains(&confidence) {
            return Err(Error::new(ErrorKind::Invalid, format!("claim_confidence is {confidence}: expected 0 to 1")));
        }
        sqlx::query_as!(
            Settings,
            "update settings set claim_confidence = $1, updated_at = now() returning claim_confidence, updated_at",
            confidence
        )
        .fetch_one(&self.control)
        .await
        .during("change the settings")
    }
}
