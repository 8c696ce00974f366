//! `perito retention`

use anyhow::Context as _;
use chrono::Utc;
use clap::{Args, Subcommand};
use perito_domain::month::{Age, Month};
use perito_runtime::{DatabaseArgs, ObjectStoreArgs};
use serde_json::json;

use super::{Context, views};
use crate::{
    exit::Usage,
    report,
    retention::{self, Archiver},
    store,
};

/// Old months of scores.
#[derive(Debug, Subcommand)]
pub enum RetentionCommand {
    /// Archives months of scores in the object store and drops them from Postgres
    Apply(ApplyArgs),
    /// Lists the months that are archived, or on their way
    List(ListArgs),
    /// Brings an archived month back
    Restore(RestoreArgs),
}

/// Archives old months.
#[derive(Debug, Args)]
#[command(after_help = "\
Without --yes it only says what it would do. A month's predictions leave Postgres in four steps: its partition is detached, which takes its
runs out of the views of rows, all at once; it is stored as Parquet; the copy is read again and compared; the partition is dropped. A
run of this command that is interrupted is finished by the next one. Months with unfinished runs are passed over.

What stays: runs, their severity mix, histograms, costs, metrics, failures and the models. See docs/how-to/archive-old-runs.md.
  perito retention apply --older-than 18months
  perito retention apply --older-than 18months --yes")]
pub struct ApplyArgs {
    /// The age that every day of a month must have reached, such as 18months or 2years
    #[arg(long, value_name = "AGE")]
    older_than: Age,
    /// Does it
    #[arg(long, conflicts_with = "dry_run")]
    yes: bool,
    /// Says what would be done; the same as without --yes
    #[arg(long)]
    dry_run: bool,
    /// What the keys of archives begin with
    #[arg(long, value_name = "PREFIX", default_value = "archive/predictions")]
    prefix: String,
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    store: ObjectStoreArgs,
}

/// Lists archives.
#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    database: DatabaseArgs,
}

/// Brings a month back.
#[derive(Debug, Args)]
#[command(after_help = "\
The archive is read and compared with its manifest first; the runs show again, all at once, when everything is there. The archive itself
stays in the object store. `retention apply` archives the month again when it is old enough.
  perito retention restore 2024-05")]
pub struct RestoreArgs {
    /// The month, such as 2024-05
    #[arg(value_name = "MONTH")]
    month: Month,
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    store: ObjectStoreArgs,
}

pub(super) async fn run(context: &Context, command: RetentionCommand) -> anyhow::Result<()> {
    match command {
        RetentionCommand::Apply(args) => apply(context, args).await,
        RetentionCommand::List(args) => {
            let archives = views::connect(&args.database).await?.archives().await?;
            let document: Vec<_> = archives
                .iter()
                .map(|archive| {
                    json!({"month": archive.month.to_string(), "state": retention::state(archive.state), "bucket": archive.bucket,
                           "prefix": archive.prefix, "runs": archive.runs, "predictions": archive.predictions,
                           "archived_at": archive.archived_at})
                })
                .collect();
            context.output.document(&json!({ "archives": document }), || report::archives(&archives))
        }
        RetentionCommand::Restore(args) => {
            let archiver = Archiver::begin(views::connect(&args.database).await?, store::connect(&args.store)?).await?;
            let predictions = archiver.restore(args.month).await?;
            context.output.document(&json!({"month": args.month.to_string(), "predictions": predictions}), || {
                format!("{} is back: {predictions} predictions", args.month)
            })
        }
    }
}

async fn apply(context: &Context, args: ApplyArgs) -> anyhow::Result<()> {
    let prefix = args.prefix.trim_matches('/').to_owned();
    if prefix.is_empty() {
        return Err(Usage("--prefix is empty: archives want a place of their own".to_owned()).into());
    }
    let database = views::connect(&args.database).await?;
    let plan = retention::plan(&database, args.older_than, Utc::now().date_naive()).await?;
    let steps: Vec<_> = plan
        .iter()
        .map(|step| json!({"month": step.month.to_string(), "action": step.action.to_string(), "runs": step.runs, "bytes": step.bytes}))
        .collect();
    let work = plan.iter().filter(|step| step.action.is_work()).count();
    if !args.yes || work == 0 {
        return context.output.document(&json!({"plan": steps, "done": false}), || {
            let end = if work == 0 { "There is nothing to archive." } else { "Nothing was done: --yes does it." };
            format!("{}\n{end}", report::retention_plan(&plan))
        });
    }
    eprintln!("{}", report::retention_plan(&plan));
    let archiver = Archiver::begin(database, store::connect(&args.store)?).await?;
    for step in plan.iter().filter(|step| step.action.is_work()) {
        let done = archiver.archive(step.month, &args.store.s3_bucket, &prefix).await;
        done.with_context(|| format!("archive {} (run it again: it goes on where it was)", step.month))?;
    }
    context.output.document(&json!({"plan": steps, "done": true}), || format!("archived {work} months"))
}
