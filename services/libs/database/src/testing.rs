//! A database of its own for each test, on the real server that `PERITO_DATABASE_URL` names.

use perito_domain::access::Role;
use sqlx::{Connection, Executor, PgConnection};
use uuid::Uuid;

use crate::{Database, DatabaseOptions};

/// A migrated database that is dropped with this value.
pub struct TestDatabase {
    /// It.
    pub database: Database,
    /// Where it is.
    pub url: String,
    name: String,
    server: String,
}

/// The connections of any database, for a test that takes them away.
pub fn pool(database: &Database) -> &sqlx::PgPool {
    &database.control
}

/// A service with a login of its own, which may do what its role may and nothing else. [`TestDatabase::migrated`] makes the logins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// A member of `perito_coordinator`.
    Coordinator,
    /// A member of `perito_worker`.
    Worker,
}

impl Service {
    /// The login.
    fn login(self) -> &'static str {
        match self {
            Self::Coordinator => "perito_test_coordinator",
            Self::Worker => "perito_test_worker",
        }
    }

    /// Its password, which must not be found anywhere.
    fn password(self) -> String {
        format!("hunter2-{}", self.login())
    }

    fn role(self) -> &'static str {
        match self {
            Self::Coordinator => "perito_coordinator",
            Self::Worker => "perito_worker",
        }
    }

    /// Makes its login. Logins belong to the whole server: another test may have made this one, or be making it now.
    ///
    /// # Panics
    /// When the server cannot be used.
    #[expect(clippy::expect_used, reason = "for tests only")]
    pub async fn ensure_login(self, database: &Database) {
        let (login, role, password) = (self.login(), self.role(), self.password());
        let sql = format!(
            "do $$ begin
                 if not exists (select from pg_roles where rolname = '{login}') then
                     create role {login} login password '{password}' in role {role};
                 end if;
             exception when duplicate_object or unique_violation then null;
             end $$"
        );
        database.control.execute(sqlx::AssertSqlSafe(sql)).await.expect("make a login for a service");
    }

    /// The same place for this service's login.
    pub fn url(self, url: &str) -> String {
        let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
        let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
        format!("{scheme}://{}:{}@{place}", self.login(), self.password())
    }
}

/// The server for tests.
///
/// # Panics
/// When `PERITO_DATABASE_URL` is not set: a test that needs Postgres must not pass without it.
pub fn server_url() -> String {
    #[expect(clippy::expect_used, reason = "a test without its server has to fail, and say how to mend it")]
    std::env::var("PERITO_DATABASE_URL").expect(
        "PERITO_DATABASE_URL is not set: run `make test`, or `eval \"$(deploy/local/stack env)\"` with a stack up",
    )
}

impl TestDatabase {
    /// Makes a database without any tables.
    ///
    /// # Panics
    /// When the server cannot be used.
    pub async fn empty() -> Self {
        Self::empty_on(&server_url()).await
    }

    #[expect(clippy::expect_used, reason = "for tests only")]
    async fn empty_on(server: &str) -> Self {
        let server = server.to_owned();
        let name = format!("perito_test_{}", Uuid::new_v4().simple());
        let mut admin = PgConnection::connect(&server).await.expect("connect to the server for tests");
        admin.execute(sqlx::AssertSqlSafe(format!("create database {name}"))).await.expect("create a database");
        let base = server.rsplit_once('/').map_or(server.as_str(), |(base, _)| base);
        let url = format!("{base}/{name}");
        let options = DatabaseOptions { url: url.clone(), control_connections: 6, bulk_connections: 3 };
        let database = Database::connect(&options).await.expect("connect to the new database");
        Self { database, url, name, server }
    }

    /// Makes a database and applies the migrations.
    ///
    /// # Panics
    /// When the server cannot be used.
    pub async fn migrated() -> Self {
        Self::migrated_on(&server_url()).await
    }

    /// The same on another server.
    ///
    /// # Panics
    /// When the server cannot be used.
    #[expect(clippy::expect_used, reason = "for tests only")]
    pub async fn migrated_on(server: &str) -> Self {
        let test = Self::empty_on(server).await;
        test.database.migrate().await.expect("apply migrations");
        for service in [Service::Coordinator, Service::Worker] {
            service.ensure_login(&test.database).await;
        }
        test
    }

    /// A token of the API.
    ///
    /// # Panics
    /// When there is one of this name.
    #[expect(clippy::expect_used, reason = "for tests only")]
    pub async fn token(&self, name: &str, role: Role) -> String {
        let name = name.parse().expect("a name");
        self.database.create_token(&name, role, None, None).await.expect("make a token").1.expose()
    }

    /// The connections, for what a test looks at.
    pub fn pool(&self) -> &sqlx::PgPool {
        &self.database.control
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        // On a thread of its own: a test's runtime may be gone or busy. A database that stays behind goes with the stack.
        let dropping = std::thread::spawn(move || {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
            runtime.block_on(async {
                if let Ok(mut admin) = PgConnection::connect(&server).await {
                    let _ = admin
                        .execute(sqlx::AssertSqlSafe(format!("drop database if exists {name} with (force)")))
                        .await;
                }
            });
        });
        let _ = dropping.join();
    }
}
