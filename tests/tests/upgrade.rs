//! Rolling upgrades: a release beside the one before, in both directions.
//!
//! There is no released binary to run, so today's play both parts. They are the old ones on a database that the next release has
//! expanded, and the new ones where a migration is missing. Messages of the release before are kept as bytes (the layout is tested in
//! `proto/tests/compatible.rs`). What every migration has to keep to, so that this holds, is tested here too.
#![allow(clippy::unwrap_used)]

use std::{path::Path, time::Duration};

use lapin::{Connection, ConnectionProperties};
use perito_domain::{Severity, lifecycle::JobKind};
use perito_proto::v1;
use perito_tests::{
    Process, System, models,
    photographs::photograph,
    system::{PATIENCE, free_address},
};
use prost::Message as _;
use regex::Regex;
use serde_json::json;
use sqlx::{AssertSqlSafe, Executor};

async fn photographs(system: &System, folder: &str) -> Vec<i64> {
    let photo = |number: u64| (format!("{folder}/c{number}/{number}.jpg"), photograph(Severity::Minor, number, 64, 64));
    system.register(&(0..6).map(photo).collect::<Vec<_>>()).await
}

async fn score(system: &System, model: &str, folder: &str) -> String {
    let selection = json!({"by": "prefix", "bucket": system.bucket, "prefix": format!("{folder}/")});
    system.submit(json!({"kind": "score", "model": model, "selection": selection, "shard_size": 2})).await
}

async fn applied(system: &System, version: i64, description: &str) {
    let row = "insert into _sqlx_migrations (version, description, success, checksum, execution_time) values ($1, $2, true, '', 0)";
    sqlx::query(row).bind(version).bind(description).execute(system.pool()).await.unwrap();
}

/// Both services refuse to start; what they say.
async fn refusals(system: &mut System) -> [String; 2] {
    let mut logs = Vec::new();
    for binary in ["perito-coordinator", "perito-worker"] {
        let mut process = system.run(binary, &[]);
        let status = process.wait(Duration::from_secs(30)).await;
        assert!(!status.success(), "{binary} starts:\n{}", process.log());
        logs.push(process.log());
    }
    logs.try_into().unwrap()
}

/// A new coordinator, or any other, where the old one was.
async fn replace_coordinator(system: &mut System) {
    system.coordinator.signal("TERM");
    assert!(system.coordinator.wait(Duration::from_secs(30)).await.success(), "{}", system.coordinator.log());
    system.coordinator = system.run("perito-coordinator", &[]);
    system.wait_until_ready().await;
}

#[tokio::test]
async fn new_binaries_refuse_a_database_that_lacks_a_migration_and_name_the_way_out() {
    let mut system = System::start().await;
    system.coordinator.kill();
    system
        .pool()
        .execute("delete from _sqlx_migrations where version = (select max(version) from _sqlx_migrations)")
        .await
        .unwrap();
    for log in refusals(&mut system).await {
        assert!(log.contains("lacks migrations") && log.contains("`perito migrate`"), "{log}");
    }
}

