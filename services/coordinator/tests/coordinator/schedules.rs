//! Schedules over HTTP, and the scheduler's loop: alone, and in two replicas that die at random on a simulated clock.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use crate::harness::{Coordinator, Queues, eventually, quick};
use chrono::{DateTime, TimeDelta, Utc};
use perito_coordinator::loops::{Scheduler, Wake};
use perito_database::{Database, DatabaseOptions};
use perito_domain::schedule::{RunOutcome, ScheduleSpec};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

fn nightly() -> Value {
    json!({
        "name": "nightly", "cron": "0 2 * * *", "zone": "America/Mexico_City",
        "job": {"kind": "score", "model": "severity@production", "selection": {"by": "backlog"}},
        "deadline": {"at": "07:00"},
    })
}

fn with(field: &str, value: Value) -> Value {
    let mut body = nightly();
    body[field] = value;
    body
}

#[tokio::test]
async fn a_schedule_is_added_shown_paused_resumed_and_removed() {
    let coordinator = Coordinator::start().await;
    let dry = coordinator.post("/v1/schedules?dry_run=true", &nightly()).await.expect(StatusCode::OK);
    assert_eq!(dry["next_fires"].as_array().unwrap().len(), 5);
    assert_eq!(coordinator.get("/v1/schedules").await.expect(StatusCode::OK), json!({"schedules": []}));

    let answer = coordinator.post("/v1/schedules", &nightly()).await;
    assert_eq!(answer.headers["location"], "/v1/schedules/nightly");
    let added = answer.expect(StatusCode::CREATED);
    assert_eq!(
        (&added["overlap"], &added["missed"], &added["priority"]),
        (&json!("skip"), &json!("run_once"), &json!(4))
    );
    assert_eq!(added["deadline"], json!({"at": "07:00", "action": "alarm"}));
    let next = &added["next_fires"][0];
    let (at, local): (DateTime<Utc>, String) =
        (next["at"].as_str().unwrap().parse().unwrap(), next["local"].as_str().unwrap().to_owned());
    assert!(local.ends_with("T02:00:00-06:00") && at > Utc::now() && at - Utc::now() <= TimeDelta::days(1), "{next}");
    coordinator.post("/v1/schedules", &nightly()).await.expect(StatusCode::OK);
    coordinator.post("/v1/schedules", &with("priority", json!(9))).await.refused(StatusCode::CONFLICT);
    coordinator.post("/v1/schedules?dry_run=true", &with("priority", json!(9))).await.refused(StatusCode::CONFLICT);

    let paused = coordinator.post("/v1/schedules/nightly/pause", &Value::Null).await.expect(StatusCode::OK);
    assert!(paused["paused_at"].is_string() && paused["next_fires"] == json!([]));
    let resumed = coordinator.post("/v1/schedules/nightly/resume", &Value::Null).await.expect(StatusCode::OK);
    assert_eq!((&resumed["paused_at"], &resumed["next_fires"]), (&Value::Null, &added["next_fires"]));
    let listed = coordinator.get("/v1/schedules").await.expect(StatusCode::OK);
    assert_eq!(listed["schedules"][0]["name"], "nightly");

    let delete = |path: &'static str| coordinator.send(coordinator.request(Method::DELETE, path));
    delete("/v1/schedules/nightly").await.expect(StatusCode::OK);
    delete("/v1/schedules/nightly").await.refused(StatusCode::NOT_FOUND);
    let missing = coordinator.get("/v1/schedules/nightly").await.refused(StatusCode::NOT_FOUND);
    assert!(missing.detail().contains("perito schedule list"), "{}", missing.detail());
}

