//! What a person who looks for a fault wants to know of the database. Nothing is changed.

use chrono::{DateTime, Utc};
use sqlx::Row;

use crate::{
    Database,
    error::{During, Result},
};

/// How the database stands.
#[derive(Debug, Clone)]
pub struct Inspection {
    /// Such as `15.14`.
    pub server_version: String,
    /// The major version.
    pub server_major: i32,
    /// The role that asked.
    pub role: String,
    /// The server's clock, when it answered.
    pub clock: DateTime<Utc>,
    /// Connections of all clients, now.
    pub connections: i64,
    /// As many as the server takes.
    pub max_connections: i64,
    /// Tables of Perito that the role cannot read.
    pub unreadable: Vec<String>,
}

impl Database {
    /// Looks at the server, in one statement.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn inspect(&self) -> Result<Inspection> {
        // Of the server and not of the schema, so not checked when it is compiled: it has to work where no migration did.
        let row = sqlx::query(
            "select current_setting('server_version') as version,
                    current_setting('server_version_num')::int / 10000 as major,
                    current_user::text as role,
                    clock_timestamp() as clock,
                    (select sum(numbackends)::bigint from pg_stat_database) as connections,
                    current_setting('max_connections')::bigint as max_connections,
                    array(select c.relname::text from pg_class c
                          where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
                            and not has_table_privilege(c.oid, 'select')
                          order by 1) as unreadable",
        )
        .fetch_one(&self.control)
        .await
        .during("inspect the database")?;
        let inspection = || {
            Ok::<_, sqlx::Error>(Inspection {
                server_version: row.try_get("version")?,
                server_major: row.try_get("major")?,
                role: row.try_get("role")?,
                clock: row.try_get("clock")?,
                connections: row.try_get("connections")?,
                max_connections: row.try_get("max_connections")?,
                unreadable: row.try_get("unreadable")?,
            })
        };
        inspection().during("inspect the database")
    }
}
