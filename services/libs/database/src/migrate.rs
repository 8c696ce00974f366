//! The schema: applying it, and refusing one that is unknown.

use sqlx::migrate::Migrator;

use crate::{
    Database,
    error::{During, Error, ErrorKind, Result},
};

static MIGRATOR: Migrator = sqlx::migrate!("../../../migrations");

impl Database {
    /// Applies what is missing, under a lock, and tells how many migrations that were.
    ///
    /// # Errors
    /// A database that has migrations this build does not know, or whose migrations were changed.
    pub async fn migrate(&self) -> Result<usize> {
        let before = self.applied().await?.len();
        MIGRATOR
            .run(&self.control)
            .await
            .map_err(|error| Error::new(ErrorKind::Schema, format!("apply migrations: {error}")))?;
        Ok(self.applied().await?.len() - before)
    }

    /// Refuses a schema that is not the one of this build.
    ///
    /// # Errors
    /// Says what is missing or unknown, and what to do.
    pub async fn check_schema(&self) -> Result<()> {
        let applied = self.applied().await?;
        let known: Vec<i64> = MIGRATOR.iter().map(|migration| migration.version).collect();
        let missing: Vec<_> = known.iter().filter(|version| !applied.contains(version)).collect();
        if !missing.is_empty() {
            return Err(Error::new(
                ErrorKind::Schema,
                format!("the database lacks migrations {missing:?} of this release: run `perito migrate`"),
            ));
        }
        let unknown: Vec<_> = applied.iter().filter(|version| !known.contains(version)).collect();
        if !unknown.is_empty() {
            return Err(Error::new(
                ErrorKind::Schema,
                format!(
                    "the database has migrations {unknown:?} that this release does not know: start a newer release"
                ),
            ));
        }
        Ok(())
    }

    async fn applied(&self) -> Result<Vec<i64>> {
        // Made by sqlx with the first migration, so unknown when queries are compiled.
        let exists: bool = sqlx::query_scalar("select to_regclass('_sqlx_migrations') is not null")
            .fetch_one(&self.control)
            .await
            .during("look for migrations")?;
        if !exists {
            return Ok(Vec::new());
        }
        sqlx::query_scalar("select version from _sqlx_migrations where success order by version")
            .fetch_all(&self.control)
            .await
            .during("list migrations")
    }
}
