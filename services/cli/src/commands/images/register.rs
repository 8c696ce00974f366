//! `perito images register`

use std::{path::PathBuf, pin::pin};

use anyhow::bail;
use clap::{ArgGroup, Args};
use futures::TryStreamExt as _;
use perito_domain::{claims::ClaimRule, photograph::media_type};
use perito_runtime::ObjectStoreArgs;
use perito_tables::Format;
use serde_json::json;

use super::told;
use crate::{
    api::NewImage,
    commands::Context,
    exit::Usage,
    manifest::{self, Manifest},
    progress::Progress,
    registration::{BATCH, Refused, Totals, register},
    store,
};

const HELP: &str = "\
A manifest is a file of rows: CSV with a header, JSON Lines or Parquet, by its ending (.csv, .jsonl, .parquet) or --format. Columns:
  key         required: the object's key, as it is (not URL-encoded)
  bucket      --bucket where it is missing
  etag        looked up in S3 where it is missing
  size_bytes  looked up in S3 where it is missing
  claim_id    found in the key where it is missing
  label       minor, moderate or severe; labelled photographs are not part of the backlog

The claim's id in a key is the name of the folder that holds the photograph, or what the group `claim` of --claim-pattern captures.

Registering again is safe, and so is going on after an interruption: an object with a known ETag is the same photograph, and one with another
ETag a new version that supersedes the old one. Rows that cannot be registered are told and counted, the others are registered; then the exit
code is 1.

