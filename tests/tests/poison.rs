//! An image that kills every worker that touches it takes no job down.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use perito_domain::Severity;
use perito_tests::{System, models, photographs::photograph};
use serde_json::json;

/// The worker's fault injection: it aborts on images with this in their key.
const ABORT_ON: (&str, &str) = ("PERITO_FAULT_ABORT_ON_KEY", "poison");
/// Far more lives than it takes.
const LIVES: usize = 40;
const PATIENCE: Duration = Duration::from_secs(240);

#[tokio::test]
async fn one_poison_image_of_32_becomes_a_failure_and_31_are_scored() {
    let mut system = System::start().await;
    system.variables.push((ABORT_ON.0.to_owned(), ABORT_ON.1.to_owned()));
    let model = models::import(&system, "cheap").await;
    let picture = photograph(Severity::Minor, 1, 96, 64);
    let objects: Vec<_> = (0..32)
        .map(|number| {
            (format!("backlog/{}-{number}.jpg", if number == 13 { "poison" } else { "whole" }), picture.clone())
        })
        .collect();
    system.register(&objects).await;
    let selection = json!({"by": "prefix", "bucket": system.bucket, "prefix": "backlog/"});
    let job = system.submit(json!({"kind": "score", "model": model, "selection": selection, "shard_size": 8})).await;

    // Somebody restarts the worker whenever it dies, as a pod is.
    let started = Instant::now();
    let (mut lives, mut worker) = (1, system.worker("phoenix"));
    let ended = loop {
        let state = system.get(&format!("/v1/jobs/{job}")).await;
        if state["finished_at"].is_string() {
            break state;
        }
        assert!(started.elapsed() < PATIENCE && lives < LIVES, "{lives} lives: {state:#}");
        if !worker.is_running() {
            lives += 1;
            worker = system.worker("phoenix");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    println!("{lives} lives in {:.0} s", started.elapsed().as_secs_f64());
    assert_eq!(ended["state"], "succeeded", "{ended:#}");
    assert_eq!((ended["images"]["scored"].as_i64(), ended["images"]["failed"].as_i64()), (Some(31), Some(1)));
    assert!(lives > 5, "it died, and more than once");
    assert_eq!(system.scores(&job).await.len(), 31);
    let poison =
        "select count(*) from analytics.image_failures where reason = 'crashed_worker' and key like '%poison%'";
    assert_eq!(system.count(poison).await, 1);
    assert_eq!(system.count("select count(*) from analytics.image_failures").await, 1);
    let open = "select count(*) from tasks where state not in ('succeeded', 'split')";
    assert_eq!(system.count(open).await, 0);
}
