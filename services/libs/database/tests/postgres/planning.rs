//! Planning and dispatching.

use perito_domain::lifecycle::{JobKind, JobState};
use serde_json::json;

use crate::world::{World, all_scored, backlog, by_prefix, image};

#[tokio::test]
async fn a_selection_is_frozen_into_shards_that_cover_it_once() {
    let world = World::new().await;
    let ids = world.images(10).await;
    let job = world.scoring(4).await;
    let sizes = "select string_agg(cardinality(image_ids)::text, ',' order by ordinal) from tasks";
    assert_eq!(world.text(sizes).await, "4,4,2");
    // What arrives later is not of this job.
    world.db.register_images(&[image("later", "1")]).await.unwrap();
    let frozen = "select count(distinct image) from tasks, unnest(image_ids) as image";
    assert_eq!(world.number(frozen).await, ids.len() as i64);
    let state = world.db.job(job).await.unwrap();
    assert_eq!((state.state, state.images_total, state.tasks), (JobState::Running, Some(10), [3, 0, 0, 0, 0, 0]));
    assert!(world.db.plan_next().await.unwrap().is_none());
}

#[tokio::test]
async fn prefixes_are_taken_to_the_letter() {
    let world = World::new().await;
    world.model("m").await;
    world.db.register_images(&[image("a_b/1", "1"), image("axb/1", "1"), image("a_b%/1", "1")]).await.unwrap();
    let selection = json!({"by": "prefix", "bucket": "perito", "prefix": "a_b/"});
    world.submit(json!({"kind": "score", "model": "m", "selection": selection})).await;
    assert_eq!(world.db.plan_next().await.unwrap().unwrap().images, 1);
}

#[tokio::test]
async fn a_backlog_leaves_out_what_is_scored_and_what_is_being_scored() {
    let world = World::new().await;
    world.images(5).await;
    let job = world.scoring(100).await;
    // Planned at once by another job: all of it is in a running job's tasks.
    world.submit(backlog()).await;
    assert_eq!(world.db.plan_next().await.unwrap().unwrap().images, 0);
    // After a success too.
    let task = world.claim(world.tasks(job).await[0]).await;
    world.db.commit_score(&task, &all_scored(&task)).await.unwrap();
    world.db.finish_jobs().await.unwrap();
    world.images(6).await;
    world.submit(backlog()).await;
    assert_eq!(world.db.plan_next().await.unwrap().unwrap().images, 1);
    // Another version of the model has scored nothing.
    world.model("m").await;
    world.submit(backlog()).await;
    assert_eq!(world.db.plan_next().await.unwrap().unwrap().images, 6);
}

#[tokio::test]
async fn two_planners_never_plan_a_job_twice() {
    let world = World::new().await;
    world.model("m").await;
    world.images(3).await;
    for _ in 0..6 {
        world.submit(backlog()).await;
    }
    let planner = async || {
        let mut planned = 0;
        while let Some(plan) = world.db.plan_next().await.unwrap() {
            assert_eq!(plan.refused, None);
            planned += plan.images;
        }
        planned
    };
    let (one, other, third) = tokio::join!(planner(), planner(), planner());
    assert_eq!(one + other + third, 3, "each image in one job only");
    assert_eq!(world.number("select count(*) from jobs where state = 'queued'").await, 0);
}

#[tokio::test]
async fn what_cannot_be_planned_fails_and_blocks_nothing() {
    let world = World::new().await;
    let hopeless = world.submit(json!({"kind": "evaluate", "model": "nobody", "dataset": "none"})).await;
    world.images(1).await;
    world.model("m").await;
    let good = world.submit(by_prefix(1)).await;
    let refused = world.db.plan_next().await.unwrap().unwrap();
    assert!(refused.job_id == hopeless && refused.refused.is_some());
    assert_eq!(world.db.job(hopeless).await.unwrap().state, JobState::Failed);
    assert_eq!(world.db.plan_next().await.unwrap().unwrap().job_id, good);
}

#[tokio::test]
async fn the_window_bounds_and_priority_then_turns_order_what_is_dispatched() {
    let world = World::new().await;
    world.images(4).await;
    world.model("m").await;
    let jobs = [
        world.submit_with(by_prefix(1), 4).await,
        world.submit_with(by_prefix(1), 4).await,
        world.submit_with(by_prefix(2), 9).await,
    ];
    while world.db.plan_next().await.unwrap().is_some() {}
    let mut order = Vec::new();
    let published = world
        .db
        .dispatch(JobKind::Score, 6, 100, async |messages| {
            order = messages.iter().map(|message| message.job_id).collect();
            vec![true; messages.len()]
        })
        .await
        .unwrap()
        .published;
    assert_eq!(published, 6, "the window");
    assert_eq!(order[..2], [jobs[2], jobs[2]], "the urgent job first");
    let turns = |job| order[2..].iter().filter(|id| **id == job).count();
    assert_eq!((turns(jobs[0]), turns(jobs[1])), (2, 2), "then each in turn");
    assert_eq!(world.dispatch_all(JobKind::Train).await, 0, "each kind for itself");
}

#[tokio::test]
async fn only_confirmed_messages_count_and_one_replica_dispatches_at_a_time() {
    let world = World::new().await;
    world.images(4).await;
    world.scoring(1).await;
    let half = async |messages: Vec<_>| (0..messages.len()).map(|n| n % 2 == 0).collect::<Vec<_>>();
    let outcome = world.db.dispatch(JobKind::Score, 10, 10, half).await.unwrap();
    assert_eq!((outcome.published, outcome.refused), (2, 2));
    assert_eq!(world.number("select count(*) from tasks where state = 'runnable'").await, 2);
    // While one replica publishes, another finds the lock taken.
    let outer = world
        .db
        .dispatch(JobKind::Score, 10, 10, async |messages| {
            assert_eq!(world.dispatch_all(JobKind::Score).await, 0);
            vec![true; messages.len()]
        })
        .await
        .unwrap();
    assert_eq!(outer.published, 2);
}

#[tokio::test]
async fn lost_messages_are_found_by_the_length_of_the_queue() {
    let world = World::new().await;
    world.images(5).await;
    world.scoring(1).await;
    world.dispatch_all(JobKind::Score).await;
    let grace = std::time::Duration::from_secs(10);
    assert_eq!(world.db.reap_lost(JobKind::Score, 0, grace).await.unwrap(), 0, "too early to tell");
    world.execute("update tasks set dispatched_at = now() - interval '1 minute'").await;
    assert_eq!(world.db.reap_lost(JobKind::Score, 5, grace).await.unwrap(), 0, "all are there");
    assert_eq!(world.db.reap_lost(JobKind::Score, 3, grace).await.unwrap(), 2);
    assert_eq!(world.dispatch_all(JobKind::Score).await, 2);
}
