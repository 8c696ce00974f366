//! Everything breaks, by a seed, while jobs are scored: nothing is lost, doubled, stuck or shown in part.
//!
//! `make test` runs one seed; `make chaos` runs as many as it is told to.
#![allow(clippy::unwrap_used)]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use perito_tests::{chaos, faults::Servers};

/// Every kind of fault once.
const SHORT: Duration = Duration::from_secs(18);
/// A run of `make chaos`: twice.
const LONG: Duration = Duration::from_secs(36);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_breaks_every_photograph_has_one_result_and_no_run_is_shown_in_part() {
    let servers = Arc::new(Servers::start("chaos").await);
    let report = chaos::run(1, SHORT, &servers).await;
    println!("{report}");
    assert!(report.lost.is_empty(), "{report}");
}

/// SEEDS runs, or as many as MINUTES have room for, from SEED on. Goes on after a loss, and fails at the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "as long as asked: make chaos"]
async fn many_seeds() {
    let number = |name: &str| {
        let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
        Some(
            text.parse::<u64>()
                .unwrap_or_else(|_| panic!("{name} is {text:?}: write a whole number, such as {name}=10")),
        )
    };
    let (first, seeds, minutes) = (number("SEED").unwrap_or(1), number("SEEDS"), number("MINUTES"));
    let most = seeds.unwrap_or(if minutes.is_some() { u64::MAX } else { 10 });
    let limit = minutes.map(|minutes| Duration::from_secs(60 * minutes));
    let started = Instant::now();
    let servers = Arc::new(Servers::start("chaos").await);
    let (mut runs, mut losses) = (0, Vec::new());
    while runs < most && limit.is_none_or(|limit| started.elapsed() < limit) {
        let seed = first + runs;
        let report = chaos::run(seed, LONG, &servers).await;
        println!("{report}");
        if !report.lost.is_empty() {
            losses.push(seed);
        }
        runs += 1;
    }
    println!("{runs} seeds in {} s, {} of them with losses", started.elapsed().as_secs(), losses.len());
    assert!(losses.is_empty(), "losses with the seeds {losses:?}: make chaos SEEDS=1 SEED=... does one again");
}
