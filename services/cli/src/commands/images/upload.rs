//! `perito images upload`

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use perito_domain::claims::ClaimRule;
use perito_runtime::ObjectStoreArgs;
use serde_json::json;

use super::told;
use crate::{
    api::NewImage,
    commands::Context,
    exit::Usage,
    folders::{search, tell_skipped},
    progress::Progress,
    registration::{Totals, register},
    store::{self, Upload},
};

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

pub(super) async fn run(context: &Context, args: UploadArgs) -> anyhow::Result<()> {
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
