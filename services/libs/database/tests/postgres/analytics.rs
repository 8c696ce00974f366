//! What analysts ask: the gallery's queries on generated data, and summaries against what they sum up.

use std::path::{Path, PathBuf};

use perito_database::{Condition, ErrorKind, Operator, RowFilter};
use perito_domain::{
    month::Month,
    table::{ColumnType, Value},
};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::world::{World, all_scored, backlog, by_prefix};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..")
}

/// A world with sixty nights, small.
async fn generated() -> World {
    let world = World::new().await;
    let mut connection = PgConnection::connect(&world.test.url).await.unwrap();
    let sql = std::fs::read_to_string(root().join("deploy/bench/generate.sql")).unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    sqlx::raw_sql("analyze").execute(&mut connection).await.unwrap();
    world
}

/// The rows of a query of the gallery, run with the analyst's rights.
async fn ask(world: &World, name: &str) -> Vec<serde_json::Value> {
    let sql = std::fs::read_to_string(root().join(format!("docs/reference/query-gallery/{name}.sql"))).unwrap();
    let mut analyst = PgConnection::connect(&world.test.url).await.unwrap();
    sqlx::query("set role perito_analyst").execute(&mut analyst).await.unwrap();
    let query = format!("select to_json(answer) from ({}\n) answer", sql.trim_end().trim_end_matches(';'));
    sqlx::query_scalar(AssertSqlSafe(query))
        .fetch_all(&mut analyst)
        .await
        .unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[tokio::test]
async fn the_gallery_answers() {
    let world = generated().await;
    // The newest run could not read one photograph.
    world
        .execute(
            "insert into image_failures (job_id, image_id, task_id, reason, detail)
             select t.job_id, t.image_ids[1], t.id, 'corrupt', 'cut off' from tasks t where kind = 'score' order by finished_at desc limit 1",
        )
        .await;
    let mut names: Vec<_> = std::fs::read_dir(root().join("docs/reference/query-gallery"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "sql"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    assert!(names.len() >= 12, "{names:?}");
    for name in &names {
        assert!(!ask(&world, name).await.is_empty(), "{name} finds nothing");
    }

    // The last quarter of the nights shows more and more damage, and nothing else changes: by the index's common reading the last week
    // is to be looked at, however many nights it has by today, and the first half is stable.
    let drift = ask(&world, "model-drift").await;
    for version in [1, 2] {
        let of_version = drift.iter().filter(|week| week["model_version"] == version);
        let weeks: Vec<_> = of_version.map(|week| week["psi_to_first_week"].as_f64().unwrap()).collect();
        assert_eq!(weeks[0], 0.0);
        assert!(weeks[weeks.len() - 1] > 0.1, "{weeks:?}");
        assert!(weeks[1..weeks.len() / 2].iter().all(|psi| *psi < 0.1), "{weeks:?}");
    }
    // Every stored metric follows from its rows.
    for measured in ask(&world, "metrics-recomputed").await {
        assert!(measured["largest_difference"].as_f64().unwrap() < 1e-9, "{measured}");
    }
    // Each night's shares are of all that was scored.
    for night in ask(&world, "severity-mix-by-day").await {
        let percent = |class: &str| night[format!("{class}_percent")].as_f64().unwrap_or(0.0);
        assert!((percent("minor") + percent("moderate") + percent("severe") - 100.0).abs() < 0.2, "{night}");
        assert_eq!(night["images"], 166, "20000 / 60 / 2");
    }
    let unsure = ask(&world, "review-queue").await;
    assert!(unsure.iter().all(|photograph| photograph["confidence"].as_f64().unwrap() <= 0.5), "{unsure:?}");
    let lineage = &ask(&world, "score-lineage").await[0];
    assert_eq!((&lineage["model"], &lineage["dataset"]), (&"severity@2".into(), &"bench@1".into()));
    assert_eq!((&lineage["code_version"], &lineage["seed"]), (&"generated".into(), &42.into()));
    let agreed: i64 = ask(&world, "model-agreement")
        .await
        .iter()
        .flat_map(|row| ["newer_minor", "newer_moderate", "newer_severe"].map(|class| row[class].as_i64().unwrap()))
        .sum();
    assert_eq!(agreed, 166, "both versions scored the same photographs");
    let tasks: i64 = ask(&world, "model-disagreements").await.len().try_into().unwrap();
    assert!(tasks > 0 && tasks < 166);
}

#[tokio::test]
async fn summaries_are_what_they_sum_up() {
    let world = generated().await;
    // Nothing is counted otherwise in the summary than in the rows, nor left out of it.
    let mix = "select count(*) from (select job_id, severity, count(*) as images, count(*) filter (where confidence < 0.5) as unsure
                                     from analytics.predictions group by job_id, severity) counted
               full join analytics.run_severity s using (job_id, severity)
               where s.images is distinct from counted.images or s.unsure is distinct from counted.unsure";
    assert_eq!(world.number(mix).await, 0);
    let histogram = "select count(*) from (
                         select job_id, 'severe'::severity as severity, least(floor(p_severe * 20), 19)::smallint as bin, count(*) as images
                         from analytics.predictions group by 1, 3
                     ) counted
                     full join (select * from analytics.score_histogram where severity = 'severe') h using (job_id, severity, bin)
                     where h.images is distinct from counted.images";
    assert_eq!(world.number(histogram).await, 0);
    let latest = "select count(*) from (
                      select distinct on (image_id) image_id, job_id, severity, p_minor, p_moderate, p_severe, scored_at
                      from analytics.predictions order by image_id, finished_at desc, job_id desc
                  ) newest
                  full join analytics.image_severity s using (image_id, job_id, severity, p_minor, p_moderate, p_severe, scored_at)
                  where newest.image_id is null or s.image_id is null";
    assert_eq!(world.number(latest).await, 0);
    assert_eq!(world.number("select count(*) from analytics.image_severity").await, 2000);
}

