//! `perito labels`

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use perito_tables::Format;
use serde_json::json;

use super::Context;
use crate::{
    api::{BadRows, Label},
    exit::Usage,
    labels::{Defaults, LabelFile, read},
    progress::Progress,
};

/// Labels in one request.
const BATCH: usize = 5_000;
/// Bad rows that are told one by one.
const TOLD: usize = 50;

/// What adjusters decided.
#[derive(Debug, Subcommand)]
pub enum LabelsCommand {
    /// Records a file of decisions beside the predictions
    Import(ImportArgs),
}

const IMPORT_HELP: &str = "\
FILE is CSV with a header, or JSON Lines or Parquet with the same names; - is standard input. A row is about a photograph or about a claim:
  image_id            the photograph's number, or
  key, bucket, etag   its key, with the bucket unless it is --bucket, and the ETag of the version that was looked at unless it is the present one, or
  claim_id            the claim as a whole (beside a photograph it is checked)
  severity            minor, moderate or severe (label is understood too)
  decided_at          when: 2026-03-01T10:00:00Z; the latest decision counts, the others are kept
  source              who or what system says so, unless it is --source
Other columns are left out.

Bad rows are told with their line, and then nothing is recorded, unless --skip-bad leaves them out. Importing again is safe.

With --json: {\"rows\", \"new\", \"known\", \"rejected\": [{\"line\", \"detail\"}]}

Examples:
  perito labels import march.csv --source adjusters
  perito labels import march.jsonl --dry-run

Claim systems can insert into the view label_inbox of the database instead.";

/// Records a file of decisions beside the predictions.
#[derive(Debug, Args)]
#[command(after_help = IMPORT_HELP)]
pub struct ImportArgs {
    /// The file; - for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// csv, jsonl or parquet [default: by the file's name]
    #[arg(long)]
    format: Option<Format>,
    /// Who or what system says so, for rows without a source
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// The bucket of rows with a key and no bucket
    #[arg(long, value_name = "BUCKET", env = "PERITO_S3_BUCKET", default_value = "perito")]
    bucket: String,
    /// Leaves bad rows out and records the others
    #[arg(long)]
    skip_bad: bool,
    /// Checks everything and records nothing
    #[arg(long, conflicts_with = "skip_bad")]
    dry_run: bool,
}

pub(super) async fn run(context: &Context, command: LabelsCommand) -> anyhow::Result<()> {
    match command {
        LabelsCommand::Import(args) => import(context, args).await,
    }
}

async fn import(context: &Context, args: ImportArgs) -> anyhow::Result<()> {
    let name = args.file.display().to_string();
    let defaults = Defaults { bucket: args.bucket, source: args.source };
    let file = read(&args.file, args.format, &defaults)?;
    if file.rows() == 0 {
        bail!(Usage(format!("{name} has no rows")));
    }
    let rows = file.rows();
    let LabelFile { labels, mut problems, .. } = file;
    let mut totals = (0, 0);
    // The whole file is checked before anything is recorded.
    let stages: &[BadRows] = match (args.skip_bad, args.dry_run) {
        (true, _) => &[BadRows::Skip],
        (false, true) => &[BadRows::Check],
        (false, false) => &[BadRows::Check, BadRows::Refuse],
    };
    for stage in stages {
        totals = send(context, &labels, *stage, &mut problems).await?;
        if !args.skip_bad && !problems.is_empty() {
            break;
        }
    }
    problems.sort();
    tell(&problems);
    if !args.skip_bad && !problems.is_empty() {
        bail!(
            "{} of {rows} rows are bad and nothing was recorded: mend them, or leave them out with --skip-bad",
            problems.len()
        );
    }
    let (new, known) = totals;
    let rejected: Vec<_> = problems.iter().map(|(line, detail)| json!({ "line": line, "detail": detail })).collect();
    let document = json!({ "rows": rows, "new": new, "known": known, "rejected": rejected });
    context.output.document(&document, || {
        let would = if args.dry_run { "would record" } else { "recorded" };
        let left_out =
            if problems.is_empty() { String::new() } else { format!(", left out {} bad rows", problems.len()) };
        format!("{would} {new} new decisions, {known} known{left_out}")
    })
}

/// Sends all labels in batches: how many were new and known. What the catalogue objects to joins the problems, by line.
async fn send(
    context: &Context,
    labels: &[(u64, Label)],
    bad_rows: BadRows,
    problems: &mut Vec<(u64, String)>,
) -> anyhow::Result<(u64, u64)> {
    let what = if bad_rows == BadRows::Check { "checking" } else { "recording" };
    let progress = Progress::with_count(what, labels.len() as u64);
    let (mut new, mut known) = (0, 0);
    for batch in labels.chunks(BATCH) {
        let bodies: Vec<Label> = batch.iter().map(|(_, label)| label.clone()).collect();
        let outcome = context.api.record_labels(&bodies, bad_rows).await.context("record labels")?.value;
        new += outcome.new;
        known += outcome.known;
        let lines = outcome.rejected.into_iter().filter_map(|bad| Some((batch.get(bad.index)?.0, bad.detail)));
        let before = problems.len();
        problems.extend(lines);
        if bad_rows == BadRows::Refuse && problems.len() > before {
            tell(problems);
            bail!("the catalogue changed while labels were recorded: {new} are recorded; import the file again");
        }
        progress.advance(batch.len() as u64, 0);
    }
    progress.finish();
    Ok((new, known))
}

fn tell(problems: &[(u64, String)]) {
    for (line, problem) in problems.iter().take(TOLD) {
        eprintln!("line {line}: {problem}");
    }
    if problems.len() > TOLD {
        eprintln!("and {} more", problems.len() - TOLD);
    }
}
