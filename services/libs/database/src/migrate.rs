//! The schema: applying it, and refusing one that this build cannot work with.
//!
//! During a rolling upgrade old processes run on the new schema. That is what expanding migrations are for, which only add. One that takes
//! something away is called `NNNN_contract_WHAT.sql`; its name is recorded with it, so that a release which does not know it yet sees
//! that its time is over.

use std::borrow::Cow;

use sqlx::migrate::Migrator;

use crate::{
    Database,
    error::{During, Error, ErrorKind, Result},
};

static MIGRATOR: Migrator = sqlx::migrate!("../../../migrations");

/// How the description of a contracting migration begins.
const CONTRACTING: &str = "contract";

/// A migration that has been applied.
struct Applied {
    version: i64,
    description: String,
}

impl Database {
    /// Applies what is missing, under a lock, and tells how many migrations that were. What a newer release has added stays.
    ///
    /// # Errors
    /// A database from which a newer release has taken something away, or whose migrations were changed.
    pub async fn migrate(&self) -> Result<usize> {
        let before = self.applied().await?;
        check_unknown(&before)?;
        let migrator =
            Migrator { migrations: Cow::Borrowed(&MIGRATOR.migrations), ignore_missing: true, ..Migrator::DEFAULT };
        migrator
            .run(&self.control)
            .await
            .map_err(|error| Error::new(ErrorKind::Schema, format!("apply migrations: {error}")))?;
        Ok(self.applied().await?.len() - before.len())
    }

    /// Refuses a schema that lacks what this build needs.
    ///
    /// # Errors
    /// Says what is missing or unknown, and what to do.
    pub async fn check_schema(&self) -> Result<()> {
        let applied = self.applied().await?;
        let missing: Vec<_> = MIGRATOR
            .iter()
            .map(|migration| migration.version)
            .filter(|version| !applied.iter().any(|applied| applied.version == *version))
            .collect();
        if !missing.is_empty() {
            return Err(Error::new(
                ErrorKind::Schema,
                format!("the database lacks migrations {missing:?} of this release: run `perito migrate`"),
            ));
        }
        check_unknown(&applied)
    }

    async fn applied(&self) -> Result<Vec<Applied>> {
        // Made by sqlx with the first migration, so unknown when queries are compiled.
        let exists: bool = sqlx::query_scalar("select to_regclass('_sqlx_migrations') is not null")
            .fetch_one(&self.control)
            .await
            .during("look for migrations")?;
        if !exists {
            return Ok(Vec::new());
        }
        let rows: Vec<(i64, String)> =
            sqlx::query_as("select version, description from _sqlx_migrations where success order by version")
                .fetch_all(&self.control)
                .await
                .during("list migrations")?;
        Ok(rows.into_iter().map(|(version, description)| Applied { version, description }).collect())
    }
}

/// Refuses a schema from which a newer release has taken something away.
fn check_unknown(applied: &[Applied]) -> Result<()> {
    let contracting: Vec<_> = applied
        .iter()
        .filter(|applied| applied.description.starts_with(CONTRACTING) && !MIGRATOR.version_exists(applied.version))
        .map(|applied| applied.version)
        .collect();
    if contracting.is_empty() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Schema,
        format!(
            "migrations {contracting:?} of a newer release have taken away what this release needs: start a newer release"
        ),
    ))
}
