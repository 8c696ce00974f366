//! Failed jobs that run again by an operator's hand.

use std::time::Duration;

use perito_database::ErrorKind;
use perito_domain::{
    failure::{FailureReason, ImageFailure},
    lifecycle::JobState,
    retry::ErrorClass,
};
use uuid::Uuid;

use crate::world::{World, all_scored};

async fn finish(world: &World) -> JobState {
    world.db.finish_jobs().await.unwrap().remove(0).state
}

#[tokio::test]
async fn a_failed_job_goes_on_where_it_failed() {
    let world = World::new().await;
    world.images(6).await;
    let job = world.scoring(2).await;
    let tasks = world.tasks(job).await;
    world.score(tasks[0]).await;
    let claimed = world.claim(tasks[1]).await;
    world.db.fail(&claimed.lease, ErrorClass::Permanent, "no such model", Duration::ZERO).await.unwrap();
    let running = world.db.retry_job(job, false).await.unwrap();
    assert_eq!(running.tasks, [1, 0, 0, 1, 1, 0], "what has not ended is left as it is");
    assert_eq!(finish(&world).await, JobState::Failed);
    assert_eq!(world.db.job(job).await.unwrap().tasks, [0, 0, 0, 1, 1, 1]);

    for _ in 0..2 {
        let again = world.db.retry_job(job, false).await.unwrap();
        assert_eq!((again.state, again.error, again.finished_at), (JobState::Running, None, None));
        assert_eq!(again.tasks, [2, 0, 0, 1, 0, 0], "once is as good as twice");
    }
    assert_eq!(world.number("select max(attempts_spent)::bigint from tasks where state = 'runnable'").await, 0);
    let late = world.db.commit_score(&claimed, &all_scored(&claimed)).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::StaleAttempt);
    for task in &tasks[1..] {
        world.score(*task).await;
    }
    assert_eq!(finish(&world).await, JobState::Succeeded);
    assert_eq!(world.number("select count(*) from analytics.predictions").await, 6);
    assert_eq!(world.number("select attempts::bigint from run_costs").await, 4, "the costs of both lives");
    let refused = world.db.retry_job(job, true).await.unwrap_err();
    assert!(refused.kind() == ErrorKind::Conflict && refused.to_string().contains("succeeded"), "{refused}");
    let nobody = world.db.retry_job(Uuid::now_v7(), false).await.unwrap_err();
    assert_eq!(nobody.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn images_that_failed_are_tried_again_when_that_is_asked_for() {
    let world = World::new().await;
    let ids = world.images(4).await;
    let job = world.scoring(3).await;
    for task in world.tasks(job).await {
        let claimed = world.claim(task).await;
        let mut result = all_scored(&claimed);
        // Of the first task two of three, of the second one its only one.
        let failures = result.predictions.drain(..claimed.images.len().min(2)).map(|prediction| ImageFailure {
            image_id: prediction.image_id,
            reason: FailureReason::Missing,
            detail: "gone".to_owned(),
        });
        result.failures = failures.collect();
        world.db.commit_score(&claimed, &result).await.unwrap();
    }
    assert_eq!(finish(&world).await, JobState::Failed);
    let refused = world.db.retry_job(job, false).await.unwrap_err();
    assert!(refused.kind() == ErrorKind::Conflict && refused.to_string().contains("--images"), "{refused}");

    let again = world.db.retry_job(job, true).await.unwrap();
    assert_eq!((again.state, again.images_scored, again.images_failed), (JobState::Running, 1, 0));
    assert_eq!(again.tasks, [1, 0, 0, 2, 0, 0]);
    let task = *world.tasks(job).await.last().unwrap();
    let claimed = world.claim(task).await;
    let tried: Vec<_> = claimed.images.iter().map(|image| image.id).collect();
    assert_eq!(tried, [ids[0], ids[1], ids[3]]);
    world.db.commit_score(&claimed, &all_scored(&claimed)).await.unwrap();
    assert_eq!(finish(&world).await, JobState::Succeeded);
    assert_eq!(world.number("select count(*) from analytics.predictions").await, 4);
    assert_eq!(world.number("select count(*) from image_failures").await, 0);
}
