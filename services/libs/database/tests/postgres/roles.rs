//! What each service's role may do, and what not.

use std::collections::BTreeSet;

use perito_database::testing::Service;
use sqlx::{Connection, PgConnection, Row};

use crate::world::World;

/// The tables that a role may use in this way, as Postgres sees it, so that inherited and public grants count.
async fn tables(world: &World, role: &str, privilege: &str) -> BTreeSet<String> {
    let sql = "select c.oid::regclass::text from pg_class c
               where c.relkind in ('r', 'p') and c.relnamespace in ('public'::regnamespace, 'intake'::regnamespace, 'archive'::regnamespace)
                 and not c.relispartition and (has_table_privilege($1, c.oid, $2)
                     or $2 in ('INSERT', 'UPDATE', 'SELECT') and has_any_column_privilege($1, c.oid, $2))";
    let rows = sqlx::query(sql).bind(role).bind(privilege).fetch_all(world.test.pool()).await.unwrap();
    rows.iter().map(|row| row.get::<String, _>(0)).collect()
}

fn named(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[tokio::test]
async fn a_worker_reads_and_writes_what_a_task_is_about() {
    let world = World::new().await;
    let role = "perito_worker";
    let closed = ["api_tokens", "settings", "schedules", "human_labels", "intake.staging", "archives", "latest_scores"];
    let read = tables(&world, role, "SELECT").await;
    assert!(closed.iter().all(|table| !read.contains(*table)), "{read:?}");
    assert!(!read.contains("predictions"), "a worker writes scores and reads none: {read:?}");
    let deleted = tables(&world, role, "DELETE").await;
    assert_eq!(deleted, named(&["workers"]));
    let updated = tables(&world, role, "UPDATE").await;
    for fixed in
        ["predictions", "images", "models", "model_aliases", "datasets", "evaluations", "image_failures", "settings"]
    {
        assert!(!updated.contains(fixed), "{updated:?}");
    }
}

#[tokio::test]
async fn no_service_can_drop_truncate_or_alter_anything() {
    let world = World::new().await;
    for service in [Service::Worker, Service::Coordinator] {
        let mut connection = PgConnection::connect(&service.url(&world.test.url)).await.unwrap();
        for forbidden in [
            "drop table predictions",
            "drop table tasks cascade",
            "drop schema analytics cascade",
            "drop view analytics.job_runs",
            "truncate predictions",
            "truncate workers",
            "alter table tasks add column x int",
            "alter table tasks disable trigger all",
            "alter function record_label owner to current_user",
            "create table mine (x int)",
            "create function mine() returns int language sql as 'select 1'",
            "create trigger mine after update on jobs for each row execute function summarise_ended_run()",
            "delete from jobs",
            "delete from tasks",
            "delete from human_labels",
            "update predictions set severity = 'minor'",
            "insert into latest_scores select * from latest_scores",
            "select * from archives for update",
            "insert into _sqlx_migrations select * from _sqlx_migrations",
            "grant perito_analyst to current_user",
            "create role mine",
            "set role perito",
            "copy (select 1) to program 'true'",
            "select pg_read_file('/etc/passwd')",
        ] {
            let refused = sqlx::query(forbidden).execute(&mut connection).await;
            let refused = refused.err().unwrap_or_else(|| panic!("{service:?} may {forbidden}")).to_string();
            let denied = [
                "permission denied",
                "must be owner",
                "must be able to",
                "must have",
                "must be superuser",
                "only roles with",
            ];
            assert!(denied.iter().any(|words| refused.contains(words)), "{service:?}: {forbidden}: {refused}");
        }
    }
    // What the one may and the other may not.
    let mut worker = PgConnection::connect(&Service::Worker.url(&world.test.url)).await.unwrap();
    for forbidden in [
        "select ensure_prediction_partition('2024-05-10')",
        "update jobs set state = 'succeeded'",
        "insert into jobs (id, kind, spec) values (gen_random_uuid(), 'score', '{}')",
        "select * from api_tokens",
        "delete from predictions",
        "insert into model_aliases values ('a', 'b', 1)",
        "update settings set claim_confidence = 0.1",
    ] {
        let refused = sqlx::query(forbidden).execute(&mut worker).await.unwrap_err().to_string();
        assert!(refused.contains("permission denied"), "{forbidden}: {refused}");
    }
    let mut coordinator = PgConnection::connect(&Service::Coordinator.url(&world.test.url)).await.unwrap();
    for forbidden in [
        "insert into predictions select * from predictions",
        // It may add one, for an image that kills workers.
        "update image_failures set detail = 'nothing happened'",
        "delete from api_tokens",
        "update human_labels set severity = 'minor'",
    ] {
        let refused = sqlx::query(forbidden).execute(&mut coordinator).await.unwrap_err().to_string();
        assert!(refused.contains("permission denied"), "{forbidden}: {refused}");
    }
    sqlx::query("select ensure_prediction_partition('2024-05-10')").execute(&mut coordinator).await.unwrap();
    let owner: String =
        sqlx::query_scalar("select relowner::regrole::text from pg_class where relname = 'predictions_2024_05'")
            .fetch_one(world.test.pool())
            .await
            .unwrap();
    assert!(!owner.contains("coordinator"), "{owner}");
}

#[tokio::test]
async fn what_a_caller_puts_into_the_way_is_not_found_by_functions_with_the_owners_rights() {
    let world = World::new().await;
    let definers = "select count(*) from pg_proc p where p.prosecdef and p.pronamespace = 'public'::regnamespace
                    and not coalesce(p.proconfig @> array['search_path=public, pg_temp'], false)";
    assert_eq!(world.number(definers).await, 0);
    assert_eq!(
        world.number("select count(*) from pg_proc where prosecdef and pronamespace = 'public'::regnamespace").await,
        2
    );
}

#[tokio::test]
async fn the_intake_and_the_analyst_reach_no_table_of_the_services() {
    let world = World::new().await;
    for privilege in ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE"] {
        assert_eq!(tables(&world, "perito_analyst", privilege).await, BTreeSet::new(), "{privilege}");
        let expected = if privilege == "INSERT" { named(&["intake.staging"]) } else { BTreeSet::new() };
        assert_eq!(tables(&world, "perito_intake", privilege).await, expected, "{privilege}");
    }
}