#[tokio::test]
async fn what_is_wrong_with_a_schedule_is_named() {
    let coordinator = Coordinator::start().await;
    for (field, value, named) in [
        ("cron", json!("61 2 * * *"), "cron"),
        ("cron", json!("0 0 31 2 *"), "cron"),
        ("zone", json!("Mexico"), "zone"),
        ("deadline", json!({"at": "25:00"}), "deadline.at"),
        ("overlap", json!("sometimes"), "overlap"),
        ("name", json!("Nightly"), "name"),
        (
            "job",
            json!({"kind": "score", "model": "m", "selection": {"by": "backlog"}, "shard_size": 0}),
            "job.shard_size",
        ),
        ("timezone", json!("UTC"), "timezone"),
    ] {
        let problem = coordinator.post("/v1/schedules", &with(field, value)).await;
        assert_eq!(problem.refused(StatusCode::UNPROCESSABLE_ENTITY).field(), named);
    }
    coordinator.post("/v1/schedules", &nightly()).await.expect(StatusCode::CREATED);
    for (from, to, named) in [
        ("2030-01-01T00:00:00Z", "2030-01-02T00:00:00Z", "from"),
        ("2020-01-01T00:00:00Z", "2022-01-01T00:00:00Z", "from"),
    ] {
        let problem = coordinator.post("/v1/schedules/nightly/backfill", &json!({"from": from, "to": to})).await;
        assert_eq!(problem.refused(StatusCode::UNPROCESSABLE_ENTITY).field(), named);
    }
}

#[tokio::test]
async fn the_loops_fire_run_by_hand_and_fill_in() {
    let (coordinator, broker) = (Coordinator::start().await, Queues::new());
    coordinator.import_model("severity").await;
    coordinator.put("/v1/models/severity/aliases/production", &json!({"version": 1})).await.expect(StatusCode::OK);
    // Without any images, so that each job succeeds as soon as it is planned.
    coordinator.start_loops(&broker.0, quick());
    coordinator.post("/v1/schedules", &nightly()).await.expect(StatusCode::CREATED);
    // As if nobody had been there since yesterday.
    sqlx_execute(&coordinator, "update schedules set decided_until = now() - interval '1 day 1 second'").await;
    let runs = async || coordinator.get("/v1/schedules/nightly/runs").await.expect(StatusCode::OK)["runs"].clone();
    eventually("the missed run is made up for", async || runs().await[0]["job_state"] == "succeeded").await;
    let run = runs().await[0].clone();
    assert_eq!((&run["fired_by"], &run["outcome"]), (&json!("clock"), &json!("submitted")));
    assert!(run["local_fire_at"].as_str().unwrap().ends_with("T02:00:00-06:00"), "{run}");
    let job = coordinator.get(&format!("/v1/jobs/{}", run["job_id"].as_str().unwrap())).await.expect(StatusCode::OK);
    assert_eq!((&job["schedule"]["name"], &job["schedule"]["fire_at"]), (&json!("nightly"), &run["fire_at"]));
    assert_eq!(job["model"], "severity@1", "the alias was resolved when it was planned");

    let by_hand = coordinator.post("/v1/schedules/nightly/run-now", &Value::Null).await.expect(StatusCode::CREATED);
    assert_eq!((&by_hand["fired_by"], &by_hand["outcome"]), (&json!("operator"), &json!("submitted")));
    eventually("it succeeds", async || runs().await[0]["job_state"] == "succeeded").await;

    let fired: DateTime<Utc> = run["fire_at"].as_str().unwrap().parse().unwrap();
    let range = json!({"from": fired - TimeDelta::days(3), "to": fired});
    let path = "/v1/schedules/nightly/backfill";
    let told = coordinator.post(&format!("{path}?dry_run=true"), &range).await.expect(StatusCode::OK);
    assert_eq!((&told["new"], told["runs"].as_array().unwrap().len()), (&json!(3), 4));
    coordinator.post(path, &range).await.expect(StatusCode::OK);
    let again = coordinator.post(path, &range).await.expect(StatusCode::OK);
    assert_eq!(again["new"], 0);
    eventually("all have run", async || {
        let runs = runs().await;
        runs.as_array().unwrap().len() == 5
            && runs.as_array().unwrap().iter().all(|run| run["job_state"] == "succeeded")
    })
    .await;
}

async fn sqlx_execute(coordinator: &Coordinator, sql: &'static str) {
    sqlx::query(sql).execute(coordinator.test.pool()).await.unwrap();
}