#[tokio::test]
async fn summaries_show_with_the_run() {
    let world = World::new().await;
    world.images(4).await;
    let job = world.scoring(10).await;
    let task = world.claim(world.tasks(job).await[0]).await;
    world.db.commit_score(&task, &all_scored(&task)).await.unwrap();
    for view in ["run_severity", "score_histogram", "image_severity", "run_costs"] {
        assert_eq!(world.number(&format!("select count(*) from analytics.{view}")).await, 0, "{view}");
    }
    world.db.finish_jobs().await.unwrap();
    assert_eq!(
        world.text("select severity || ' ' || images || ' ' || share from analytics.run_severity").await,
        "severe 4 1"
    );
    assert_eq!(
        world.text("select string_agg(severity || ' ' || bin || ' ' || images, ', ' order by severity) from analytics.score_histogram").await,
        "minor 4 4, moderate 2 4, severe 13 4",
        "0.2, 0.1 and 0.7 as single-precision numbers, in bins of 0.05"
    );
    assert_eq!(world.number("select count(*) from analytics.image_severity").await, 4);
    // A run that failed shows what it cost, and nothing else.
    let mut spec = by_prefix(10);
    spec["failure_budget"] = 0.0.into();
    let failed = world.submit(spec).await;
    world.db.plan_next().await.unwrap();
    world.db.cancel(failed).await.unwrap();
    assert_eq!(world.number("select count(*) from analytics.run_costs where state = 'cancelled'").await, 1);
    assert_eq!(world.number("select count(distinct job_id) from analytics.run_severity").await, 1);
}

#[tokio::test]
async fn a_device_second_is_shared_between_the_tasks_that_run_in_it() {
    let world = World::new().await;
    world.images(4).await;
    let (first, second) = (world.scoring(2).await, world.submit(by_prefix(10)).await);
    world.db.plan_next().await.unwrap();
    let (tasks, other) = (world.tasks(first).await, world.tasks(second).await[0]);
    // Worker a: the first job's tasks from 0 to 20 s and from 10 to 30 s, the second job's from 20 to 40 s. So the first job held it
    // for 20 s alone and for 10 s together with the second one: 25 s. Worker b lost an attempt of 5 s.
    let attempt = |task, number: i32, worker: &'static str, from: i32, to: i32, outcome: &'static str| {
        format!(
            "insert into attempts (task_id, attempt, worker, started_at, ended_at, outcome)
             values ('{task}', {number}, '{worker}', now() + interval '{from} s', now() + interval '{to} s', '{outcome}')"
        )
    };
    world
        .execute(&format!(
            "with w1 as ({} returning 1), w2 as ({} returning 1), w3 as ({} returning 1) {}",
            attempt(tasks[0], 1, "a", 0, 20, "succeeded"),
            attempt(tasks[1], 1, "b", 0, 5, "expired"),
            attempt(tasks[1], 2, "a", 10, 30, "succeeded"),
            attempt(other, 1, "a", 20, 40, "succeeded"),
        ))
        .await;
    world.execute("update tasks set state = 'succeeded', images_scored = cardinality(image_ids)").await;
    world.execute("update jobs set state = 'succeeded', finished_at = now() + interval '1 minute'").await;
    let cost = async |job| {
        let sql = "select concat_ws(' ', attempts, attempts_lost, workers, device_seconds, device_seconds_lost) from run_costs where job_id";
        world.text(&format!("{sql} = '{job}'")).await
    };
    assert_eq!(cost(first).await, "3 1 2 30 5");
    assert_eq!(cost(second).await, "1 0 1 15 0");
}

