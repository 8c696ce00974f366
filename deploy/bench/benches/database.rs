//! What Postgres takes: planning a job of many images, and writing their scores as fast as an engine that does nothing would have them.
//!
//!     cargo bench --manifest-path deploy/bench/Cargo.toml --bench database -- [--images 1000000] [--json FILE]
//!
//! On the server that `PERITO_DATABASE_URL` names, in a database of its own that is dropped in the end. Everything goes through
//! `perito-database`, as in the coordinator and the worker: the plan, claims, fenced commits with COPY.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::Parser;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use perito_database::{Claim, NewJob, NewModel, Prediction, ScoreResult, testing::TestDatabase};
use perito_domain::{
    Severity,
    preprocessing::Preprocessing,
    spec::{Architecture, JobSpec},
};
use uuid::Uuid;

/// As many as a worker has in hand.
const COMMITS_AT_ONCE: usize = 3;

#[derive(Parser)]
struct Options {
    /// Images in the catalogue, and in the job.
    #[arg(long, default_value_t = 1_000_000)]
    images: i64,
    /// Scores that are written.
    #[arg(long, default_value_t = 500_000)]
    scores: usize,
    /// Where to write the figures.
    #[arg(long)]
    json: Option<PathBuf>,
    /// What `cargo bench` says to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() {
    let options = Options::parse();
    let test = TestDatabase::migrated().await;
    let database = &test.database;
    let sql = "insert into images (bucket, key, etag, size_bytes, claim_id)
         select 'bench', format('claims/C-%s/%s.jpg', n / 5, n % 5), md5(n::text), 150000, 'C-' || n / 5
         from generate_series(0, $1 - 1) n";
    sqlx::query(sql).bind(options.images).execute(test.pool()).await.unwrap();
    sqlx::query("vacuum analyze images").execute(test.pool()).await.unwrap();
    database.register_model(&model()).await.unwrap();
    let selection = serde_json::json!({"by": "prefix", "bucket": "bench", "prefix": "claims/"});
    let spec = serde_json::json!({"kind": "score", "model": "bench@1", "selection": selection});
    let job = NewJob {
        id: Uuid::now_v7(),
        spec: JobSpec::parse(spec).unwrap(),
        priority: 4,
        idempotency_key: None,
        traceparent: String::new(),
    };
    database.submit(&job).await.unwrap();
    let began = Instant::now();
    let planned = database.plan_next().await.unwrap().unwrap();
    let planning = began.elapsed().as_secs_f64();
    assert_eq!((planned.images, planned.refused), (options.images, None));
    println!("{} images planned as {} tasks in {planning:.2} s", planned.images, planned.tasks);

    // As a dispatch would have left them.
    let tasks = planned.tasks.min(options.scores.div_ceil(500) as u64) as i64;
    let sql = "update tasks set state = 'dispatched', dispatched_at = now()
         where id in (select id from tasks order by ordinal limit $1) returning id";
    let ids: Vec<Uuid> = sqlx::query_scalar(sql).bind(tasks).fetch_all(test.pool()).await.unwrap();
    let claims = stream::iter(ids).map(|id| async move {
        match database.claim(id, 1, "bench", Duration::from_secs(600)).await? {
            Claim::Claimed(task) => {
                let predictions = task.images.iter().map(|image| Prediction {
                    image_id: image.id,
                    probabilities: [0.25, 0.125, 0.625],
                });
                let result = ScoreResult { predictions: predictions.collect(), ..ScoreResult::default() };
                Ok::<_, perito_database::Error>((task, result))
            }
            Claim::Dropped(reason) => panic!("{reason:?}"),
        }
    });
    let scored: Vec<_> = claims.buffer_unordered(COMMITS_AT_ONCE).try_collect().await.unwrap();
    let rows: usize = scored.iter().map(|(_, result)| result.predictions.len()).sum();
    let began = Instant::now();
    let commits = stream::iter(&scored).map(|(task, result)| database.commit_score(task, result));
    commits.buffer_unordered(COMMITS_AT_ONCE).try_collect::<Vec<()>>().await.unwrap();
    let rate = rows as f64 / began.elapsed().as_secs_f64();
    println!("{rows} scores written in {} tasks: {rate:.0} rows/s", scored.len());
    if let Some(path) = &options.json {
        let figures = serde_json::json!({"images": options.images, "planning_seconds": planning, "rows": rows, "rows_per_second": rate});
        std::fs::write(path, figures.to_string()).unwrap();
    }
}

fn model() -> NewModel {
    NewModel {
        name: "bench".parse().unwrap(),
        architecture: Architecture::Cnn4,
        dropout: 0.5,
        class_names: Severity::ALL.map(|class| class.to_string()).into(),
        preprocessing: Preprocessing::imagenet(224),
        artifact_bucket: "bench".to_owned(),
        artifact_key: "models/bench".to_owned(),
        artifact_sha256: "0".repeat(64),
        artifact_bytes: 10,
        hyperparameters: None,
        best_epoch: None,
        code_version: "bench".to_owned(),
        source: "bench".to_owned(),
        provenance: None,
    }
}
