//! `perito export`

use std::path::Path;

use anyhow::Context as _;
use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use clap::Args;
use perito_database::{Condition, Operator, RowFilter};
use perito_runtime::{DatabaseArgs, ObjectStoreArgs};
use perito_tables::Format;
use serde_json::json;
use uuid::Uuid;

use super::{Context, views};
use crate::{
    destination::{Destination, Target},
    exit::Usage,
    export::export,
    progress::Progress,
    store,
};

/// Writes the rows of a view to a file.
#[derive(Debug, Args)]
#[command(after_help = "\
Talks to Postgres with PERITO_DATABASE_URL, whose role has to be able to read the view: a member of perito_analyst is enough. Rows are
streamed, as they were in one moment, however many there are. The file shows under its name when it is whole, in place of the one
that was there; an export that fails or is interrupted leaves nothing.
  perito views
  perito export claim_severity --to claims.parquet
  perito export predictions --job ID --to s3://reports/night.parquet
  perito export predictions --since 2026-11-01 --where severity=severe --where 'confidence>=0.9' --to severe.csv
  perito export job_runs --format csv --to - | head

Parquet has a type for each of Postgres's: classes are strings, times are UTC to the microsecond, UUIDs are UUIDs. CSV
is exact too: a text that begins with =, +, - or @ stays as it is, so import columns as text into a spreadsheet, which would run it.
With --json: {\"view\", \"rows\", \"bytes\", \"sha256\", \"to\"}")]
pub struct ExportArgs {
    /// The view, such as `predictions`: see `perito views`
    #[arg(value_name = "VIEW")]
    view: String,
    /// Where to: a file, an object, or standard output (-)
    #[arg(long, value_name = "FILE|s3://BUCKET/KEY|-")]
    to: Target,
    /// parquet or csv; by the ending of the file when absent
    #[arg(long)]
    format: Option<Format>,
    /// Only rows of this run
    #[arg(long, value_name = "ID")]
    job: Option<Uuid>,
    /// Only rows from this moment on, by the view's own time (finished_at, or else scored_at, failed_at, ...)
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<DateTime<Utc>>,
    /// Only rows before this moment
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<DateTime<Utc>>,
    /// Only rows whose column compares so with a value: =, !=, <, <=, > or >=; all of them when there are several
    #[arg(long = "where", value_name = "COLUMN=VALUE", value_parser = condition)]
    conditions: Vec<Condition>,
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    store: ObjectStoreArgs,
}

pub(super) async fn run(context: &Context, args: ExportArgs) -> anyhow::Result<()> {
    let format = format(&args)?;
    let database = views::connect(&args.database).await?;
    let known = database.views().await?;
    let view = views::find(&known, &args.view)?;
    let filter = RowFilter { job: args.job, since: args.since, until: args.until, conditions: args.conditions };
    let extract = view.extract(&filter).map_err(|error| Usage(error.to_string()))?;
    let content_type = match format {
        Format::Csv => "text/csv; charset=utf-8",
        _ => "application/vnd.apache.parquet",
    };
    let destination = Destination::open(&args.to, content_type, || store::connect(&args.store))?;
    let progress = Progress::unknown("exporting");
    let exported = export(&database, &extract, format, destination, &progress).await;
    if args.to == Target::Stdout && exported.as_ref().is_err_and(reader_has_enough) {
        return Ok(());
    }
    let (rows, written) = exported.with_context(|| format!("export analytics.{} (nothing was written)", view.name))?;
    progress.finish();
    if args.to == Target::Stdout {
        return Ok(());
    }
    let document = json!({
        "view": view.name, "rows": rows, "bytes": written.bytes, "sha256": written.sha256, "to": args.to.to_string(),
    });
    context.output.document(&document, || format!("{rows} rows of analytics.{} in {}", view.name, args.to))
}

/// As in `perito export … --to - | head`, which is no error.
fn reader_has_enough(error: &anyhow::Error) -> bool {
    let broken = |error: &std::io::Error| error.kind() == std::io::ErrorKind::BrokenPipe;
    error.chain().any(|cause| cause.downcast_ref().is_some_and(broken))
}

fn format(args: &ExportArgs) -> Result<Format, Usage> {
    let by_ending = match &args.to {
        Target::File(path) => Format::of(path),
        Target::Object { key, .. } => Format::of(Path::new(key)),
        Target::Stdout => None,
    };
    match args.format.or(by_ending) {
        Some(Format::JsonLines) => Err(Usage("exports are parquet or csv".to_owned())),
        Some(format) => Ok(format),
        None => Err(Usage(format!("the format of {} is unknown: say --format parquet or --format csv", args.to))),
    }
}

/// A moment as RFC 3339 has it, or the beginning of a day, UTC.
fn moment(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(moment) = DateTime::parse_from_rfc3339(text) {
        return Ok(moment.to_utc());
    }
    let day = text.parse::<NaiveDate>();
    day.map(|day| day.and_time(NaiveTime::MIN).and_utc())
        .map_err(|_| "write 2026-11-01 or 2026-11-01T06:00:00Z".to_owned())
}

fn condition(text: &str) -> Result<Condition, String> {
    let wrong = || "write COLUMN=VALUE; besides = there are !=, <, <=, > and >=".to_owned();
    let at = text.find(['=', '!', '<', '>']).filter(|at| *at > 0).ok_or_else(wrong)?;
    let (column, rest) = text.split_at(at);
    let (comparison, value) = [
        ("!=", Operator::NotEqual),
        ("<=", Operator::LessOrEqual),
        (">=", Operator::GreaterOrEqual),
        ("=", Operator::Equal),
        ("<", Operator::Less),
        (">", Operator::Greater),
    ]
    .into_iter()
    .find_map(|(sign, comparison)| rest.strip_prefix(sign).map(|value| (comparison, value)))
    .ok_or_else(wrong)?;
    Ok(Condition { column: column.trim().to_owned(), comparison, value: value.to_owned() })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read_by_their_sign() {
        let read = |text: &str| condition(text).map(|found| (found.column, found.comparison, found.value));
        let of = |column: &str, comparison, value: &str| Ok((column.to_owned(), comparison, value.to_owned()));
        assert_eq!(read("severity=severe"), of("severity", Operator::Equal, "severe"));
        assert_eq!(read("confidence>=0.9"), of("confidence", Operator::GreaterOrEqual, "0.9"));
        assert_eq!(read("claim_id!=a=b"), of("claim_id", Operator::NotEqual, "a=b"));
        assert_eq!(read("key<"), of("key", Operator::Less, ""));
        for wrong in ["severity", "=x", "", "a!b"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_day_begins_at_midnight() {
        assert_eq!(moment("2026-11-01").unwrap().to_rfc3339(), "2026-11-01T00:00:00+00:00");
        assert_eq!(moment("2026-11-01T06:00:00-06:00").unwrap().to_rfc3339(), "2026-11-01T12:00:00+00:00");
        assert!(moment("yesterday").is_err());
    }
}
