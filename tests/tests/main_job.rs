//! The main job: train, promote, score, evaluate, and read the results as the analyst does.
#![allow(clippy::unwrap_used)]

use perito_domain::Severity;
use perito_tests::{System, datasets::small, photographs::photograph};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection, Row};

fn train_spec(model: &str) -> Value {
    json!({
        "kind": "train", "model": model, "dataset": "small", "architecture": "cnn4", "image_size": 32, "epochs": 3, "batch_size": 8,
        "optimizer": {"name": "sgd", "learning_rate": 0.003, "momentum": 0.9}, "schedule": {"name": "constant"}, "dropout": 0.0,
        "augment": {"rotation_degrees": 0.0, "perspective": {"probability": 0.0}},
    })
}

#[tokio::test]
async fn trains_promotes_scores_evaluates_and_shows_the_results() {
    let mut system = System::start().await;
    let worker = system.worker("w1");
    small(&system).await;

    // Train.
    let job = system.submit(train_spec("severity")).await;
    let done = system.success_of(&job).await;
    assert_eq!(done["model"], "severity@1");
    let epochs = system.get(&format!("/v1/jobs/{job}/epochs")).await;
    let epochs = epochs["epochs"].as_array().or(epochs.as_array()).unwrap().clone();
    assert_eq!(epochs.len(), 3, "{epochs:?}");
    assert!(epochs[2]["training_loss"].as_f64() < epochs[0]["training_loss"].as_f64(), "it learns: {epochs:?}");
    let model = system.get("/v1/models/severity@1").await;
    assert_eq!(model["dataset"], "small@1");
    assert_eq!(model["job_id"].as_str(), Some(job.as_str()));
    assert!(model["source"].as_str().unwrap().starts_with("libtorch 2."), "{model}");
    shows_what_it_was_made_from(&system, &model).await;
    // The artifact is there, and is what the registry says.
    let artifact = &model["artifact"];
    let bytes = system
        .objects
        .get(artifact["bucket"].as_str().unwrap(), artifact["key"].as_str().unwrap(), None, 1 << 30)
        .await
        .unwrap();
    assert_eq!(bytes.len() as i64, artifact["bytes"].as_i64().unwrap());
    use sha2::Digest;
    assert_eq!(hex::encode(sha2::Sha256::digest(&bytes)), artifact["sha256"].as_str().unwrap());

    // Promote, and score the backlog: what has no label.
    let (status, _) = system
        .request(reqwest::Method::PUT, "/v1/models/severity/aliases/production", Some(json!({"version": 1})))
        .await;
    assert_eq!(status, 200);
    let backlog: Vec<_> = (0..20)
        .map(|number| {
            let severity = Severity::ALL[number % 3];
            (format!("backlog/claim-{}/{number}.jpg", number / 4), photograph(severity, 5000 + number as u64, 96, 64))
        })
        .collect();
    let ids = system.register(&backlog).await;
    let score = json!({"kind": "score", "model": "severity@production", "selection": {"by": "prefix", "bucket": system.bucket,
                       "prefix": "backlog/"}, "shard_size": 6});
    let job = system.submit(score).await;
    let done = system.success_of(&job).await;
    assert_eq!(done["images"]["total"], 20);
    assert_eq!(done["images"]["scored"], 20);
    assert_eq!(done["tasks"]["succeeded"], 4, "20 images in shards of 6");
    assert_eq!(system.scores(&job).await.iter().map(|row| row.0).collect::<Vec<_>>(), ids);

    // The request's trace is on the worker's log lines.
    let trace = done["traceparent"].as_str().unwrap().split('-').nth(1).unwrap().to_owned();
    assert!(worker.log().contains(&trace), "trace {trace} is not in\n{}", worker.log());

    // Evaluate.
    let job = system.submit(json!({"kind": "evaluate", "model": "severity@production", "dataset": "small"})).await;
    system.success_of(&job).await;

    as_the_analyst(&system).await;
}

