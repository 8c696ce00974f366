//! A sweep's runs, its leaderboard and its winner.

use perito_database::{ErrorKind, Measurement, Prediction, SweepRun};
use perito_domain::{Severity, lifecycle::JobState, metrics, spec::Split};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::world::{World, new_model};

/// So many of twelve images right.
fn measurement(right: usize) -> Measurement {
    let scored: Vec<_> = (0..12)
        .map(|index| {
            let given = if index < right { index % 3 } else { (index + 1) % 3 };
            let mut probabilities = [0.1; 3];
            probabilities[given] = 0.8;
            (Severity::ALL[index % 3], probabilities)
        })
        .collect();
    let (metrics, certainty) = metrics::measure(&scored);
    let predictions =
        scored.iter().zip(1..).map(|(&(_, probabilities), image_id)| Prediction { image_id, probabilities });
    Measurement { split: Split::Validation, metrics, certainty, predictions: predictions.collect() }
}

/// A planned sweep over three learning rates, and its tasks.
async fn sweep(world: &World, folds: Option<u32>) -> (Uuid, Vec<Uuid>) {
    let ids = world.images(12).await;
    let items = ids.iter().enumerate().map(|(index, id)| {
        let split = if index % 2 == 0 { Split::Training } else { Split::Validation };
        (*id, split, Severity::ALL[index % 3])
    });
    let draft = world.db.create_draft(&"d".parse().unwrap(), None).await.unwrap();
    world.db.add_items(draft.id, &items.collect::<Vec<_>>()).await.unwrap();
    world.db.freeze(draft.id).await.unwrap();
    let train = json!({"model": "severity", "dataset": "d", "architecture": "cnn4"});
    let search = json!({"name": "grid", "fields": {"optimizer.learning_rate": [0.1, 0.01, 0.001]}});
    let job = world.submit(json!({"kind": "sweep", "train": train, "search": search, "folds": folds})).await;
    let planned = world.db.plan_next().await.unwrap().unwrap();
    assert_eq!((planned.job_id, planned.refused), (job, None));
    (job, world.tasks(job).await)
}

#[tokio::test]
async fn the_best_mean_over_the_folds_is_trained_and_registered() {
    let world = World::new().await;
    let (job, tasks) = sweep(&world, Some(2)).await;
    assert_eq!(tasks.len(), 6);
    // Right answers of the trials' folds: the second trial has the best mean, the third the best fold.
    for ((task, right), expected) in
        tasks.iter().zip([3, 5, 9, 9, 11, 4]).zip([(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)])
    {
        assert_eq!(world.tasks(job).await.len(), 6, "no winner before the last run");
        let task = world.claim(*task).await;
        let run = world.db.sweep_run(&task.lease).await.unwrap();
        assert_eq!(run, SweepRun::Trial { trial: expected.0, fold: expected.1 });
        world.db.commit_sweep_run(&task.lease, Ok((&measurement(right), 7))).await.unwrap();
        let again = world.db.commit_sweep_run(&task.lease, Ok((&measurement(12), 7))).await.unwrap_err();
        assert_eq!(again.kind(), ErrorKind::StaleAttempt);
        assert!(world.db.finish_jobs().await.unwrap().is_empty(), "the winner is to come");
    }
    let board = world.db.leaderboard(job).await.unwrap();
    let order: Vec<_> = board.iter().map(|trial| (trial.rank, trial.trial)).collect();
    assert_eq!(order, [(Some(1), 1), (Some(2), 2), (Some(3), 0)]);
    assert_eq!(board[0].parameters, json!({"optimizer.learning_rate": 0.01}));
    assert!((board[0].accuracy.unwrap() - 0.75).abs() < 1e-12 && board[0].macro_f1_deviation == Some(0.0));
    let mean = (measurement(11).metrics.macro_average.f1 + measurement(4).metrics.macro_average.f1) / 2.0;
    assert!((board[1].macro_f1.unwrap() - mean).abs() < 1e-12);

    let winner = world.claim(world.tasks(job).await[6]).await;
    assert_eq!(world.db.sweep_run(&winner.lease).await.unwrap(), SweepRun::Winner { trial: 1 });
    world.db.commit_training(&winner, &new_model("severity"), &measurement(10), &[]).await.unwrap();
    let finished = world.db.finish_jobs().await.unwrap();
    assert_eq!((finished.len(), finished[0].state), (1, JobState::Succeeded));
    let shown = "select count(*) from analytics.sweep_leaderboard where model = 'severity' and model_version = 1";
    assert_eq!(world.number(shown).await, 3);
}

#[tokio::test]
async fn a_trial_that_cannot_be_trained_is_out_and_without_any_the_sweep_fails() {
    let world = World::new().await;
    let (job, tasks) = sweep(&world, None).await;
    for (task, outcome) in tasks.iter().zip([Err("the loss is NaN"), Ok(5), Err("the loss is NaN")]) {
        let task = world.claim(*task).await;
        let measured = outcome.map(measurement);
        let committed = measured.as_ref().map(|measured| (measured, 1)).map_err(|error| *error);
        world.db.commit_sweep_run(&task.lease, committed).await.unwrap();
    }
    let board = world.db.leaderboard(job).await.unwrap();
    let order: Vec<_> = board.iter().map(|trial| (trial.rank, trial.trial, trial.error.is_some())).collect();
    assert_eq!(order, [(Some(1), 1, false), (None, 0, true), (None, 2, true)]);
    assert_eq!(world.tasks(job).await.len(), 4);

    let world = World::new().await;
    let (_, tasks) = sweep(&world, None).await;
    for (index, task) in tasks.iter().enumerate() {
        let task = world.claim(*task).await;
        let committed = world.db.commit_sweep_run(&task.lease, Err("the loss is NaN")).await;
        if index < 2 {
            committed.unwrap();
        } else {
            let refused = committed.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Invalid);
            assert!(refused.to_string().contains("the loss is NaN"), "{refused}");
        }
    }
}

#[tokio::test]
async fn of_two_last_runs_at_once_one_makes_the_winner() {
    let world = World::new().await;
    let (job, tasks) = sweep(&world, None).await;
    let mut claimed = Vec::new();
    for task in &tasks {
        claimed.push(world.claim(*task).await);
    }
    let same = measurement(6);
    let commits = claimed.iter().map(|task| world.db.commit_sweep_run(&task.lease, Ok((&same, 1))));
    for committed in futures::future::join_all(commits).await {
        committed.unwrap();
    }
    assert_eq!(world.tasks(job).await.len(), 4);
    let ranks: Vec<_> = world.db.leaderboard(job).await.unwrap().iter().map(|trial| trial.rank).collect();
    assert_eq!(ranks, [Some(1), Some(2), Some(3)], "equal trials have an order");
    let parameters: Vec<Value> =
        world.db.leaderboard(job).await.unwrap().into_iter().map(|trial| trial.parameters).collect();
    assert_eq!(parameters[0], json!({"optimizer.learning_rate": 0.1}));
}
