//! Deleting versions.

use perito_database::{ErrorKind, NewModel};
use perito_domain::spec::{Architecture, Split};
use serde_json::json;

use crate::world::{World, all_scored, new_model, signature};

#[tokio::test]
async fn what_is_in_use_stays_and_says_by_what() {
    let world = World::new().await;
    let dataset = world.dataset("d", 6).await;
    let name = "m".parse().unwrap();
    let delete = async |version| world.db.delete_model(&name, version, &signature("clean up")).await;
    let refusal = async |version| {
        let error = delete(version).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        error.to_string()
    };
    for _ in 0..6 {
        world.model("m").await;
    }
    world.force("m", 1, "production").await;
    assert!(refusal(1).await.contains("production points to it"));

    world.evaluate("m@2", &dataset, |_| true).await;
    assert!(refusal(2).await.contains("1 evaluation would lose lineage"));
    let queued = world.submit(json!({"kind": "evaluate", "model": "m@3", "dataset": "d"})).await;
    let text = refusal(3).await;
    assert!(text.contains("1 job open") && text.contains(&queued.to_string()), "{text}");
    // Cancelled, it has left nothing.
    world.db.cancel(queued).await.unwrap();
    let deleted = delete(3).await.unwrap();
    assert_eq!(
        (deleted.version, deleted.deleted_by.as_deref(), deleted.reason.as_deref()),
        (3, Some("ana"), Some("clean up"))
    );
    assert!(deleted.shared_with.is_some(), "all of these have the same file");
    assert_eq!(delete(3).await.unwrap(), deleted, "again is the same");
    let gone = world.db.model(&"m@3".parse().unwrap()).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);

    let run = world.score_all("m@4", [0.2, 0.1, 0.7]).await;
    assert!(refusal(4).await.contains("1 finished scoring run"), "{run}");

    // A queued job that names no version means the newest one.
    let newest = world.submit(json!({"kind": "evaluate", "model": "m", "dataset": "d"})).await;
    assert!(refusal(6).await.contains("1 job open"));
    assert!(delete(5).await.is_ok());
    world.db.cancel(newest).await.unwrap();
    delete(6).await.unwrap();
    assert_eq!(world.model("m").await.version, 7, "a version is never given twice");
    assert_eq!(delete(99).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_trained_model_goes_with_its_own_measurement_unless_others_came_of_it() {
    let world = World::new().await;
    world.dataset("d", 6).await;
    let train = async |model: &str, weights: Option<&str>| {
        let mut spec = json!({"kind": "train", "model": model, "dataset": "d", "architecture": "cnn4", "epochs": 1});
        if let Some(weights) = weights {
            spec["weights"] = json!(weights);
        }
        let job = world.submit(spec.clone()).await;
        assert_eq!(world.db.plan_next().await.unwrap().unwrap().refused, None);
        let task = world.claim(world.tasks(job).await[0]).await;
        let items = world.db.dataset_items(task.dataset_id.unwrap(), Some(Split::Validation)).await.unwrap();
        let labelled: Vec<_> = items.iter().map(|item| (item.label, [0.2, 0.1, 0.7])).collect();
        let (metrics, certainty) = perito_domain::metrics::measure(&labelled);
        let predictions = items
            .iter()
            .map(|item| perito_database::Prediction { image_id: item.image.id, probabilities: [0.2, 0.1, 0.7] })
            .collect();
        let measurement = perito_database::Measurement { split: Split::Validation, metrics, certainty, predictions };
        let new = NewModel { architecture: Architecture::Cnn4, hyperparameters: Some(spec), ..new_model(model) };
        let model = world.db.commit_training(&task, &new, &measurement, &[]).await.unwrap();
        world.db.finish_jobs().await.unwrap();
        (job, model.reference())
    };
    let (job, parent) = train("parent", None).await;
    // By version, as the newest, and by an alias: what these meant is known by the time of planning.
    world.force("parent", 1, "seed").await;
    for weights in ["parent@1", "parent", "parent@seed"] {
        train("child", Some(weights)).await;
    }
    world.model("parent").await;
    world.force("parent", 2, "seed").await;
    train("other", Some("parent")).await;
    let name = "parent".parse().unwrap();
    let refused = world.db.delete_model(&name, 1, &signature("x")).await.unwrap_err().to_string();
    assert!(
        refused.contains("child@1, child@2, child@3 was trained from it") && !refused.contains("other"),
        "{refused}"
    );
    for version in 1..=3 {
        world.db.delete_model(&"child".parse().unwrap(), version, &signature("x")).await.unwrap();
    }
    assert_eq!(world.db.measurements(&parent.parse().unwrap()).await.unwrap().len(), 1);
    world.db.delete_model(&name, 1, &signature("x")).await.unwrap();
    let left = format!("select count(*) from predictions where job_id = '{job}'");
    assert_eq!(world.number(&left).await, 0);
    assert_eq!(world.number("select count(*) from evaluations").await, 1, "the other model's");
    assert_eq!(world.number(&format!("select count(*) from analytics.job_runs where job_id = '{job}'")).await, 1);
    let facts = "select facts ->> 'architecture' from deleted_models where name = 'parent'";
    assert_eq!(world.text(facts).await, "cnn4");
    // The alias has moved on, and its history still says where it was.
    let history = world.db.alias_history(&name, None).await.unwrap();
    assert_eq!((history[0].from_version, history[0].to_version), (Some(1), 2));
    let back = world.db.roll_back(&name, &"seed".parse().unwrap(), None, &signature("x")).await.unwrap_err();
    assert!(back.kind() == ErrorKind::Conflict && back.to_string().contains("parent@1 has been deleted"), "{back}");
}

#[tokio::test]
async fn open_jobs_keep_their_model() {
    let world = World::new().await;
    world.images(3).await;
    let job = world.scoring(10).await;
    let name = "m".parse().unwrap();
    let refused = world.db.delete_model(&name, 1, &signature("x")).await.unwrap_err().to_string();
    assert!(refused.contains(&format!("perito job cancel {job}")), "{refused}");
    let task = world.claim(world.tasks(job).await[0]).await;
    world.db.commit_score(&task, &all_scored(&task)).await.unwrap();
    world.db.finish_jobs().await.unwrap();
    let refused = world.db.delete_model(&name, 1, &signature("x")).await.unwrap_err().to_string();
    assert!(refused.contains("finished scoring run"), "{refused}");
}
