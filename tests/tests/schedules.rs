//! Schedules, through the real binaries: one fires, its job runs on a worker, and the operator's command shows it.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use perito_domain::Severity;
use perito_tests::{System, photographs::photograph, system::PATIENCE};
use serde_json::{Value, json};

/// Runs `perito schedule`, which has to succeed; its JSON.
async fn schedule(system: &System, arguments: &[&str]) -> Value {
    let (code, out, err) = system.perito(&[&["--json", "schedule"], arguments].concat()).await;
    assert_eq!(code, 0, "perito schedule {arguments:?}: {err}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
}

/// Waits for the newest run of a schedule to be as wanted.
async fn newest_run(system: &System, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let started = Instant::now();
    loop {
        let runs = system.get(&format!("/v1/schedules/{name}/runs?limit=1")).await;
        if wanted(&runs["runs"][0]) {
            return runs["runs"][0].clone();
        }
        assert!(started.elapsed() < PATIENCE, "{runs:#}\n{}", system.coordinator.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_schedule_fires_and_its_job_scores_the_backlog() {
    let mut system = System::start().await;
    let _worker = system.worker("w1");
    perito_tests::models::import(&system, "severity").await;
    let (code, _, err) = system.perito(&["model", "promote", "severity", "--alias", "production"]).await;
    assert_eq!(code, 0, "{err}");
    let photo = |number: u64| (format!("b/c{number}/{number}.jpg"), photograph(Severity::Minor, number, 64, 64));
    system.register(&(0..4).map(photo).collect::<Vec<_>>()).await;

    let nightly = [
        "--cron=0 2 * * *",
        "--zone=America/Mexico_City",
        "--deadline=07:00",
        "score",
        "severity@production",
        "--backlog",
        "--shard-size=2",
    ];
    let dry = schedule(&system, &[&["add", "nightly", "--dry-run"], &nightly[..]].concat()).await;
    assert_eq!(dry["next_fires"].as_array().unwrap().len(), 5);
    schedule(&system, &[&["add", "nightly"], &nightly[..]].concat()).await;
    let (code, shown, _) = system.perito(&["schedule", "show", "nightly"]).await;
    assert!(code == 0 && shown.contains("02:00:00 -06:00") && shown.contains("no runs yet"), "{shown}");

    // As if nobody had been there since yesterday: the last night is made up for.
    let yesterday = "update schedules set decided_until = now() - interval '1 day 1 second'";
    sqlx::query(yesterday).execute(system.pool()).await.unwrap();
    let run = newest_run(&system, "nightly", |run| run["job_state"] == "succeeded").await;
    let job = system.get(&format!("/v1/jobs/{}", run["job_id"].as_str().unwrap())).await;
    assert_eq!((&job["images"]["scored"], &job["schedule"]["name"]), (&json!(4), &json!("nightly")));
    assert_eq!(system.count("select count(*) from analytics.predictions").await, 4);
    assert_eq!(system.count("select count(*) from analytics.schedule_runs where job_state = 'succeeded'").await, 1);

    // New photographs, and a run by hand.
    system.register(&[photo(4)]).await;
    let (code, ended, err) = system.perito(&["--json", "schedule", "run-now", "nightly", "--watch"]).await;
    assert_eq!(code, 0, "{err}");
    let ended: Value = serde_json::from_str(&ended).unwrap();
    assert_eq!(ended["images"]["scored"], 1);
    let (_, shown, _) = system.perito(&["job", "show", ended["id"].as_str().unwrap()]).await;
    assert!(shown.contains("nightly, for"), "{shown}");

    let (code, listed, _) = system.perito(&["schedule", "list"]).await;
    assert!(code == 0 && listed.contains("score severity@production (backlog)"), "{listed}");
    assert!(schedule(&system, &["pause", "nightly"]).await["paused_at"].is_string());
    assert!(schedule(&system, &["resume", "nightly"]).await["paused_at"].is_null());
    schedule(&system, &["remove", "nightly"]).await;
    let (code, _, err) = system.perito(&["schedule", "show", "nightly"]).await;
    assert!(code == 5 && err.contains("perito schedule list"), "{code}: {err}");
}

#[tokio::test]
async fn a_job_that_is_not_done_at_its_deadline_raises_the_alarm_and_is_cancelled() {
    let system = System::start().await;
    perito_tests::models::import(&system, "severity").await;
    system.register(&[("b/c/0.jpg".to_owned(), photograph(Severity::Minor, 0, 64, 64))]).await;
    // Without a worker it never ends.
    let options = ["add", "nightly", "--cron=0 2 * * *", "--zone=UTC", "--deadline=07:00", "--at-deadline=cancel"];
    schedule(&system, &[&options[..], &["score", "severity", "--backlog"]].concat()).await;
    schedule(&system, &["run-now", "nightly"]).await;
    sqlx::query("update schedule_runs set deadline_at = now()").execute(system.pool()).await.unwrap();
    let run = newest_run(&system, "nightly", |run| run["deadline"]["outcome"] == "missed").await;
    let job = system.get(&format!("/v1/jobs/{}", run["job_id"].as_str().unwrap())).await;
    assert_eq!((&job["state"], &job["schedule"]["deadline_outcome"]), (&json!("cancelled"), &json!("missed")));
    assert!(job["error"].as_str().unwrap().contains("deadline of schedule nightly"), "{job}");
    let (_, shown, _) = system.perito(&["schedule", "show", "nightly"]).await;
    assert!(shown.contains("MISSED") && shown.contains("cancelled"), "{shown}");
    assert!(system.coordinator.log().contains("deadline missed"));
    let metrics = reqwest::get(format!("{}/metrics", system.api)).await.unwrap().text().await.unwrap();
    let alarm = "perito_schedule_deadlines_total{schedule=\"nightly\",outcome=\"missed\"} 1";
    assert!(metrics.contains(alarm) || metrics.contains("outcome=\"missed\",schedule=\"nightly\"} 1"), "{metrics}");
}