With --json: {\"bucket\", \"prefix\", \"images\", \"skipped\", \"refused\", \"new\", \"known\", \"superseded\"}
         or: {\"manifest\", \"rows\", \"refused\", \"new\", \"known\", \"superseded\"}

Examples:
  perito images register --prefix backlog/
  perito images register --bucket claims --prefix 2026/ --claim-pattern '/(?<claim>C[0-9]+)_'
  perito images register --manifest tonight.parquet
  psql claims -c 'copy (select key, claim_id from photos) to stdout csv header' | perito images register --manifest - --format csv";

/// Registers photographs that are in S3 already.
#[derive(Debug, Args)]
#[command(after_help = HELP, mut_arg("s3_bucket", |bucket| bucket.visible_alias("bucket")))]
#[command(group(ArgGroup::new("what").required(true).args(["prefix", "manifest"])))]
pub struct RegisterArgs {
    /// All photographs whose keys start so; empty for the whole bucket
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<String>,
    /// The photographs of a manifest; - for standard input
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// The manifest's format: csv, jsonl or parquet
    #[arg(long, value_name = "FORMAT", requires = "manifest")]
    format: Option<Format>,
    /// Passes over columns of the manifest that are none of the above, which are refused otherwise
    #[arg(long, requires = "manifest")]
    ignore_other_columns: bool,
    /// Lookups in S3 at once
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    concurrency: u16,
    /// A regular expression whose group `claim` is the claim's id
    #[arg(long, env = "PERITO_CLAIM_PATTERN", value_name = "REGEX")]
    claim_pattern: Option<ClaimRule>,
    /// Writes what is refused to this file, a JSON object a line: {\"place\", \"reason\"}
    #[arg(long, value_name = "FILE")]
    refused: Option<PathBuf>,
    #[command(flatten)]
    store: ObjectStoreArgs,
}

pub(super) async fn run(context: &Context, args: RegisterArgs) -> anyhow::Result<()> {
    let mut refused = Refused::new(args.refused.as_deref())?;
    let total = match &args.manifest {
        Some(file) => register_manifest(context, &args, file, &mut refused).await?,
        None => register_prefix(context, &args, &mut refused).await?,
    };
    match refused.count() {
        0 => Ok(()),
        count => bail!("{count} of {total} photographs were refused; the others are registered"),
    }
}

/// Registers what the rows of a file name; how many rows it has.
async fn register_manifest(
    context: &Context,
    args: &RegisterArgs,
    file: &std::path::Path,
    refused: &mut Refused,
) -> anyhow::Result<u64> {
    let rule = args.claim_pattern.clone().unwrap_or_default();
    let mut manifest = Manifest::open(file, args.format, args.ignore_other_columns)?;
    let mut lookup = manifest::Lookup::new(&args.store, rule, args.concurrency.into());
    let progress =
        if manifest.share().is_some() { Progress::share("registering") } else { Progress::unknown("registering") };
    let (mut totals, mut rows) = (Totals::default(), 0_u64);
    let outcome = loop {
        // Only one batch is held in memory, however long the manifest is.
        let (batch, end) = manifest.next_batch(BATCH);
        rows += batch.len() as u64;
        let mut images = Vec::with_capacity(batch.len());
        for (place, outcome) in lookup.complete(batch).await? {
            match outcome {
                Ok(image) => images.push(image),
                Err(reason) => refused.add(&place, &reason, &progress)?,
            }
        }
        register(&context.api, &images, &mut totals, &progress).await?;
        if let Some(share) = manifest.share() {
            progress.at(share);
        }
        if let Some(end) = end {
            break end;
        }
    };
    progress.finish();
    // What could be read before is registered.
    outcome?;
    let name = file.display().to_string();
    if rows == 0 {
        bail!(Usage(format!("{name} has no rows: nothing is registered")));
    }
    let Totals { new, known, superseded } = totals;
    let document = json!({
        "manifest": name, "rows": rows, "refused": refused.count(), "new": new, "known": known, "superseded": superseded,
    });
    context
        .output
        .document(&document, || format!("{name}: {rows} rows, {} refused; {}", refused.count(), told(totals)))?;
    Ok(rows)
}

/// Registers what is in S3 below a prefix; how many photographs there are.
async fn register_prefix(context: &Context, args: &RegisterArgs, refused: &mut Refused) -> anyhow::Result<u64> {
    let (bucket, prefix) = (&args.store.s3_bucket, args.prefix.as_deref().unwrap_or_default());
    let rule = args.claim_pattern.clone().unwrap_or_default();
    let store = store::connect(&args.store)?;
    let progress = Progress::unknown("registering");
    let mut totals = Totals::default();
    let (mut found, mut skipped, mut unclaimed) = (0_u64, 0_u64, 0_u64);
    // Only one batch is held in memory, however large the bucket is.
    let mut batches = pin!(store.list(bucket, prefix).try_chunks(BATCH));
    while let Some(objects) = batches.try_next().await.map_err(|error| error.1)? {
        let mut images = Vec::with_capacity(objects.len());
        for object in objects {
            if media_type(&object.key).is_none() {
                skipped += 1;
                continue;
            }
            found += 1;
            let image = NewImage {
                bucket: bucket.clone(),
                claim_id: rule.claim_id(&object.key),
                key: object.key,
                etag: object.etag,
                size_bytes: object.size,
                label: None,
            };
            match image.check() {
                Ok(()) => images.push(image),
                Err(error) => {
                    refused.add(&format!("s3://{bucket}, key {:?}", image.key), &error.to_string(), &progress)?
                }
            }
        }
        unclaimed += images.iter().filter(|image| image.claim_id.is_none()).count() as u64;
        register(&context.api, &images, &mut totals, &progress).await?;
    }
    progress.finish();
    if found == 0 {
        bail!(Usage(format!(
            "s3://{bucket}/{prefix} has no images ({skipped} other objects): check --bucket and --prefix, or upload with perito images upload"
        )));
    }
    if unclaimed > 0 {
        eprintln!("{unclaimed} of {found} photographs belong to no claim by their keys");
    }
    let Totals { new, known, superseded } = totals;
    let document = json!({
        "bucket": bucket, "prefix": prefix, "images": found, "skipped": skipped, "refused": refused.count(),
        "new": new, "known": known, "superseded": superseded,
    });
    context.output.document(&document, || {
        format!("s3://{bucket}/{prefix}: {found} photographs, {skipped} other objects skipped; {}", told(totals))
    })?;
    Ok(found)
}
