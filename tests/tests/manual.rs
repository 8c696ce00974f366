//! The manual is true: its commands work as they stand there, and its reference pages say what the programs say.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use perito_domain::{
    poison::{GIVE_UP_AFTER, SPLIT_AFTER, SPLIT_HALF_AFTER},
    retry::{Again, MAX_ATTEMPTS, PLAN_BACKOFF, Trouble},
};
use perito_tests::{System, manual, process::binary};
use regex::Regex;

/// A page whose commands are run.
struct Page {
    path: &'static str,
    /// What the page takes for granted: commands that make it so.
    given: &'static str,
    /// What stands on the page for something of the reader's own, and what it is here.
    own: &'static [(&'static str, &'static str)],
}

/// In this order: each finds what the ones before it have made.
const PAGES: [Page; 10] = [
    Page { path: "docs/tutorial/first-nightly-run.md", given: "", own: &[] },
    Page { path: "docs/how-to/schedule-nightly-scoring.md", given: "", own: &[] },
    Page {
        path: "docs/how-to/operate-jobs.md",
        // Each ID on the page is a job that has just been submitted.
        given: r#"
            id() { perito --json score severity@production --prefix backlog --shard-size 1 | sed -E 's/.*"id": ?"([0-9a-f-]{36})".*/\1/;q'; }
        "#,
        own: &[(" ID", " $(id)"), ("gpu-1-4711", "worker-1"), ("severity@3", "severity@1")],
    },
    Page {
        path: "docs/how-to/promote-a-model.md",
        // The recipe of the tutorial, so that the gate finds the new versions as good as the old one.
        given: r#"
            for version in 2 3; do
                perito train --model severity --dataset cars --arch cnn4 --image-size 32 --epochs 4 --set 'optimizer={"name":"adamw","learning_rate":0.001}' --watch
            done
        "#,
        own: &[
            ("severity@2", "severity@three"),
            ("severity@4", "severity@2"),
            ("severity@3", "severity@1"),
            ("@three", "@3"),
            ("demo@2", "cars@1"),
        ],
    },
    Page {
        path: "docs/how-to/learn-from-adjusters.md",
        given: r#"
            keys() { psql -qXAtd "$PERITO_DATABASE_URL" -c "select key from images where label is null and superseded_at is null and key like 'backlog/%' order by id"; }
            severities=(minor moderate severe)
            n=0; echo key,claim_id,severity,decided_at,source >march.csv
            for key in $(keys); do
                echo "$key,,${severities[n % 3]},2026-03-02T10:12:00Z,ana" >>march.csv; n=$((n + 1))
            done
            printf '{"key": "%s", "severity": "severe", "decided_at": "2026-03-02T10:12:00Z"}\n' "$(keys | head -1)" >march.jsonl
        "#,
        own: &[
            ("--preset cnn-seed", "--arch cnn4 --image-size 32 --epochs 1"),
            (
                "'perito', 'backlog/claim-17/front.jpg'",
                "'BUCKET', (select min(key) from images where key like 'backlog/%')",
            ),
        ],
    },
    Page {
        path: "docs/how-to/score-without-servers.md",
        given: "",
        own: &[
            ("--model weights.safetensors --arch resnet18 --image-size 224", "--model severity.safetensors"),
            ("car.jpg", "\"$(find photographs/backlog -name '*.jpg' | head -1)\""),
            ("claims/", "photographs/backlog"),
        ],
    },
    Page {
        path: "docs/how-to/query-results.md",
        given: r#"JOB=$(psql -qXAtd "$PERITO_DATABASE_URL" -c "select job_id from analytics.job_runs where kind = 'score' and images_scored > 0 limit 1")"#,
        own: &[("s3://perito/", "s3://BUCKET/")],
    },
    Page {
        path: "docs/how-to/feed-the-backlog.md",
        given: r#"
            psql -qXAtd "$PERITO_DATABASE_URL" -c "copy (select key, claim_id from images where label is null) to stdout csv header" >tonight.csv
            perito export image_severity --to tonight.parquet
        "#,
        own: &[
            ("--bucket claims --prefix 2026/", "--prefix backlog/"),
            ("/(?<claim>C[0-9]+)_", "/(?<claim>claim-[0-9]+)/"),
            ("tonight.parquet", "tonight.parquet --ignore-other-columns"),
            ("psql claims", "psql \"$PERITO_DATABASE_URL\""),
            ("from photos", "from images where label is null"),
        ],
    },
    Page {
        path: "docs/how-to/archive-old-runs.md",
        // A run of long ago.
        given: r#"
            psql -qXv ON_ERROR_STOP=1 "$PERITO_DATABASE_URL" <<'SQL'
                select ensure_prediction_partition('2024-05-10');
                select job_id as job from analytics.job_runs where kind = 'score' and images_scored > 0 order by created_at limit 1 \gset
                begin;
                update predictions set run_date = '2024-05-10' where job_id = :'job';
                update jobs set run_date = '2024-05-10' where id = :'job';
                commit;
SQL
        "#,
        own: &[],
    },
    Page { path: "docs/how-to/secure.md", given: "", own: &[] },
];