/// Everything that follows is done with the analyst's rights.
async fn as_the_analyst(system: &System) {
    let mut analyst = PgConnection::connect(&system.database.url).await.unwrap();
    sqlx::query("set role perito_analyst").execute(&mut analyst).await.unwrap();
    for table in ["predictions", "jobs", "images", "models"] {
        let refused =
            sqlx::query(sqlx::AssertSqlSafe(format!("select * from public.{table}"))).execute(&mut analyst).await;
        assert!(refused.unwrap_err().to_string().contains("permission denied"), "{table}");
    }
    let refused = sqlx::query("create table analytics.notes (note text)").execute(&mut analyst).await;
    assert!(refused.is_err(), "the analyst only reads");

    // Each stored figure follows from the stored predictions.
    let rows = sqlx::query(
        "with counted as (
             select job_id, count(*) as images, avg((actual = predicted)::int)::float8 as accuracy
             from analytics.evaluation_predictions group by job_id
         ), classes as (
             select job_id, class,
                    2.0 * count(*) filter (where actual = class and predicted = class)
                        / nullif(count(*) filter (where actual = class) + count(*) filter (where predicted = class), 0) as f1
             from analytics.evaluation_predictions cross join unnest(enum_range(null::severity)) as class
             group by job_id, class
         ), graded as (
             select job_id, actual, predicted,
                    (case actual when 'minor' then p_minor when 'moderate' then p_moderate else p_severe end)::float8 as p_actual,
                    greatest(p_minor, p_moderate, p_severe)::float8 as confidence
             from analytics.evaluation_predictions
         ), bins as (
             select job_id, abs(sum(confidence - (actual = predicted)::int)) as gap
             from graded group by job_id, greatest(ceil(confidence * 15), 1)
         )
         select m.measured_by, m.images, c.images, m.accuracy, c.accuracy, m.macro_f1,
                (select avg(coalesce(f1, 0))::float8 from classes where classes.job_id = m.job_id),
                m.log_loss, (select avg(-ln(greatest(p_actual, 1.1754943508222875e-38))) from graded where graded.job_id = m.job_id),
                m.calibration_error, (select sum(gap) from bins where bins.job_id = m.job_id) / c.images,
                (select roc_auc from analytics.class_metrics k where k.job_id = m.job_id and k.severity = 'severe'),
                (select avg(case when one.p_severe > other.p_severe then 1 when one.p_severe = other.p_severe then 0.5 else 0 end)::float8
                 from analytics.evaluation_predictions one join analytics.evaluation_predictions other using (job_id)
                 where job_id = m.job_id and one.actual = 'severe' and other.actual <> 'severe'),
                m.accuracy_low, m.accuracy_high, m.macro_f1_low, m.macro_f1_high
         from analytics.model_metrics m join counted c using (job_id)",
    )
    .fetch_all(&mut analyst)
    .await
    .unwrap();
    assert_eq!(rows.len(), 2, "one from training, one from the evaluation");
    for row in &rows {
        assert_eq!(row.get::<i64, _>(1), row.get::<i64, _>(2));
        for (stored, computed) in [(3, 4), (5, 6), (7, 8), (9, 10), (11, 12)] {
            let (stored, computed): (f64, f64) = (row.get(stored), row.get(computed));
            assert!((stored - computed).abs() < 1e-9, "{stored} is not {computed}");
        }
        for (figure, low, high) in [(3, 13, 14), (5, 15, 16)] {
            let (figure, low, high): (f64, f64, f64) = (row.get(figure), row.get(low), row.get(high));
            assert!(low <= figure && figure <= high && low < high, "{low} {figure} {high}");
        }
    }
    // The same model on the same images: training's measurement and the evaluation agree.
    assert!((rows[0].get::<f64, _>(3) - rows[1].get::<f64, _>(3)).abs() < 1e-9);

    // Each epoch says what it was made from.
    let made: Vec<(String, String, String, String)> = sqlx::query_as(
        "select distinct seed::text, c.dataset_digest, libtorch_version, device
         from analytics.training_curves c where length(spec_sha256) = 64 and code_version <> ''",
    )
    .fetch_all(&mut analyst)
    .await
    .unwrap();
    assert_eq!(made.len(), 1, "{made:?}");
    assert_eq!((made[0].0.as_str(), made[0].1.len(), made[0].3.as_str()), ("42", 64, "cpu"));

    let worst: Vec<(String, String, i64)> = sqlx::query(
        "select claim_id, severity::text, photographs from analytics.claim_severity order by severity desc, mean_p_severe desc",
    )
    .fetch_all(&mut analyst)
    .await
    .unwrap()
    .iter()
    .map(|row| (row.get(0), row.get(1), row.get(2)))
    .collect();
    assert_eq!(worst.len(), 5);
    assert!(worst.iter().all(|claim| claim.2 == 4), "{worst:?}");
    for view in ["predictions", "image_severity", "class_metrics", "confusion_matrix", "training_curves", "job_runs"] {
        let rows: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(format!("select count(*) from analytics.{view}")))
            .fetch_one(&mut analyst)
            .await
            .unwrap();
        assert!(rows > 0, "analytics.{view} is empty");
    }
}