/// A replica: starts, makes some rounds, dies in the middle of one, and starts again, until the clock is at the end.
async fn replica(url: String, clock: Arc<AtomicI64>, end: DateTime<Utc>, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let now = || DateTime::from_timestamp(clock.load(Ordering::SeqCst), 0).unwrap();
    while now() < end {
        // Connections of its own, as a process has: they are cut when it dies.
        let options = DatabaseOptions { url: url.clone(), control_connections: 1, bulk_connections: 1 };
        let mut scheduler = Scheduler::new(Database::connect(&options).await.unwrap(), Wake::default());
        for _ in 0..rng.random_range(1..20) {
            scheduler.round(now()).await.unwrap();
            // Mostly on by some minutes; now and then the clock is set back half a day, or leaps ahead.
            let step = match rng.random_range(0..80) {
                0 => -rng.random_range(3_600..43_200),
                1 => rng.random_range(3_600..86_400),
                _ => rng.random_range(1..3_000),
            };
            clock.fetch_add(step, Ordering::SeqCst);
        }
        let death = Duration::from_micros(rng.random_range(0..6_000));
        let _ = tokio::time::timeout(death, scheduler.round(now())).await;
    }
}

#[tokio::test]
async fn two_replicas_fire_each_time_once_through_crashes_and_clock_steps() {
    let coordinator = Coordinator::start().await;
    let database = coordinator.test.database.clone();
    // Clocks go back on the 25th of October 2026: in Berlin at 03:00, in Beirut at midnight.
    let (start, end): (DateTime<Utc>, DateTime<Utc>) =
        ("2026-10-21T00:00:00Z".parse().unwrap(), "2026-10-28T00:00:00Z".parse().unwrap());
    let mut schedules = Vec::new();
    for (name, cron, zone) in [
        ("berlin", "30 2 * * *", "Europe/Berlin"),
        ("berlin-hourly", "0 * * * *", "Europe/Berlin"),
        ("beirut", "15 11,23 * * *", "Asia/Beirut"),
    ] {
        let spec = ScheduleSpec::parse(json!({
            "name": name, "cron": cron, "zone": zone, "overlap": "allow",
            "missed": "catch_up", "catch_up_window_seconds": 31 * 86_400,
            "job": {"kind": "score", "model": "m", "selection": {"by": "backlog"}},
        }))
        .unwrap();
        schedules.push(database.add_schedule(&spec, start).await.unwrap().0);
    }
    let clock = Arc::new(AtomicI64::new(start.timestamp()));
    let replicas = [1, 2].map(|seed| tokio::spawn(replica(coordinator.test.url.clone(), clock.clone(), end, seed)));
    for replica in replicas {
        replica.await.unwrap();
    }
    // What was left undone by the last death.
    Scheduler::new(database.clone(), Wake::default()).round(end).await.unwrap();

    let mut submitted = 0;
    for schedule in schedules {
        let decided_until = database.schedule(&schedule.spec.name).await.unwrap().decided_until;
        assert!(end - decided_until < TimeDelta::days(1), "{} is left behind", schedule.spec.name);
        let pages = database.schedule_runs(schedule.id, None, 5_000).await.unwrap();
        let within = pages.iter().filter(|run| run.fire_at <= decided_until && run.fire_at > start);
        let times: Vec<_> = within.map(|run| run.fire_at).collect();
        let expected: BTreeSet<_> =
            schedule.spec.timetable.after(start).take_while(|at| *at <= decided_until).collect();
        assert_eq!(times.iter().copied().collect::<BTreeSet<_>>(), expected, "{}", schedule.spec.name);
        assert_eq!(times.len(), expected.len());
        assert!(pages.iter().all(|run| run.outcome == RunOutcome::Submitted && run.job_id.is_some()));
        submitted += pages.len();
    }
    let jobs: i64 = sqlx::query_scalar("select count(*) from jobs").fetch_one(coordinator.test.pool()).await.unwrap();
    assert_eq!(jobs as usize, submitted, "no job without its run, and no run without its job");
}