/// Needs a cluster; `make check-deploy` renders and checks the manifests.
const ELSEWHERE: &str = "docs/how-to/deploy-on-kubernetes.md";

/// How long one page may take.
const PATIENCE: Duration = Duration::from_secs(240);

#[test]
fn no_page_is_forgotten() {
    let known: BTreeSet<PathBuf> =
        PAGES.iter().map(|page| page.path).chain([ELSEWHERE]).map(|page| manual::root().join(page)).collect();
    let pages = ["docs/tutorial", "docs/how-to"].map(|folder| std::fs::read_dir(manual::root().join(folder)).unwrap());
    let found: BTreeSet<PathBuf> = pages.into_iter().flatten().map(|page| page.unwrap().path()).collect();
    assert_eq!(found, known);
}

#[tokio::test]
async fn every_command_of_the_manual_works() {
    let mut system = System::start().await;
    let _worker = system.worker("worker-1");
    let folder = tempfile::tempdir().unwrap();
    let path = format!("{}:{}", binary("perito").parent().unwrap().display(), std::env::var("PATH").unwrap());
    for Page { path: page, given, own } in PAGES {
        let commands = manual::script(&manual::page(page));
        assert!(!commands.is_empty(), "{page} has no commands");
        let commands = own.iter().fold(commands, |commands, (theirs, ours)| {
            assert!(commands.contains(theirs), "{page} has no {theirs:?} any more");
            commands.replace(theirs, ours)
        });
        let commands = commands.replace("BUCKET", &system.bucket);
        let mut run = tokio::process::Command::new("bash");
        run.args(["-euo", "pipefail", "-c", &format!("{given}\nset -x\n{commands}")])
            .current_dir(&folder)
            .kill_on_drop(true);
        run.env("PATH", &path).env("HOME", folder.path()).env("USER", "reader").env("PAGER", "cat");
        let output = tokio::time::timeout(PATIENCE, run.envs(system.variables.iter().cloned()).output()).await;
        let output = output.unwrap_or_else(|_| panic!("{page} takes too long")).unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{page}: {}\n{out}\n{err}", output.status);
    }
}

/// Compares a reference page with what it is made of; writes it anew when `PERITO_UPDATE_REFERENCE` is set (`make reference`).
fn current(path: &str, expected: &str) {
    if std::env::var_os("PERITO_UPDATE_REFERENCE").is_some() {
        std::fs::write(manual::root().join(path), expected).unwrap();
    }
    assert!(manual::page(path) == expected, "{path} is not current: run `make reference` and commit it");
}

#[test]
fn the_reference_of_commands_is_current() {
    current("docs/reference/commands.md", &manual::commands());
}

#[test]
fn the_reference_of_configuration_is_current() {
    current("docs/reference/configuration.md", &manual::configuration());
}

