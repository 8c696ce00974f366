//! The scoring pipeline: bounded memory, and a report of where its time goes.
#![allow(clippy::unwrap_used)]

use image::{ImageFormat, Rgb, RgbImage};
use perito_domain::preprocessing::{self, Preprocessing};
use perito_tests::{
    System, models,
    photographs::{encode, photograph},
    process::Process,
    system::free_address,
};
use serde_json::{Value, json};

const LIMIT: u64 = 1 << 30;

/// The most memory that a process has had, in bytes.
fn peak(process: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().trim().parse::<u64>().unwrap() * 1024
}

fn by_prefix(system: &System, model: &str, prefix: &str) -> Value {
    let selection = json!({"by": "prefix", "bucket": system.bucket, "prefix": prefix});
    json!({"kind": "score", "model": model, "selection": selection, "shard_size": 500})
}

/// Decoded in full, one of these takes 150 MB, and as much again while it is turned upright. Eight threads would take more than the limit.
#[tokio::test]
async fn photographs_of_50_megapixels_are_scored_within_the_memory_that_there_is() {
    let mut system = System::start().await;
    let exact = Preprocessing { version: preprocessing::EXACT, ..Preprocessing::imagenet(models::IMAGE_SIZE) };
    let exact = models::import_as(&system, "exact", &exact).await;
    let reduced = models::import(&system, "reduced").await;
    let large = RgbImage::from_fn(8660, 5774, |x, y| Rgb([(x / 34) as u8, (y / 23) as u8, ((x + y) / 57) as u8]));
    let large = encode(&large, ImageFormat::Jpeg);
    let objects: Vec<_> = (0..12).map(|number| (format!("large/c{number}/a.jpg"), large.clone())).collect();
    // One that is too much by itself.
    let wide = encode(&RgbImage::new(12_000, 8_000), ImageFormat::Png);
    system.register(&objects).await;
    system.register(&[("huge/c/a.png".to_owned(), wide)]).await;

    let arguments = ["--name", "bounded", "--compute-threads", "1", "--decode-threads", "8", "--max-memory", "1GiB"];
    let worker = system.run("perito-worker", &arguments);
    for model in [exact, reduced] {
        let job = system.submit(by_prefix(&system, &model, "large/")).await;
        assert_eq!(system.success_of(&job).await["images"]["scored"], 12);
        let peak = peak(&worker);
        assert!(peak < LIMIT, "{model}: the peak is {} MiB", peak >> 20);
    }
    let job = system.submit(by_prefix(&system, "exact@1", "huge/")).await;
    system.end_of(&job).await;
    let detail =
        "select count(*) from image_failures where reason = 'too_many_pixels' and detail like '%--max-memory%'";
    assert_eq!(system.count(detail).await, 1);
}

#[tokio::test]
async fn a_run_tells_what_its_stages_did_with_their_time() {
    let mut system = System::start().await;
    let model = models::import(&system, "cheap").await;
    let picture = photograph(perito_domain::Severity::Minor, 1, 1600, 1200);
    let objects: Vec<_> = (0..24).map(|number| (format!("some/c/{number}.jpg"), picture.clone())).collect();
    system.register(&objects).await;
    let listen = free_address();
    let _worker = system.run("perito-worker", &["--name", "told", "--compute-threads", "1", "--listen", &listen]);
    let spec = json!({"kind": "score", "model": model, "selection": {"by": "backlog"}, "shard_size": 5});
    let job = system.submit(spec).await;
    system.success_of(&job).await;

    let report = system.get(&format!("/v1/jobs/{job}/stages")).await;
    let stages = report["stages"].as_array().unwrap();
    assert_eq!(
        stages.iter().map(|stage| stage["stage"].as_str().unwrap()).collect::<Vec<_>>(),
        ["fetch", "decode", "infer", "write"]
    );
    let seconds = |stage: &Value| {
        ["busy_seconds", "starved_seconds", "blocked_seconds"].map(|state| stage[state].as_f64().unwrap())
    };
    let totals: Vec<f64> = stages.iter().map(|stage| seconds(stage).iter().sum()).collect();
    assert!(totals.iter().all(|total| (total - totals[0]).abs() < 0.1 && *total > 0.0), "{report:#}");
    assert!(stages.iter().all(|stage| seconds(stage)[0] > 0.0), "each has worked: {report:#}");
    // Tasks overlap, and their time is not counted twice.
    let passed = format!("select extract(epoch from finished_at - created_at)::bigint from jobs where id = '{job}'");
    let passed = system.count(&passed).await as f64;
    assert!(totals[0] <= passed + 1.0, "{passed} s: {report:#}");

    let (code, shown, _) = system.perito(&["job", "show", &job]).await;
    assert!(code == 0 && shown.contains("the others wait for: "), "{shown}");
    let view =
        format!("select count(*) from analytics.run_stages where job_id = '{job}' and busy_share between 0 and 1");
    assert_eq!(system.count(&view).await, 4);
    let metrics = reqwest::get(format!("http://{listen}/metrics")).await.unwrap().text().await.unwrap();
    assert!(metrics.contains(r#"perito_stage_seconds_total{stage="infer",state="busy"}"#), "{metrics}");
}