/// The API and both forms of `perito model show`.
async fn shows_what_it_was_made_from(system: &System, model: &Value) {
    assert_eq!((&model["seed"], &model["device"]), (&json!(42), &json!("cpu")), "{model}");
    for digest in ["spec_sha256", "dataset_digest"] {
        assert_eq!(model[digest].as_str().map(str::len), Some(64), "{digest}: {model}");
    }
    let (code, text, errors) = system.perito(&["model", "show", "severity@1"]).await;
    assert_eq!(code, 0, "{errors}");
    for member in ["seed", "spec_sha256", "dataset_digest", "code_version", "libtorch_version", "device"] {
        let value = model[member].as_str().map_or_else(|| model[member].to_string(), str::to_owned);
        assert!(!value.is_empty() && text.contains(&value), "{member} {value:?} is not in\n{text}");
    }
    let (code, shown, errors) = system.perito(&["model", "show", "severity@1", "--json"]).await;
    assert_eq!(code, 0, "{errors}");
    assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), *model);
}

#[tokio::test]
async fn the_same_seed_and_specification_give_the_same_weights() {
    let mut system = System::start().await;
    let _worker = system.worker("w1");
    small(&system).await;
    let (first, second) = (system.submit(train_spec("twin")).await, system.submit(train_spec("twin")).await);
    system.success_of(&first).await;
    system.success_of(&second).await;
    let digest =
        async |version: i32| system.get(&format!("/v1/models/twin@{version}")).await["artifact"]["sha256"].clone();
    assert_eq!(digest(1).await, digest(2).await);
}

#[tokio::test]
async fn the_backlog_is_what_the_model_has_not_dealt_with() {
    let mut system = System::start().await;
    let _worker = system.worker("w1");
    let model = perito_tests::models::import(&system, "cheap").await;
    let photo = |number: u64| (format!("b/c{number}/{number}.jpg"), photograph(Severity::Minor, number, 64, 64));
    system.register(&(0..7).map(photo).collect::<Vec<_>>()).await;
    let spec = json!({"kind": "score", "model": model, "selection": {"by": "backlog"}, "shard_size": 3});
    let first = system.submit(spec.clone()).await;
    assert_eq!(system.success_of(&first).await["images"]["scored"], 7);
    // Two more arrive, and one is replaced by another picture: three wait.
    system.register(&[photo(7), photo(8), ("b/c0/0.jpg".to_owned(), photograph(Severity::Severe, 99, 64, 64))]).await;
    let second = system.submit(spec.clone()).await;
    assert_eq!(system.success_of(&second).await["images"]["scored"], 3);
    let third = system.submit(spec).await;
    let nothing = system.success_of(&third).await;
    assert_eq!((&nothing["images"]["total"], &nothing["images"]["scored"]), (&json!(0), &json!(0)));
    // An old version keeps its score; the latest severity of a photograph is that of its present version.
    assert_eq!(system.count("select count(*) from analytics.predictions").await, 10);
}