/// What a pattern's first group finds in all Rust sources below `services/`.
fn in_sources(pattern: &str) -> BTreeSet<String> {
    let pattern = Regex::new(pattern).unwrap();
    let files = walkdir::WalkDir::new(manual::root().join("services")).into_iter().map(Result::unwrap);
    files
        .filter(|file| file.path().extension().is_some_and(|extension| extension == "rs"))
        .flat_map(|file| {
            let text = std::fs::read_to_string(file.path()).unwrap();
            pattern.captures_iter(&text).map(|found| found[1].to_owned()).collect::<Vec<_>>()
        })
        .collect()
}

/// What stands in the first column of a page's tables, in backticks.
fn in_tables(path: &str) -> BTreeSet<String> {
    let row = Regex::new(r"(?m)^\| `([^`]+)` \|").unwrap();
    row.captures_iter(&manual::page(path)).map(|found| found[1].to_owned()).collect()
}

#[test]
fn the_reference_of_metrics_names_each() {
    let exported = in_sources(r#"metrics::(?:counter|gauge|histogram)!\(\s*"(perito_\w+)""#);
    assert!(exported.len() > 10, "{exported:?}");
    assert_eq!(in_tables("docs/reference/metrics.md"), exported);
}

#[test]
fn the_reference_of_errors_names_each() {
    let mut named = in_sources(r#""(urn:perito:problem:[a-z-]+)""#);
    named.extend(perito_domain::failure::FailureReason::ALL.iter().map(|reason| reason.as_str().to_owned()));
    named.extend(
        Regex::new(r"(?m)^  (\d)  ").unwrap().captures_iter(perito_cli::exit::HELP).map(|code| code[1].to_owned()),
    );
    let documented = in_tables("docs/reference/errors.md");
    assert_eq!(documented, named);
}

#[test]
fn the_reference_of_limits_is_current() {
    current("docs/reference/limits.md", &manual::limits());
}

#[test]
fn the_reference_of_retries_is_the_policy() {
    let page = manual::page("docs/reference/retries.md");
    let seconds = |wait: Duration| match wait.as_secs() {
        seconds if seconds > 60 => format!("{} min", seconds / 60),
        seconds => format!("{seconds} s"),
    };
    for trouble in Trouble::ALL {
        let policy = trouble.policy();
        let again = match policy.again {
            Again::AfterBackoff(backoff) => {
                format!("after {}, doubling to {}, with jitter", seconds(backoff.base), seconds(backoff.cap))
            }
            Again::AtOnce => "at once".to_owned(),
            Again::Never => "never".to_owned(),
        };
        let row = format!("| `{trouble}` | {} | {again} |", if policy.counts { "yes" } else { "no" });
        assert!(page.contains(&row), "{row}");
    }
    let named: BTreeSet<String> = Trouble::ALL.iter().map(ToString::to_string).collect();
    assert_eq!(in_tables("docs/reference/retries.md"), named);
    for row in [
        format!("A task has {MAX_ATTEMPTS} attempts"),
        format!("| {SPLIT_AFTER} crashes of a scoring task |"),
        format!("| {SPLIT_HALF_AFTER} crash of a half |"),
        format!("| {GIVE_UP_AFTER} crashes of a task with one image |"),
        format!("after {}, doubling to {},", seconds(PLAN_BACKOFF.base), seconds(PLAN_BACKOFF.cap)),
    ] {
        assert!(page.contains(&row), "{row}");
    }
}

#[test]
fn alerts_and_dashboards_ask_for_metrics_that_there_are() {
    let exported = in_tables("docs/reference/metrics.md");
    let name = Regex::new(r"perito_[a-z0-9_]+").unwrap();
    for path in ["deploy/observability/alerts.yml", "deploy/observability/grafana/dashboards/perito.json"] {
        let page = manual::page(path);
        let asked: BTreeSet<&str> = name.find_iter(&page).map(|found| found.as_str()).collect();
        assert!(asked.len() > 5, "{asked:?}");
        for metric in asked {
            let metric =
                ["_bucket", "_sum", "_count"].iter().find_map(|part| metric.strip_suffix(part)).unwrap_or(metric);
            assert!(exported.contains(metric), "{path} asks for {metric}");
        }
    }
}
