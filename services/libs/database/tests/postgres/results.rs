//! Commits, their atomicity, and what shows when.

use perito_database::{ErrorKind, Prediction, ScoreResult};
use perito_domain::{
    failure::{FailureReason, ImageFailure},
    lifecycle::JobState,
    stages::{Stage, StageSeconds},
};
use serde_json::json;
use sqlx::Row;

use crate::world::{World, all_scored, by_prefix};

#[tokio::test]
async fn a_result_must_be_exactly_the_shard() {
    let world = World::new().await;
    world.images(3).await;
    let job = world.scoring(10).await;
    let task = world.claim(world.tasks(job).await[0]).await;
    let good = all_scored(&task);
    let mut missing = good.clone();
    missing.predictions.pop();
    let mut doubled = good.clone();
    doubled.predictions[0] = doubled.predictions[1];
    let mut stranger = good.clone();
    stranger.predictions[0].image_id = 999_999;
    for wrong in [missing, doubled, stranger, ScoreResult::default()] {
        assert_eq!(world.db.commit_score(&task, &wrong).await.unwrap_err().kind(), ErrorKind::Invalid);
    }
    assert_eq!(world.number("select count(*) from predictions").await, 0);
    world.db.commit_score(&task, &good).await.unwrap();
}

#[tokio::test]
async fn a_runs_stages_are_summed_over_its_tasks_and_show_with_its_scores() {
    let world = World::new().await;
    world.images(3).await;
    let job = world.scoring(2).await;
    let seconds = |busy, starved, blocked| StageSeconds { busy, starved, blocked };
    for id in world.tasks(job).await {
        let task = world.claim(id).await;
        let stages = vec![
            (Stage::Infer, seconds(3.0, 1.0, 0.0)),
            (Stage::Fetch, seconds(0.5, 0.25, 3.25)),
            // What it did itself is measured by the commit.
            (Stage::Write, seconds(0.0, 4.0, 0.0)),
        ];
        world.db.commit_score(&task, &ScoreResult { stages, ..all_scored(&task) }).await.unwrap();
    }
    let stages = world.db.job_stages(job).await.unwrap();
    assert_eq!(stages[..2], [(Stage::Fetch, seconds(1.0, 0.5, 6.5)), (Stage::Infer, seconds(6.0, 2.0, 0.0))]);
    let (stage, written) = stages[2];
    assert!(stage == Stage::Write && written.busy > 0.0 && (written.total() - 8.0).abs() < 1e-6, "{written:?}");
    assert_eq!(world.number("select count(*) from analytics.run_stages").await, 0, "the run has not ended");
    world.db.finish_jobs().await.unwrap();
    let busiest = "select (busy_share * 100)::bigint from analytics.run_stages where stage = 'infer'";
    assert_eq!(world.number(busiest).await, 75);
}

#[tokio::test]
async fn a_commit_that_breaks_half_way_leaves_nothing() {
    let world = World::new().await;
    world.images(3).await;
    let job = world.scoring(10).await;
    let task = world.claim(world.tasks(job).await[0]).await;
    // One row is there already, so that the copy breaks after the task was ended in the same transaction.
    world
        .execute(
            "insert into predictions (job_id, image_id, run_date, severity, p_minor, p_moderate, p_severe)
             select job_id, image_ids[2], (now() at time zone 'UTC')::date, 'minor', 1, 0, 0 from tasks",
        )
        .await;
    world.db.commit_score(&task, &all_scored(&task)).await.unwrap_err();
    assert_eq!(world.text("select state from tasks").await, "running");
    assert_eq!(world.number("select count(*) from predictions").await, 1);
}

