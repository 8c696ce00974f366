//! What most tests begin with: a database with images, a model, and jobs.

use std::time::Duration;

use perito_database::{
    Claim, ClaimedTask, Database, Gate, Measurement, Model, NewImage, NewJob, NewModel, Prediction, Promotion,
    ScoreResult, testing::TestDatabase,
};
use perito_domain::{
    Severity,
    audit::Signature,
    lifecycle::JobKind,
    metrics::measure,
    preprocessing::Preprocessing,
    spec::{Architecture, JobSpec, Split},
};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

pub const LEASE: Duration = Duration::from_secs(30);

pub struct World {
    pub test: TestDatabase,
    pub db: Database,
}

impl World {
    pub async fn new() -> Self {
        let test = TestDatabase::migrated().await;
        let db = test.database.clone();
        Self { test, db }
    }

    pub async fn images(&self, count: usize) -> Vec<i64> {
        let images: Vec<_> = (0..count).map(|number| image(&format!("b/{number:05}.jpg"), "v1")).collect();
        self.db.register_images(&images).await.unwrap().ids
    }

    pub async fn model(&self, name: &str) -> Model {
        self.db.register_model(&new_model(name)).await.unwrap()
    }

    pub async fn submit(&self, spec: Value) -> Uuid {
        self.submit_with(spec, 4).await
    }

    pub async fn submit_with(&self, spec: Value, priority: u8) -> Uuid {
        let job = NewJob {
            id: Uuid::now_v7(),
            spec: JobSpec::parse(spec).unwrap(),
            priority,
            idempotency_key: None,
            traceparent: String::new(),
        };
        self.db.submit(&job).await.unwrap().job.id
    }

    /// A planned job that scores everything there is.
    pub async fn scoring(&self, shard_size: u32) -> Uuid {
        self.model("m").await;
        let job = self.submit(by_prefix(shard_size)).await;
        let planned = self.db.plan_next().await.unwrap().unwrap();
        assert_eq!((planned.job_id, planned.refused), (job, None));
        job
    }

    /// The ids of a job's tasks in order.
    pub async fn tasks(&self, job: Uuid) -> Vec<Uuid> {
        sqlx::query_scalar("select id from tasks where job_id = $1 order by ordinal")
            .bind(job)
            .fetch_all(self.test.pool())
            .await
            .unwrap()
    }

    /// Claims a task, after dispatching it if it is not.
    pub async fn claim(&self, task: Uuid) -> Box<ClaimedTask> {
        self.execute(&format!(
            "update tasks set state = 'dispatched', dispatched_at = now() where id = '{task}' and state = 'runnable'"
        ))
        .await;
        match self.try_claim(task, "w").await {
            Claim::Claimed(task) => task,
            Claim::Dropped(reason) => panic!("dropped: {reason:?}"),
        }
    }

    /// Claims a task as a message that was sent just now would.
    pub async fn try_claim(&self, task: Uuid, worker: &str) -> Claim {
        let attempt = sqlx::query_scalar::<_, i32>("select attempt from tasks where id = $1").bind(task);
        let attempt = attempt.fetch_optional(self.test.pool()).await.unwrap().unwrap_or(0);
        self.db.claim(task, attempt.unsigned_abs() + 1, worker, LEASE).await.unwrap()
    }

    /// Claims a task as its message would, and commits a score for each of its images.
    pub async fn score(&self, task: Uuid) {
        let claimed = self.claim(task).await;
        self.db.commit_score(&claimed, &all_scored(&claimed)).await.unwrap();
    }

    pub async fn dispatch_all(&self, kind: JobKind) -> u64 {
        let confirm = async |messages: Vec<_>| vec![true; messages.len()];
        self.db.dispatch(kind, 1000, 1000, confirm).await.unwrap().published
    }

    /// A frozen dataset whose validation split has this many images, and one to train on; its reference.
    pub async fn dataset(&self, name: &str, validation: usize) -> String {
        let draft = self.db.create_draft(&name.parse().unwrap(), None).await.unwrap();
        let ids = self.images(validation + 1).await;
        let split = |place| if place == 0 { Split::Training } else { Split::Validation };
        let label = |place: usize| Severity::ALL[place % 3];
        let items: Vec<_> = ids.iter().enumerate().map(|(place, id)| (*id, split(place), label(place))).collect();
        self.db.add_items(draft.id, &items).await.unwrap();
        self.db.freeze(draft.id).await.unwrap().0.reference()
    }