#[tokio::test]
async fn old_binaries_go_on_and_start_again_on_a_database_that_the_next_release_has_expanded() {
    let mut system = System::start().await;
    let model = models::import(&system, "cheap").await;
    let worker = system.worker("before");
    // The next release's migration, while this one's coordinator and worker run.
    for statement in [
        "alter table tasks add column next_release text",
        "alter table jobs add column next_release integer not null default 7",
        "alter table predictions add column next_release real",
        "alter table images add column next_release text[]",
        "create table next_release (id bigint primary key, job_id uuid references jobs)",
        "create index on tasks (next_release)",
    ] {
        system.pool().execute(AssertSqlSafe(statement)).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
    applied(&system, 9000, "next release").await;

    let ids = photographs(&system, "running").await;
    let job = score(&system, &model, "running").await;
    system.success_of(&job).await;
    assert_eq!(system.scores(&job).await.iter().map(|row| row.0).collect::<Vec<_>>(), ids);

    // A node went away: the old release starts again.
    drop(worker);
    replace_coordinator(&mut system).await;
    let _worker = system.worker("after");
    let ids = photographs(&system, "restarted").await;
    let job = score(&system, &model, "restarted").await;
    system.success_of(&job).await;
    assert_eq!(system.scores(&job).await.iter().map(|row| row.0).collect::<Vec<_>>(), ids);
    // A release that is rolled back runs its own migrations first.
    let (code, _, errors) = system.perito(&["migrate"]).await;
    assert_eq!(code, 0, "{errors}");
}

#[tokio::test]
async fn old_binaries_refuse_a_database_from_which_a_later_release_has_taken_something_away() {
    let mut system = System::start().await;
    system.coordinator.kill();
    applied(&system, 9001, "contract tasks priority").await;
    for log in refusals(&mut system).await {
        assert!(log.contains("9001") && log.contains("start a newer release"), "{log}");
    }
    let (code, _, errors) = system.perito(&["migrate"]).await;
    assert!(code != 0 && errors.contains("start a newer release"), "{errors}");
}

#[tokio::test]
async fn an_old_worker_leaves_alone_what_a_newer_coordinator_has_specified() {
    let system = System::start().await;
    let model = models::import(&system, "cheap").await;
    let ids = photographs(&system, "later").await;
    let job = score(&system, &model, "later").await;
    system.wait_for(&job, "dispatch", |job| job["tasks"]["dispatched"] == 3).await;
    // A field that this release does not know may change what is to be done.
    let change = async |sql: &str| {
        sqlx::query(AssertSqlSafe(format!("update jobs set spec = {sql} where id = '{job}'")))
            .execute(system.pool())
            .await
            .unwrap();
    };
    change("spec || '{\"next_release\": 1}'").await;
    let worker = Process::start(
        "perito-worker",
        &["--name", "old", "--compute-threads", "1", "--decode-threads", "1"],
        &system.variables,
        std::env::temp_dir().join(format!("{}.log", system.namespace)),
    );
    let started = std::time::Instant::now();
    while !worker.log().contains("next_release") {
        assert!(started.elapsed() < Duration::from_secs(30), "{}", worker.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let spent = "select coalesce(sum(attempts_spent), 0)::bigint from tasks";
    assert_eq!(system.count(spent).await, 0, "no attempt is spent on it:\n{}", worker.log());
    let lines = worker.log().lines().filter(|line| line.contains("next_release")).count();
    println!("{lines} lines of log in about a second");
    // Somebody who understands it, played by this worker with a specification that it understands.
    change("spec - 'next_release'").await;
    system.success_of(&job).await;
    assert_eq!(system.scores(&job).await.iter().map(|row| row.0).collect::<Vec<_>>(), ids);
    drop(worker);
    let _ = std::fs::remove_file(std::env::temp_dir().join(format!("{}.log", system.namespace)));
}

#[tokio::test]
async fn a_planner_puts_off_a_job_that_a_newer_coordinator_has_taken() {
    let mut system = System::start().await;
    let model = models::import(&system, "cheap").await;
    let ids = photographs(&system, "later").await;
    let _worker = system.worker("w1");
    // Taken by another replica, of the next release.
    let spec = json!({"kind": "score", "schema": 1, "model": model, "next_release": 1, "shard_size": 2,
                      "selection": {"by": "prefix", "bucket": system.bucket, "prefix": "later/"}});
    let job = uuid::Uuid::now_v7();
    sqlx::query("insert into jobs (id, kind, spec, state, priority) values ($1, 'score', $2, 'queued', 4)")
        .bind(job)
        .bind(&spec)
        .execute(system.pool())
        .await
        .unwrap();
    let started = std::time::Instant::now();
    let put_off = format!("select plan_failures::bigint from jobs where id = '{job}' and state = 'queued'");
    while system.count(&put_off).await == 0 {
        assert!(started.elapsed() < PATIENCE, "{}", system.coordinator.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Somebody who understands it.
    let understood = format!("update jobs set spec = spec - 'next_release', plan_after = null where id = '{job}'");
    sqlx::query(AssertSqlSafe(understood)).execute(system.pool()).await.unwrap();
    let job = job.to_string();
    system.success_of(&job).await;
    assert_eq!(system.scores(&job).await.iter().map(|row| row.0).collect::<Vec<_>>(), ids);
}

#[tokio::test]
async fn messages_of_an_unknown_version_are_parked_and_counted_and_their_tasks_are_done_all_the_same() {
    let mut system = System::start().await;
    let model = models::import(&system, "cheap").await;
    let ids = photographs(&system, "parked").await;
    let job = score(&system, &model, "parked").await;
    system.wait_for(&job, "dispatch", |job| job["tasks"]["dispatched"] == 3).await;
    let connection = Connection::connect(&system.broker().url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let (exchange, dead) = (system.topology().exchange(), system.topology().dead_letter());
    // Of version 2, for a task that there is: the version, the job's and the task's id.
    let message = &system.messages(&job).await[0];
    let mut later = vec![0x08, 2, 0x12, 16];
    later.extend(message.job_id.as_bytes());
    later.extend([0x1a, 16]);
    later.extend(message.task_id.as_bytes());
    let confirm = channel
        .basic_publish(
            exchange.as_str().into(),
            "score".into(),
            lapin::options::BasicPublishOptions::default(),
            &later,
            lapin::BasicProperties::default(),
        )
        .await
        .unwrap();
    confirm.await.unwrap();
    let listen = free_address();
    let arguments = ["--name", "old", "--listen", &listen, "--compute-threads", "1", "--decode-threads", "1"];
    let worker = system.run("perito-worker", &arguments);
    system.success_of(&job).await;
    assert_eq!(system.scores(&job).await.iter().map(|row| row.0).collect::<Vec<_>>(), ids);

    let started = std::time::Instant::now();
    let parked = loop {
        let options = lapin::options::BasicGetOptions { no_ack: false };
        if let Some(parked) = channel.basic_get(dead.as_str().into(), options).await.unwrap() {
            break parked;
        }
        assert!(started.elapsed() < PATIENCE, "nothing in {dead}:\n{}", worker.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(parked.data, later, "as it came");
    assert!(worker.log().contains("unknown schema version 2"), "{}", worker.log());
    let metrics = reqwest::get(format!("http://{listen}/metrics")).await.unwrap().text().await.unwrap();
    assert!(metrics.contains("perito_messages_dead_lettered_total{kind=\"score\"} 1"), "{metrics}");
}

/// The ids of what `perito dlq list` shows.
async fn dead_letters(system: &System) -> Vec<String> {
    let (code, list, errors) = system.perito(&["--json", "dlq", "list"]).await;
    assert_eq!(code, 0, "{errors}");
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    list["dead_letters"].as_array().unwrap().iter().map(|letter| letter["id"].as_str().unwrap().to_owned()).collect()
}

/// `perito dlq replay` of these, one message each.
async fn replay(system: &System, ids: &[String]) {
    let arguments: Vec<&str> = ["dlq", "replay"].into_iter().chain(ids.iter().map(String::as_str)).collect();
    let (code, output, errors) = system.perito(&arguments).await;
    assert_eq!(code, 0, "{errors}");
    assert!(ids.iter().all(|id| output.contains(&format!("{id}: 1 sent again"))), "{output}");
}

/// A worker of the release before, to which today's messages are of an unknown version: it parks them, as today's parks those of the
/// next release.
async fn park(channel: &lapin::Channel, queue: &str, messages: usize) {
    let started = std::time::Instant::now();
    let mut parked = 0;
    while parked < messages {
        let options = lapin::options::BasicGetOptions { no_ack: false };
        match channel.basic_get(queue.into(), options).await.unwrap() {
            Some(message) => {
                let options = lapin::options::BasicRejectOptions { requeue: false };
                message.acker.reject(options).await.unwrap();
                parked += 1;
            }
            None => tokio::time::sleep(Duration::from_millis(20)).await,
        }
        assert!(started.elapsed() < PATIENCE, "{parked} of {messages} messages in {queue}");
    }
}

#[tokio::test]
async fn what_an_old_worker_has_parked_comes_back_by_replay_after_the_upgrade_and_is_done_exactly_once() {
    let mut system = System::start().await;
    let model = models::import(&system, "cheap").await;
    let ids = photographs(&system, "replayed").await;
    // Nothing but the replay brings a message back: this coordinator would wait an hour before it takes one for lost.
    system.coordinator.signal("TERM");
    assert!(system.coordinator.wait(Duration::from_secs(30)).await.success(), "{}", system.coordinator.log());
    let patient = [("PERITO_LOST_AFTER".to_owned(), "1h".to_owned())];
    system.coordinator = system.run_with("perito-coordinator", &[], &patient);
    system.wait_until_ready().await;
    let job = score(&system, &model, "replayed").await;
    system.wait_for(&job, "dispatch", |job| job["tasks"]["dispatched"] == 3).await;

    let connection = Connection::connect(&system.broker().url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let queue = system.topology().queue(JobKind::Score);
    park(&channel, &queue, 3).await;
    let started = std::time::Instant::now();
    while dead_letters(&system).await.len() < 3 {
        assert!(started.elapsed() < PATIENCE, "{:?}", dead_letters(&system).await);
    }
    let parked = dead_letters(&system).await;
    // Sent again before the upgrade, it is parked again.
    replay(&system, &parked[..1]).await;
    park(&channel, &queue, 1).await;
    while dead_letters(&system).await.len() < 3 {
        assert!(started.elapsed() < PATIENCE, "{:?}", dead_letters(&system).await);
    }

    // The upgrade. Of one message a copy is in the broker, too, which may double anything.
    let twice = v1::TaskMessage::from(system.messages(&job).await.swap_remove(0)).encode_to_vec();
    let listen = free_address();
    let arguments = ["--name", "new", "--listen", &listen, "--compute-threads", "1", "--decode-threads", "1"];
    let worker = system.run("perito-worker", &arguments);
    replay(&system, &parked).await;
    let options = lapin::options::BasicPublishOptions::default();
    let properties = lapin::BasicProperties::default();
    let exchange = system.topology().exchange();
    let sent = channel.basic_publish(exchange.as_str().into(), "score".into(), options, &twice, properties).await;
    sent.unwrap().await.unwrap();
    system.success_of(&job).await;
    assert_eq!(system.scores(&job).await.iter().map(|row| row.0).collect::<Vec<_>>(), ids);
    assert!(dead_letters(&system).await.is_empty());
    let dropped = Regex::new(r"(?m)^perito_messages_dropped_total\{.*\} 1$").unwrap();
    loop {
        let metrics = reqwest::get(format!("http://{listen}/metrics")).await.unwrap().text().await.unwrap();
        if dropped.is_match(&metrics) {
            assert!(metrics.contains("perito_messages_received_total{kind=\"score\"} 4"), "{metrics}");
            break;
        }
        assert!(started.elapsed() < PATIENCE, "the copy is not dropped: {metrics}\n{}", worker.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let attempts = format!(
        "select count(*) from attempts join tasks on tasks.id = task_id where job_id = '{job}' and outcome = 'succeeded'"
    );
    assert_eq!(system.count(&attempts).await, 3);
    assert_eq!(system.count("select count(*) from attempts").await, 3, "one attempt for each task");
}

/// What a statement must not do in a migration that old processes live through. (Pattern, what it breaks.)
const CONTRACTING: [(&str, &str); 6] = [
    (r"\brename\b", "something is renamed"),
    (r"\balter\s+(column\s+)?\w+\s+(set\s+data\s+)?type\b", "a column changes its type"),
    (r"\bset\s+not\s+null\b", "a column becomes mandatory"),
    (r"\bdrop\s+default\b", "a default goes"),
    (r"\btruncate\b", "rows are removed"),
    // What everybody has by default, no process relies on: each logs in as the owner or as a role with grants of its own.
    (r"\brevoke\b.*\bfrom\s+perito_", "a right is taken away"),
];
/// What may be dropped: processes do not name it. Anything else after `drop` is a table, a view, a function or a column.
const DROPPABLE: [&str; 5] = ["constraint", "index", "trigger", "not", "default"];

/// The statements of a migration without comments and bodies of functions.
fn statements(sql: &str) -> Vec<String> {
    let comments = Regex::new(r"(?m)--.*$").unwrap();
    let bodies = Regex::new(r"(?s)\$\$.*?\$\$").unwrap();
    let plain = bodies.replace_all(&comments.replace_all(sql, ""), "''").to_lowercase();
    plain.split(';').map(|statement| statement.trim().to_owned()).filter(|statement| !statement.is_empty()).collect()
}

/// What in a migration would break processes of the release before.
fn breaks(sql: &str) -> Vec<String> {
    let mut found = Vec::new();
    let dropped = Regex::new(r"\bdrop\s+(\w+)").unwrap();
    for statement in statements(sql) {
        // Only what changes something that was there; `create` makes what nobody reads yet.
        if !["alter", "drop", "truncate", "revoke"].iter().any(|verb| statement.starts_with(verb)) {
            continue;
        }
        for (pattern, what) in CONTRACTING {
            if Regex::new(pattern).unwrap().is_match(&statement) {
                found.push(format!("{what}: {statement}"));
            }
        }
        if dropped.captures_iter(&statement).any(|found| !DROPPABLE.contains(&&found[1])) {
            found.push(format!("something is dropped: {statement}"));
        }
        // Each added column by itself: mandatory without a default, what old processes insert is refused.
        for added in statement.split("add column").skip(1) {
            let added = added.split(", add").next().unwrap_or(added);
            if added.contains("not null") && !added.contains("default") && !added.contains("generated") {
                found.push(format!("a mandatory column without a default: {}", added.trim()));
            }
        }
    }
    found
}

#[test]
fn migrations_expand_unless_their_name_says_that_they_contract() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations");
    let mut checked = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if !name.ends_with(".sql") {
            continue;
        }
        checked += 1;
        let broken = breaks(&std::fs::read_to_string(&path).unwrap());
        let contracts = name.split_once('_').unwrap().1.starts_with("contract_");
        assert!(
            broken.is_empty() || contracts,
            "{name} breaks processes of the release before: {broken:#?}\nExpand now, and contract in a later release, in a file NNNN_contract_WHAT.sql."
        );
    }
    assert!(checked >= 13, "{checked} migrations");
}

#[test]
fn what_breaks_old_processes_is_found() {
    for sql in [
        "alter table tasks drop column priority;",
        "alter table tasks drop priority;",
        "drop table workers;",
        "drop view analytics.backlog;",
        "-- harmless\nalter table tasks rename column worker to owner;",
        "alter table jobs alter column spec type text;",
        "alter table jobs alter spec set data type text;",
        "alter table jobs alter column model_id set not null;",
        "alter table jobs add column a integer, add column b text not null;",
        "revoke select on predictions from perito_worker;",
    ] {
        assert!(!breaks(sql).is_empty(), "{sql}");
    }
    for sql in [
        "alter table jobs add column a integer, add column b text not null default 'x';",
        "alter table jobs drop constraint c, add constraint c check (kind in ('a', 'b'));",
        "drop index i; create index i on tasks (id);",
        "create table t (id bigint not null, type text not null);",
        "alter table tasks alter column priority set default 4;",
        "-- drop table workers",
        "revoke create on schema public from public;",
    ] {
        assert!(breaks(sql).is_empty(), "{sql}: {:?}", breaks(sql));
    }
}
