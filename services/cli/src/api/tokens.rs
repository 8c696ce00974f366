//! Requests about tokens.

use chrono::{DateTime, Utc};
use perito_domain::{access::Role, names::Name};
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

use super::{Api, Repeat, Result};

/// Every token.
#[derive(Debug, Clone, Deserialize)]
pub struct TokenList {
    /// The newest first.
    pub tokens: Vec<Token>,
}

/// What is known of a token.
#[derive(Debug, Clone, Deserialize)]
pub struct Token {
    /// Its public part.
    pub id: String,
    /// Whose it is.
    pub name: String,
    /// What it is good for.
    pub role: Role,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// Who made it.
    pub created_by: String,
    /// When it ends by itself.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<DateTime<Utc>>,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// A new token.
#[derive(Debug, Clone, Deserialize)]
pub struct NewToken {
    /// The token itself.
    pub token: String,
}

impl Api {
    /// Every token.
    ///
    /// # Errors
    /// [`super::ApiError`], `Refused` when the caller is no admin.
    pub async fn tokens(&self) -> Result<TokenList> {
        self.send(self.request(Method::GET, &["tokens"], Repeat::Safe)).await
    }

    /// Makes a token.
    ///
    /// # Errors
    /// [`super::ApiError`], `Refused` when one of this name is in force, or the caller is no admin.
    pub async fn create_token(&self, name: &Name, role: Role, expires_at: Option<DateTime<Utc>>) -> Result<NewToken> {
        let body = json!({ "name": name, "role": role, "expires_at": expires_at });
        // Sent again after it was done, it would be refused, and the token would be lost.
        self.send(self.request(Method::POST, &["tokens"], Repeat::Unsafe).with(body)).await
    }

    /// Revokes a token.
    ///
    /// # Errors
    /// [`super::ApiError`], `NotFound` when none of this name is in force.
    pub async fn revoke_token(&self, name: &Name) -> Result<Token> {
        self.send(self.request(Method::DELETE, &["tokens", name.as_str()], Repeat::Unsafe)).await
    }
}