    /// Evaluates a model on the validation split: right on these images by their place, wrong on the others.
    pub async fn evaluate(&self, model: &str, dataset: &str, right: impl Fn(usize) -> bool) -> Uuid {
        let job = self.submit(json!({"kind": "evaluate", "model": model, "dataset": dataset})).await;
        assert_eq!(self.db.plan_next().await.unwrap().unwrap().refused, None);
        let task = self.claim(self.tasks(job).await[0]).await;
        let items = self.db.dataset_items(task.dataset_id.unwrap(), Some(Split::Validation)).await.unwrap();
        let scored: Vec<_> = items
            .iter()
            .enumerate()
            .map(|(place, item)| {
                let class = if right(place) { item.label.index() } else { (item.label.index() + 1) % 3 };
                let mut probabilities = [0.1; 3];
                probabilities[class] = 0.8;
                (item, probabilities)
            })
            .collect();
        let labelled: Vec<_> = scored.iter().map(|(item, probabilities)| (item.label, *probabilities)).collect();
        let (metrics, certainty) = measure(&labelled);
        let predictions = scored
            .iter()
            .map(|(item, probabilities)| Prediction { image_id: item.image.id, probabilities: *probabilities })
            .collect();
        let measurement = Measurement { split: Split::Validation, metrics, certainty, predictions };
        self.db.commit_evaluation(&task, &measurement, &[]).await.unwrap();
        self.db.finish_jobs().await.unwrap();
        job
    }

    /// Scores all images with the same probabilities, by the version that the reference means; the finished job.
    pub async fn score_all(&self, model: &str, probabilities: [f32; 3]) -> Uuid {
        let mut spec = by_prefix(1000);
        spec["model"] = json!(model);
        let job = self.submit(spec).await;
        assert_eq!(self.db.plan_next().await.unwrap().unwrap().refused, None);
        for task in self.tasks(job).await {
            let task = self.claim(task).await;
            let predictions =
                task.images.iter().map(|image| Prediction { image_id: image.id, probabilities }).collect();
            self.db.commit_score(&task, &ScoreResult { predictions, ..ScoreResult::default() }).await.unwrap();
        }
        self.db.finish_jobs().await.unwrap();
        job
    }

    /// Points an alias to a version, whatever the gate says.
    pub async fn force(&self, model: &str, version: i32, alias: &str) {
        self.db.promote(&Promotion { gate: forced(), ..promotion(model, version, alias) }).await.unwrap();
    }

    pub async fn execute(&self, sql: &str) {
        sqlx::query(AssertSqlSafe(sql)).execute(self.test.pool()).await.unwrap();
    }

    pub async fn number(&self, sql: &str) -> i64 {
        sqlx::query(AssertSqlSafe(sql)).fetch_one(self.test.pool()).await.unwrap().get(0)
    }

    pub async fn text(&self, sql: &str) -> String {
        sqlx::query(AssertSqlSafe(sql)).fetch_one(self.test.pool()).await.unwrap().get(0)
    }
}

/// A promotion by ana, compared on the dataset `d`.
pub fn promotion(model: &str, version: i32, alias: &str) -> Promotion {
    Promotion {
        name: model.parse().unwrap(),
        version,
        alias: alias.parse().unwrap(),
        gate: Gate { dataset: Some("d".parse().unwrap()), split: Split::Validation, margin: 0.01, force: false },
        signature: signature("a test"),
    }
}

pub fn forced() -> Gate {
    Gate { dataset: None, split: Split::Validation, margin: 0.01, force: true }
}

pub fn signature(reason: &str) -> Signature {
    Signature { by: Some("ana".parse().unwrap()), reason: Some(reason.parse().unwrap()) }
}

pub fn image(key: &str, etag: &str) -> NewImage {
    NewImage {
        bucket: "perito".to_owned(),
        key: key.to_owned(),
        etag: etag.to_owned(),
        size_bytes: 7,
        claim_id: Some("claim-1".to_owned()),
        label: None,
    }
}

pub fn by_prefix(shard_size: u32) -> Value {
    json!({"kind": "score", "model": "m", "shard_size": shard_size, "selection": {"by": "prefix", "bucket": "perito"}})
}

pub fn backlog() -> Value {
    json!({"kind": "score", "model": "m", "selection": {"by": "backlog"}})
}

pub fn new_model(name: &str) -> NewModel {
    NewModel {
        name: name.parse().unwrap(),
        architecture: Architecture::Cnn4,
        dropout: 0.5,
        class_names: Severity::ALL.iter().map(ToString::to_string).collect(),
        preprocessing: Preprocessing::imagenet(64),
        artifact_bucket: "perito".to_owned(),
        artifact_key: format!("models/{name}"),
        artifact_sha256: "0".repeat(64),
        artifact_bytes: 10,
        hyperparameters: None,
        best_epoch: None,
        code_version: "test".to_owned(),
        source: "test".to_owned(),
        provenance: None,
    }
}

/// A score for each image of a task.
pub fn all_scored(task: &ClaimedTask) -> ScoreResult {
    let predictions =
        task.images.iter().map(|image| Prediction { image_id: image.id, probabilities: [0.2, 0.1, 0.7] }).collect();
    ScoreResult { predictions, ..ScoreResult::default() }
}
