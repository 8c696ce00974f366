//! Training that is interrupted ends with the weights of training that is not, bit for bit.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use futures::TryStreamExt;
use perito_tests::{Process, System, datasets::small};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(120);

fn cnn4_with_sgd() -> Value {
    json!({
        "kind": "train", "model": "severity", "dataset": "small", "architecture": "cnn4", "image_size": 32, "epochs": 6,
        "batch_size": 8, "optimizer": {"name": "sgd", "learning_rate": 0.003, "momentum": 0.9, "weight_decay": 0.001},
        "schedule": {"name": "cosine", "warmup_epochs": 1}, "swa_start": 0.4,
    })
}

fn resnet18_with_adam() -> Value {
    json!({
        "kind": "train", "model": "severity", "dataset": "small", "architecture": "resnet18", "image_size": 32, "epochs": 3,
        "batch_size": 8, "freeze": null, "optimizer": {"name": "adam", "learning_rate": 0.0005},
        // Everything that has a state or draws numbers.
        "schedule": {"name": "plateau", "factor": 0.5, "patience": 0}, "ema_decay": 0.9, "test_time_flip": true,
        "mix": {"probability": 0.7, "mixup": 0.4, "cutmix": 1.0},
        "augment": {"crop": {"from": 40}, "erasing": {"probability": 0.5}},
    })
}

/// A worker that writes a checkpoint before every step.
fn careful(system: &mut System, name: &str, decode_threads: &str) -> Process {
    let threads = ["--compute-threads", "1", "--decode-threads", decode_threads];
    system.run("perito-worker", &[&["--name", name, "--checkpoint-interval", "0s"], &threads[..]].concat())
}

async fn log_has(worker: &Process, text: &str, times: usize) {
    let started = Instant::now();
    while worker.log().matches(text).count() < times {
        assert!(started.elapsed() < PATIENCE, "no {text:?} in\n{}", worker.log());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The digest of the weights that a finished job registered, and its losses by epoch.
async fn outcome(system: &System, job: &str) -> (String, Vec<f64>) {
    let model = system.success_of(job).await["model"].as_str().unwrap().to_owned();
    let sha256 = system.get(&format!("/v1/models/{model}")).await["artifact"]["sha256"].as_str().unwrap().to_owned();
    let losses = sqlx::query_scalar("select training_loss from training_epochs where job_id = $1::uuid order by epoch")
        .bind(job)
        .fetch_all(system.pool())
        .await
        .unwrap();
    (sha256, losses)
}

async fn undisturbed(system: &mut System, spec: Value) -> (String, Vec<f64>) {
    let mut worker = system.worker("undisturbed");
    let job = system.submit(spec).await;
    let outcome = outcome(system, &job).await;
    worker.kill();
    outcome
}

/// The state files of a job's checkpoints, oldest first.
async fn states(system: &System, job: &str) -> Vec<String> {
    let objects: Vec<_> =
        system.objects.list(&system.bucket, &format!("checkpoints/{job}/")).try_collect().await.unwrap();
    objects.into_iter().map(|object| object.key).filter(|key| key.ends_with("state.safetensors")).collect()
}

/// Waits until a job has left no checkpoints.
async fn no_checkpoints_of(system: &System, job: &str, worker: &Process) {
    let started = Instant::now();
    loop {
        let left = states(system, job).await;
        if left.is_empty() {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "left of a finished run: {left:?}\n{}", worker.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn killed_and_resumed(spec: Value) {
    let mut system = System::start().await;
    small(&system).await;
    let expected = undisturbed(&mut system, spec.clone()).await;

    let job = system.submit(spec).await;
    let mut first = careful(&mut system, "first", "1");
    log_has(&first, "checkpoint written", 5).await;
    first.kill();
    let mut second = careful(&mut system, "second", "3");
    log_has(&second, "resumed from a checkpoint", 1).await;
    log_has(&second, "checkpoint written", 4).await;
    second.kill();
    // The newest checkpoint is cut off: the one before it serves.
    let newest = states(&system, &job).await.pop().unwrap();
    let whole = system.objects.get(&system.bucket, &newest, None, 1 << 30).await.unwrap();
    let half = whole.slice(..whole.len() / 2);
    system.objects.put(&system.bucket, &newest, half, "application/octet-stream").await.unwrap();

    let third = careful(&mut system, "third", "2");
    assert_eq!(outcome(&system, &job).await, expected, "{}", third.log());
    log_has(&third, "resumed from a checkpoint", 1).await;
    let complete = format!("{}/complete.json", newest.rsplit_once('/').unwrap().0);
    let had_marker = third.log().contains("checkpoint passed over");
    assert!(had_marker || !system.objects.exists(&system.bucket, &complete).await.unwrap(), "{}", third.log());
    assert_eq!(system.count("select max(attempt)::bigint from tasks").await, 3);
    no_checkpoints_of(&system, &job, &third).await;
}

#[tokio::test]
async fn cnn4_with_sgd_survives_sigkill_and_a_broken_checkpoint() {
    killed_and_resumed(cnn4_with_sgd()).await;
}

#[tokio::test]
async fn resnet18_with_adam_survives_sigkill_and_a_broken_checkpoint() {
    killed_and_resumed(resnet18_with_adam()).await;
}

#[tokio::test]
async fn what_a_killed_worker_left_of_a_finished_run_goes_with_the_next_one() {
    let mut system = System::start().await;
    small(&system).await;
    let worker = system.worker("w1");
    let mut spec = cnn4_with_sgd();
    (spec["epochs"], spec["schedule"]) = (json!(1), json!({"name": "constant"}));
    let finished = system.submit(spec.clone()).await;
    system.success_of(&finished).await;
    log_has(&worker, "task ended", 1).await;
    // As if the worker had been killed between its commit and the removal; and what is another system's.
    let task = system.messages(&finished).await.remove(0).task_id;
    let foreign = "0199a5f2-7c3e-7d51-9b1e-2f6c8a4d0e11";
    for folder in [format!("{finished}/{task}"), format!("{foreign}/{foreign}")] {
        let key = format!("checkpoints/{folder}/000001-00000002-0001/state.safetensors");
        system.objects.put(&system.bucket, &key, vec![0; 9], "application/octet-stream").await.unwrap();
    }
    let next = system.submit(spec).await;
    system.success_of(&next).await;
    no_checkpoints_of(&system, &finished, &worker).await;
    assert_eq!(states(&system, foreign).await.len(), 1, "nobody here knows what it is");
}

#[tokio::test]
async fn sigterm_writes_a_checkpoint_and_spends_no_attempt() {
    let mut system = System::start().await;
    small(&system).await;
    let spec = cnn4_with_sgd();
    let expected = undisturbed(&mut system, spec.clone()).await;
    let job = system.submit(spec).await;
    // The default interval is minutes: what is written here is written because of the signal.
    let mut leaving = system.worker("leaving");
    system.wait_for(&job, "a claim", |job| job["tasks"]["running"] == 1).await;
    log_has(&leaving, "epoch done", 1).await;
    leaving.signal("TERM");
    let status = leaving.wait(Duration::from_secs(10)).await;
    assert!(status.success(), "{status}: {}", leaving.log());
    assert_eq!(leaving.log().matches("checkpoint written").count(), 1, "{}", leaving.log());
    assert_eq!(system.count("select attempts_spent::bigint from tasks order by started_at desc limit 1").await, 0);
    let successor = system.worker("successor");
    assert_eq!(outcome(&system, &job).await, expected);
    assert!(successor.log().contains("resumed from a checkpoint"), "{}", successor.log());
}