#[tokio::test]
async fn the_catalogue_knows_what_the_analyst_may_read() {
    let world = generated().await;
    let views = world.db.views().await.unwrap();
    let view = views.iter().find(|view| view.name == "predictions").unwrap();
    assert!(view.comment.starts_with("Every score") && view.columns.iter().all(|column| !column.comment.is_empty()));
    let kinds: Vec<_> = ["job_id", "image_id", "severity", "p_minor", "finished_at", "run_date"]
        .map(|name| view.columns.iter().find(|column| column.name == name).unwrap().kind)
        .into();
    use ColumnType::{Date, Float32, Int64, Text, Timestamp, Uuid};
    assert_eq!(kinds, [Uuid, Int64, Text, Float32, Timestamp, Date]);

    // All rows of it, typed; and those that meet a condition.
    let of = async |filter: RowFilter| {
        let mut rows = Vec::new();
        let count = world
            .db
            .extract_rows(&view.extract(&filter).unwrap(), async |batch| {
                rows.extend(batch);
                Ok::<_, perito_database::Error>(())
            })
            .await
            .unwrap();
        assert_eq!(count, rows.len() as u64);
        rows
    };
    assert_eq!(
        of(RowFilter::default()).await.len() as i64,
        world.number("select count(*) from analytics.predictions").await
    );
    let condition = |column: &str, comparison, value: &str| Condition {
        column: column.to_owned(),
        comparison,
        value: value.to_owned(),
    };
    let conditions = vec![
        condition("severity", Operator::GreaterOrEqual, "severe"),
        condition("claim_id", Operator::Equal, "C-00000007"),
        condition("model_version", Operator::Equal, "2"),
    ];
    let rows = of(RowFilter { conditions, ..RowFilter::default() }).await;
    let same = "select count(*) from analytics.predictions where severity = 'severe' and claim_id = 'C-00000007' and model_version = 2";
    assert_eq!(rows.len() as i64, world.number(same).await);
    assert!(!rows.is_empty() && rows.iter().all(|row| row[5] == Value::Text("severe".to_owned())), "{rows:?}");

    let wrong = RowFilter { conditions: vec![condition("severity", Operator::Equal, "grave")], ..RowFilter::default() };
    let refused = world
        .db
        .extract_rows(&view.extract(&wrong).unwrap(), async |_| Ok::<_, perito_database::Error>(()))
        .await
        .unwrap_err();
    assert!(refused.kind() == ErrorKind::Invalid && refused.to_string().contains("grave"), "{refused}");
    // Any column of any view can go out.
    for view in &views {
        world
            .db
            .extract_rows(&view.extract(&RowFilter::default()).unwrap(), async |_| Ok::<_, perito_database::Error>(()))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn an_archived_run_is_out_of_the_views_of_rows_and_stays_known() {
    let world = World::new().await;
    world.images(4).await;
    let old = world.scoring(10).await;
    let task = world.claim(world.tasks(old).await[0]).await;
    world.db.commit_score(&task, &all_scored(&task)).await.unwrap();
    world.db.finish_jobs().await.unwrap();
    // As if it had been two years ago.
    world.execute("select ensure_prediction_partition('2024-05-10')").await;
    world.execute("update predictions set run_date = '2024-05-10'").await;
    world.execute("update jobs set run_date = '2024-05-10'").await;
    // A newer run, of two of the images.
    let mut spec = by_prefix(10);
    spec["selection"]["prefix"] = "b/0000".into();
    world.execute("update images set key = 'c' || key where id > 2").await;
    let new = world.submit(spec).await;
    world.db.plan_next().await.unwrap();
    let task = world.claim(world.tasks(new).await[0]).await;
    world.db.commit_score(&task, &all_scored(&task)).await.unwrap();
    let month: Month = "2024-05".parse().unwrap();
    let lock = world.db.lock_archives().await.unwrap();
    assert_eq!(world.db.lock_archives().await.unwrap_err().kind(), ErrorKind::Conflict);

    // Not while a run of the month is open.
    world.execute("update jobs set run_date = '2024-05-20' where finished_at is null").await;
    let refused = world.db.detach_month(&lock, month, "b", "p").await.unwrap_err();
    assert!(refused.kind() == ErrorKind::Conflict && refused.to_string().contains("1 runs"), "{refused}");
    assert_eq!(world.number("select count(*) from analytics.predictions").await, 4);
    world.execute("update jobs set run_date = (now() at time zone 'UTC')::date where finished_at is null").await;
    world.db.finish_jobs().await.unwrap();

    let rows = async |view: &str, job| {
        world.number(&format!("select count(*) from analytics.{view} where job_id = '{job}'")).await
    };
    let before = world.text("select string_agg(s::text, ' ' order by image_id) from analytics.image_severity s").await;
    world.db.detach_month(&lock, month, "b", "p").await.unwrap();
    assert_eq!((rows("predictions", old).await, rows("image_severity", old).await), (0, 0));
    assert_eq!((rows("predictions", new).await, rows("image_severity", new).await), (2, 2));
    assert_eq!((rows("run_severity", old).await, rows("run_costs", old).await, rows("job_runs", old).await), (1, 1, 1));
    // What the archived run has scored waits no more than before.
    world.submit(backlog()).await;
    assert_eq!(world.db.plan_next().await.unwrap().unwrap().images, 0);
    assert_eq!(world.number("select coalesce(sum(waiting), 0)::bigint from analytics.backlog").await, 0);

    // Back as it was, from any step.
    world.db.attach_month(&lock, month).await.unwrap();
    assert_eq!(
        world.text("select string_agg(s::text, ' ' order by image_id) from analytics.image_severity s").await,
        before
    );
    assert_eq!(rows("predictions", old).await, 4);
    assert!(world.db.archives().await.unwrap().is_empty());
    assert_eq!(world.number("select count(*) from jobs where archived_at is not null").await, 0);
}
