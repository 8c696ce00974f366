//! The schema itself, and connecting.

use perito_database::{Database, DatabaseOptions, ErrorKind, testing::TestDatabase};

use crate::world::World;

#[tokio::test]
async fn migrating_twice_changes_nothing_and_only_a_schema_that_lost_something_is_refused() {
    let test = TestDatabase::empty().await;
    let missing = test.database.check_schema().await.unwrap_err();
    assert!(missing.kind() == ErrorKind::Schema && missing.to_string().contains("perito migrate"), "{missing}");
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../migrations");
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let files = names.filter(|name| name.to_str().unwrap().ends_with(".sql")).count();
    assert_eq!(test.database.migrate().await.unwrap(), files);
    assert_eq!(test.database.migrate().await.unwrap(), 0);
    test.database.check_schema().await.unwrap();
    // A newer release's: one that adds is none of our business, one that takes away is.
    for (version, description, refused) in [(98, "more columns", false), (99, "contract old columns", true)] {
        sqlx::query("insert into _sqlx_migrations (version, description, success, checksum, execution_time) values ($1, $2, true, '', 0)")
            .bind(version)
            .bind(description)
            .execute(test.pool())
            .await
            .unwrap();
        match test.database.check_schema().await {
            Ok(()) => assert!(!refused),
            Err(newer) => assert!(refused && newer.to_string().contains("99"), "{newer}"),
        }
    }
}

#[tokio::test]
async fn a_wrong_url_is_told_without_its_password() {
    let connect = async |url: &str| {
        let options = DatabaseOptions { url: url.to_owned(), control_connections: 1, bulk_connections: 1 };
        Database::connect(&options).await.unwrap_err()
    };
    let refused = connect("postgres://perito:hunter2@127.0.0.1:1/claims").await;
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    let text = refused.to_string();
    assert!(text.contains("127.0.0.1:1") && text.contains("claims") && !text.contains("hunter2"), "{text}");
    let malformed = connect("http://perito:hunter2@somewhere").await.to_string();
    assert!(malformed.contains("PERITO_DATABASE_URL") && !malformed.contains("hunter2"), "{malformed}");
}

#[tokio::test]
async fn the_analyst_reads_views_and_nothing_else() {
    let world = World::new().await;
    let mut connection = world.test.pool().acquire().await.unwrap();
    sqlx::query("set role perito_analyst").execute(&mut *connection).await.unwrap();
    for allowed in ["claim_severity", "claim_severity_at(0.9)", "backlog"] {
        let select = sqlx::AssertSqlSafe(format!("select * from analytics.{allowed}"));
        sqlx::query(select).execute(&mut *connection).await.unwrap();
    }
    for forbidden in [
        "select * from jobs",
        "select * from predictions",
        "select * from settings",
        "select * from intake.staging",
        "insert into dataset_items values (1, 1, 'training', 'minor')",
        "drop view analytics.job_runs",
    ] {
        let refused = sqlx::query(forbidden).execute(&mut *connection).await.unwrap_err().to_string();
        assert!(refused.contains("permission denied") || refused.contains("must be owner"), "{forbidden}: {refused}");
    }
    sqlx::query("reset role").execute(&mut *connection).await.unwrap();
}

#[tokio::test]
async fn every_column_that_analysts_see_has_a_comment() {
    let world = World::new().await;
    let without = "select count(*) from information_schema.columns c
                   where table_schema = 'analytics'
                     and col_description((table_schema || '.' || table_name)::regclass, ordinal_position::int) is null";
    assert_eq!(world.number(without).await, 0);
    let views = "select count(*) from pg_class where relnamespace = 'analytics'::regnamespace
                 and obj_description(oid, 'pg_class') is null";
    assert_eq!(world.number(views).await, 0);
}
