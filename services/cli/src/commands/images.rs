//! `perito images`

use std::{path::PathBuf, pin::pin};

use anyhow::bail;
use clap::{Args, Subcommand};
use futures::TryStreamExt as _;
use perito_runtime::ObjectStoreArgs;
use serde_json::json;

use super::Context;
use crate::{
    api::types::NewImage,
    exit::Usage,
    folders::{claims::ClaimRule, media_type, search, tell_skipped},
    progress::Progress,
    registration::{BATCH, Totals, register},
    store::{self, Upload},
};

/// The catalogue of photographs.
#[derive(Debug, Subcommand)]
pub enum ImagesCommand {
    /// Uploads a folder of claims and registers its photographs
    Upload(Box<UploadArgs>),
    /// Registers photographs that are in S3 already
    Register(Box<RegisterArgs>),
}

const UPLOAD_HELP: &str = "\
FOLDER/CLAIM/PHOTO becomes the object PREFIX/CLAIM/PHOTO, registered for the claim. The claim's id is the name of the folder that holds
the photograph; photographs directly in FOLDER belong to no claim. What is in S3 already with the same content is not sent again.

With --json: {\"bucket\", \"prefix\", \"files\", \"sent\", \"skipped\", \"new\", \"known\", \"superseded\"}

Example:
  perito images upload ./claims --prefix backlog";

/// Uploads a folder of claims and registers its photographs.
#[derive(Debug, Args)]
#[command(after_help = UPLOAD_HELP, mut_arg("s3_bucket", |bucket| bucket.visible_alias("bucket")))]
pub struct UploadArgs {
    /// The folder
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// The start of the keys
    #[arg(long, value_name = "PREFIX")]
    prefix: String,
    /// Uploads at once
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    concurrency: u16,
    #[command(flatten)]
    store: ObjectStoreArgs,
}

const REGISTER_HELP: &str = "\
The claim's id is the name of the folder that holds the photograph, or what the one group of --claim-pattern captures in the key.
Registering again is safe: an object with another ETag is a new version and supersedes the old one.

With --json: {\"bucket\", \"prefix\", \"images\", \"skipped\", \"new\", \"known\", \"superseded\"}

Examples:
  perito images register --prefix backlog/
  perito images register --bucket claims --prefix 2026/ --claim-pattern '/(C[0-9]+)_'";

/// Registers photographs that are in S3 already.
#[derive(Debug, Args)]
#[command(after_help = REGISTER_HELP, mut_arg("s3_bucket", |bucket| bucket.visible_alias("bucket")))]
pub struct RegisterArgs {
    /// The start of the keys; empty for the whole bucket
    #[arg(long, value_name = "PREFIX")]
    prefix: String,
    /// A regular expression with one group around the claim's id
    #[arg(long, value_name = "REGEX")]
    claim_pattern: Option<ClaimRule>,
    #[command(flatten)]
    store: ObjectStoreArgs,
}

pub(super) async fn run(context: &Context, command: ImagesCommand) -> anyhow::Result<()> {
    match command {
        ImagesCommand::Upload(args) => upload(context, *args).await,
        ImagesCommand::Register(args) => register_prefix(context, *args).await,
    }
}

async fn upload(context: &Context, args: UploadArgs) -> anyhow::Result<()> {
    let folder = args.folder.display();
    if !args.folder.is_dir() {
        bail!(Usage(format!("{folder} is not a folder: name one that holds a folder for each claim")));
    }
    let found = search(&args.folder)?;
    tell_skipped(found.skipped.iter().map(|path| path.display()));
    if found.photos.is_empty() {
        bail!(Usage(format!("{folder} has no images: expected FOLDER/CLAIM/PHOTO.jpg (or jpeg, png, webp)")));
    }
    let prefix = args.prefix.trim_matches('/');
    let key = |name: &str| if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
    let uploads: Vec<Upload> = found
        .photos
        .iter()
        .map(|photo| Upload { path: photo.path.clone(), key: key(&photo.name), bytes: photo.bytes })
        .collect();
    let bucket = &args.store.s3_bucket;
    let store = store::connect(&args.store)?;
    let (objects, sent) = store::upload(&store, bucket, &uploads, args.concurrency.into()).await?;
    let images: Vec<NewImage> = objects
        .into_iter()
        .zip(&found.photos)
        .map(|(object, photo)| NewImage {
            bucket: bucket.clone(),
            key: object.key,
            etag: object.etag,
            size_bytes: object.size,
            claim_id: ClaimRule::ParentFolder.claim_id(&photo.name),
            label: None,
        })
        .collect();
    let mut totals = Totals::default();
    let progress = Progress::with_count("registering", images.len() as u64);
    register(&context.api, &images, &mut totals, &progress).await?;
    progress.finish();
    let Totals { new, known, superseded } = totals;
    let document = json!({
        "bucket": bucket, "prefix": prefix, "files": uploads.len(), "sent": sent, "skipped": found.skipped.len(),
        "new": new, "known": known, "superseded": superseded,
    });
    context.output.document(&document, || {
        format!("s3://{bucket}/{prefix}: {} photographs, {sent} sent; {}", uploads.len(), told(totals))
    })
}

async fn register_prefix(context: &Context, args: RegisterArgs) -> anyhow::Result<()> {
    let (bucket, prefix) = (&args.store.s3_bucket, &args.prefix);
    let rule = args.claim_pattern.unwrap_or(ClaimRule::ParentFolder);
    let store = store::connect(&args.store)?;
    let progress = Progress::unknown("registering");
    let mut totals = Totals::default();
    let (mut images, mut skipped, mut unclaimed) = (0_u64, 0_u64, 0_u64);
    // Only one batch is held in memory, however large the bucket is.
    let mut batches = pin!(store.list(bucket, prefix).try_chunks(BATCH));
    while let Some(objects) = batches.try_next().await.map_err(|error| error.1)? {
        let listed = objects.len() as u64;
        let batch: Vec<NewImage> = objects
            .into_iter()
            .filter(|object| media_type(&object.key).is_some())
            .map(|object| NewImage {
                bucket: bucket.clone(),
                claim_id: rule.claim_id(&object.key),
                key: object.key,
                etag: object.etag,
                size_bytes: object.size,
                label: None,
            })
            .collect();
        skipped += listed - batch.len() as u64;
        images += batch.len() as u64;
        unclaimed += batch.iter().filter(|image| image.claim_id.is_none()).count() as u64;
        register(&context.api, &batch, &mut totals, &progress).await?;
    }
    progress.finish();
    if images == 0 {
        bail!(Usage(format!(
            "s3://{bucket}/{prefix} has no images ({skipped} other objects): check --bucket and --prefix, or upload with perito images upload"
        )));
    }
    if unclaimed > 0 {
        eprintln!("{unclaimed} of {images} photographs belong to no claim by their keys");
    }
    let Totals { new, known, superseded } = totals;
    let document = json!({
        "bucket": bucket, "prefix": prefix, "images": images, "skipped": skipped,
        "new": new, "known": known, "superseded": superseded,
    });
    context.output.document(&document, || {
        format!("s3://{bucket}/{prefix}: {images} photographs, {skipped} other objects skipped; {}", told(totals))
    })
}

fn told(Totals { new, known, superseded }: Totals) -> String {
    format!("registered {new} new, {known} known, {superseded} superseded")
}
