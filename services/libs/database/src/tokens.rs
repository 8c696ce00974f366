//! Who may use the API.

use chrono::{DateTime, Utc};
use perito_domain::{
    access::{Role, Token},
    names::Name,
};

use crate::{
    Database,
    error::{During, Error, ErrorKind, Result},
};

/// What is known of a token; the token itself is not.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiToken {
    /// Its public part.
    pub id: String,
    /// Whose it is. Only one of a name is in force.
    pub name: String,
    /// What it is good for.
    pub role: Role,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// Who made it.
    pub created_by: String,
    /// When it ends by itself, if ever.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<DateTime<Utc>>,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// Whoever sent a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The token's name.
    pub name: String,
    /// What it is good for.
    pub role: Role,
}

struct Row {
    id: String,
    name: String,
    role: String,
    created_at: DateTime<Utc>,
    created_by: String,
    expires_at: Option<DateTime<Utc>>,
    last_used_at: Option<DateTime<Utc>>,
    revoked_at: Option<DateTime<Utc>>,
}

impl TryFrom<Row> for ApiToken {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        let Row { id, name, role, created_at, created_by, expires_at, last_used_at, revoked_at } = row;
        Ok(Self { id, name, role: parse(&role)?, created_at, created_by, expires_at, last_used_at, revoked_at })
    }
}

fn parse(role: &str) -> Result<Role> {
    role.parse().map_err(|error| Error::new(ErrorKind::Internal, format!("read a token's role: {error}")))
}

impl Database {
    /// Makes a token. It is in the answer, and nowhere else. `by` is who asks; the Postgres role, when nobody is named.
    ///
    /// # Errors
    /// `Conflict` when a token of this name is in force, `Invalid` when it would have expired already.
    pub async fn create_token(
        &self,
        name: &Name,
        role: Role,
        expires_at: Option<DateTime<Utc>>,
        by: Option<&str>,
    ) -> Result<(ApiToken, Token)> {
        let token = Token::from_random(rand::random(), rand::random());
        let digest = token.digest();
        let row = sqlx::query_as!(
            Row,
            "insert into api_tokens (id, name, role, digest, expires_at, created_by)
             select $1, $2, $3, $4, $5, coalesce($6, 'postgres:' || session_user)
             where $5::timestamptz is null or $5 > now()
             returning id, name, role, created_at, created_by, expires_at, last_used_at, revoked_at",
            token.id(),
            name.as_str(),
            role.as_str(),
            digest.as_bytes(),
            expires_at,
            by,
        )
        .fetch_optional(&self.control)
        .await
        .map_err(|error| match &error {
            sqlx::Error::Database(refusal) if refusal.constraint() == Some("api_tokens_in_force") => Error::new(
                ErrorKind::Conflict,
                format!("there is a token {name} already: revoke it first, or choose another name"),
            ),
            _ => Error::from_sqlx("make a token", &error),
        })?;
        let row = row.ok_or_else(|| Error::new(ErrorKind::Invalid, "the token would have expired already"))?;
        Ok((row.try_into()?, token))
    }

    /// Whose token this is; none when it is unknown, revoked or has expired.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn authenticate(&self, token: &Token) -> Result<Option<Caller>> {
        let row = sqlx::query!(
            r#"select name, role, digest,
                      coalesce(last_used_at < now() - interval '1 minute', true) as "stale!"
               from api_tokens
               where id = $1 and revoked_at is null and (expires_at is null or expires_at > now())"#,
            token.id()
        )
        .fetch_optional(&self.control)
        .await
        .during("look a token up")?;
        // That a public id exists is no secret; what is compared is compared in constant time.
        let Some(row) = row.filter(|row| token.digest().matches(&row.digest)) else { return Ok(None) };
        if row.stale {
            sqlx::query!("update api_tokens set last_used_at = now() where id = $1", token.id())
                .execute(&self.control)
                .await
                .during("note a token's use")?;
        }
        Ok(Some(Caller { name: row.name, role: parse(&row.role)? }))
    }

    /// Every token, the newest first; those that were revoked too.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn tokens(&self) -> Result<Vec<ApiToken>> {
        let rows = sqlx::query_as!(
            Row,
            "select id, name, role, created_at, created_by, expires_at, last_used_at, revoked_at
             from api_tokens order by created_at desc, id limit 10000"
        )
        .fetch_all(&self.control)
        .await
        .during("list tokens")?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// Whether anybody could use the API.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn has_tokens(&self) -> Result<bool> {
        sqlx::query_scalar!(
            r#"select exists (select from api_tokens
                              where revoked_at is null and (expires_at is null or expires_at > now())) as "any!""#
        )
        .fetch_one(&self.control)
        .await
        .during("look for tokens")
    }

    /// Revokes the token of this name: the next request with it is refused.
    ///
    /// # Errors
    /// `NotFound` when none of this name is in force.
    pub async fn revoke_token(&self, name: &Name) -> Result<ApiToken> {
        sqlx::query_as!(
            Row,
            "update api_tokens set revoked_at = now() where name = $1 and revoked_at is null
             returning id, name, role, created_at, created_by, expires_at, last_used_at, revoked_at",
            name.as_str()
        )
        .fetch_optional(&self.control)
        .await
        .during("revoke a token")?
        .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no token {name} in force")))?
        .try_into()
    }
}
