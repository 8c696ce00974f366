//! The grade of a claim.

use perito_database::{ErrorKind, NewImage, Prediction, ScoreResult};

use crate::world::{World, backlog, image};

/// Registers photographs of claims and gives them these scores in a finished run.
async fn scored(world: &World, photographs: &[(&str, &str, [f32; 3])]) {
    let images: Vec<NewImage> = photographs
        .iter()
        .map(|(claim, key, _)| NewImage { claim_id: Some((*claim).to_owned()), ..image(key, &format!("{key}-v1")) })
        .collect();
    let ids = world.db.register_images(&images).await.unwrap().ids;
    score(world, &ids, photographs.iter().map(|(_, _, scores)| *scores)).await;
}

async fn score(world: &World, ids: &[i64], scores: impl Iterator<Item = [f32; 3]>) {
    // One version, which scores in the second run what is new since the first.
    if world.number("select count(*) from models").await == 0 {
        world.model("m").await;
    }
    let job = world.submit(backlog()).await;
    world.db.plan_next().await.unwrap();
    let task = world.claim(world.tasks(job).await[0]).await;
    let by_id: std::collections::HashMap<i64, [f32; 3]> = ids.iter().copied().zip(scores).collect();
    let predictions = task
        .images
        .iter()
        .map(|image| Prediction {
            image_id: image.id,
            probabilities: by_id.get(&image.id).copied().unwrap_or([1.0, 0.0, 0.0]),
        })
        .collect();
    world.db.commit_score(&task, &ScoreResult { predictions, ..ScoreResult::default() }).await.unwrap();
    world.db.finish_jobs().await.unwrap();
}

async fn grades(world: &World, source: &str) -> Vec<(String, String, String)> {
    let sql = format!("select claim_id, severity::text, decided_by from {source} order by claim_id");
    sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_all(world.test.pool()).await.unwrap()
}

fn grade(claim: &str, severity: &str, decided_by: &str) -> (String, String, String) {
    (claim.to_owned(), severity.to_owned(), decided_by.to_owned())
}

#[tokio::test]
async fn the_worst_photograph_that_is_sure_enough_decides_and_otherwise_the_mean() {
    let world = World::new().await;
    scored(
        &world,
        &[
            // Severe at 0.6 is the worst; above 0.6 only the minor one is sure.
            ("one", "one/1.jpg", [0.9, 0.05, 0.05]),
            ("one", "one/2.jpg", [0.2, 0.2, 0.6]),
            // None is sure: the means are 0.36, 0.35 and 0.29.
            ("two", "two/1.jpg", [0.30, 0.48, 0.22]),
            ("two", "two/2.jpg", [0.42, 0.22, 0.36]),
            // A tie of the means: the lighter one.
            ("tie", "tie/1.jpg", [0.25, 0.375, 0.375]),
        ],
    )
    .await;
    let expected = |one: &str| {
        vec![grade("one", one, "photograph"), grade("tie", "moderate", "mean"), grade("two", "minor", "mean")]
    };
    assert_eq!(grades(&world, "analytics.claim_severity").await, expected("severe"));
    assert_eq!(grades(&world, "analytics.claim_severity_at(0.6)").await, expected("severe"), "at the threshold");
    assert_eq!(grades(&world, "analytics.claim_severity_at(0.61)").await, expected("minor"));
    let at_once = grades(&world, "analytics.claim_severity_at(0.45)").await;
    assert_eq!(at_once[2], grade("two", "moderate", "photograph"));

    let settings = world.db.settings().await.unwrap();
    assert!((settings.claim_confidence - 0.5).abs() < 1e-12);
    world.db.set_claim_confidence(0.7).await.unwrap();
    assert_eq!(grades(&world, "analytics.claim_severity").await, expected("minor"));
    assert_eq!(world.number("select count(*) from analytics.claim_severity where threshold = 0.7").await, 3);
    for wrong in [-0.1, 1.1, f64::NAN] {
        assert_eq!(world.db.set_claim_confidence(wrong).await.unwrap_err().kind(), ErrorKind::Invalid);
    }
}

#[tokio::test]
async fn a_version_that_was_replaced_does_not_count_and_one_that_was_removed_does() {
    let world = World::new().await;
    scored(&world, &[("c", "c/1.jpg", [0.0, 0.0, 1.0]), ("c", "c/2.jpg", [0.0, 1.0, 0.0])]).await;
    assert_eq!(grades(&world, "analytics.claim_severity").await, [grade("c", "severe", "photograph")]);
    let newer = NewImage { claim_id: Some("c".to_owned()), ..image("c/1.jpg", "v2") };
    let ids = world.db.register_images(&[newer]).await.unwrap().ids;
    assert_eq!(grades(&world, "analytics.claim_severity").await, [grade("c", "moderate", "photograph")]);
    score(&world, &ids, [[0.9, 0.1, 0.0]].into_iter()).await;
    let counted = "select photographs from analytics.claim_severity";
    assert_eq!(world.number(counted).await, 2);
    // As when photographs are archived: the claim keeps its grade.
    world.execute("update images set superseded_at = now() where superseded_at is null").await;
    assert_eq!(grades(&world, "analytics.claim_severity").await, [grade("c", "moderate", "photograph")]);
    assert_eq!(world.number(counted).await, 2);
}

#[tokio::test]
async fn a_question_about_one_claim_reads_that_claim_only() {
    let world = World::new().await;
    // A table that is empty is cheaper to scan: ask for the plan of a large one.
    let mut connection = world.test.pool().acquire().await.unwrap();
    sqlx::query("set enable_seqscan = off").execute(&mut *connection).await.unwrap();
    let plan: Vec<(String,)> = sqlx::query_as("explain select * from analytics.claim_severity where claim_id = 'c-1'")
        .fetch_all(&mut *connection)
        .await
        .unwrap();
    let plan: String = plan.into_iter().map(|(line,)| line + "\n").collect();
    let by_claim = |line: &str| line.contains("Index Cond") && line.contains("claim_id = 'c-1'::text");
    assert!(plan.lines().any(by_claim), "{plan}");
    sqlx::query("reset enable_seqscan").execute(&mut *connection).await.unwrap();
}