#[tokio::test]
async fn copied_rows_come_back_as_they_were() {
    let world = World::new().await;
    world.images(10_000).await;
    let job = world.scoring(10_000).await;
    let task = world.claim(world.tasks(job).await[0]).await;
    let predictions: Vec<_> = task
        .images
        .iter()
        .map(|image| {
            let share = (image.id % 100) as f32 / 100.0;
            Prediction { image_id: image.id, probabilities: [share, (1.0 - share) * 0.75, (1.0 - share) * 0.25] }
        })
        .collect();
    world
        .db
        .commit_score(&task, &ScoreResult { predictions: predictions.clone(), ..ScoreResult::default() })
        .await
        .unwrap();
    let rows = sqlx::query(
        "select image_id, p_minor, p_moderate, p_severe, severity::text from predictions order by image_id",
    )
    .fetch_all(world.test.pool())
    .await
    .unwrap();
    assert_eq!(rows.len(), predictions.len());
    for (row, prediction) in rows.iter().zip(&predictions) {
        let found = Prediction { image_id: row.get(0), probabilities: [row.get(1), row.get(2), row.get(3)] };
        assert_eq!(found, *prediction);
        let severity = perito_domain::Severity::most_likely(&prediction.probabilities);
        assert_eq!(row.get::<String, _>(4), severity.as_str());
    }
}

#[tokio::test]
async fn a_run_shows_whole_or_not_at_all() {
    let world = World::new().await;
    world.images(4).await;
    let job = world.scoring(2).await;
    let tasks = world.tasks(job).await;
    let shown = async || world.number("select count(*) from analytics.predictions").await;
    for task in tasks {
        assert_eq!(shown().await, 0);
        let task = world.claim(task).await;
        world.db.commit_score(&task, &all_scored(&task)).await.unwrap();
    }
    assert_eq!(shown().await, 0, "all tasks are done, the job is not");
    let finished = world.db.finish_jobs().await.unwrap();
    assert_eq!((finished[0].state, finished[0].images_scored), (JobState::Succeeded, 4));
    assert_eq!(shown().await, 4);
    assert_eq!(world.text("select severity::text from analytics.claim_severity").await, "severe");
    assert!(world.db.finish_jobs().await.unwrap().is_empty());
}

#[tokio::test]
async fn failed_images_count_against_the_budget() {
    let world = World::new().await;
    world.images(10).await;
    world.model("m").await;
    for (budget, end) in [(0.3, JobState::Succeeded), (0.1, JobState::Failed)] {
        let mut spec = by_prefix(10);
        spec["failure_budget"] = json!(budget);
        let job = world.submit(spec).await;
        world.db.plan_next().await.unwrap();
        let task = world.claim(world.tasks(job).await[0]).await;
        let mut result = all_scored(&task);
        let failures = result.predictions.drain(..2).map(|prediction| ImageFailure {
            image_id: prediction.image_id,
            reason: FailureReason::Corrupt,
            detail: "cut\0off".to_owned(),
        });
        result.failures = failures.collect();
        world.db.commit_score(&task, &result).await.unwrap();
        assert_eq!(world.db.finish_jobs().await.unwrap()[0].state, end);
        let state = world.db.job(job).await.unwrap();
        assert_eq!((state.images_scored, state.images_failed), (8, 2));
    }
    assert_eq!(world.number("select count(*) from analytics.image_failures").await, 2, "of the run that succeeded");
}

#[tokio::test]
async fn a_job_over_its_budget_ends_before_its_tasks_do() {
    let world = World::new().await;
    world.images(10).await;
    let job = world.scoring(2).await;
    let task = world.claim(world.tasks(job).await[0]).await;
    let failures = task
        .images
        .iter()
        .map(|image| ImageFailure { image_id: image.id, reason: FailureReason::Missing, detail: "gone".to_owned() })
        .collect();
    world.db.commit_score(&task, &ScoreResult { failures, ..ScoreResult::default() }).await.unwrap();
    let finished = world.db.finish_jobs().await.unwrap();
    assert!(finished[0].error.as_deref().unwrap().contains("failure budget"), "{finished:?}");
    assert_eq!(world.db.job(job).await.unwrap().tasks, [0, 0, 0, 1, 0, 4]);
}

#[tokio::test]
async fn an_empty_selection_succeeds_with_nothing() {
    let world = World::new().await;
    let job = world.scoring(10).await;
    assert_eq!(world.db.finish_jobs().await.unwrap()[0].state, JobState::Succeeded);
    assert_eq!(world.db.job(job).await.unwrap().images_total, Some(0));
}
