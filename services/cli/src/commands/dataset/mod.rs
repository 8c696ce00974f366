//! `perito dataset`

mod from_labels;
mod kaggle;
mod synthesize;

use std::{
    path::{Path, PathBuf},
    pin::pin,
};

use anyhow::bail;
use clap::{Args, Subcommand};
use futures::TryStreamExt as _;
use perito_domain::{
    Severity,
    names::{DatasetRef, Name},
    spec::Split,
};
use perito_objects::ObjectSummary;
use perito_runtime::ObjectStoreArgs;
use serde_json::json;

use super::Context;
use crate::{
    api::{Item, NewImage},
    exit::Usage,
    folders::{labelled, tell_skipped},
    progress::Progress,
    registration::{Totals, register},
    report,
    store::{self, Upload},
};

/// Items in one request when a dataset is filled.
const ITEM_BATCH: usize = 10_000;

/// Labelled photographs to train and evaluate with.
#[derive(Debug, Subcommand)]
pub enum DatasetCommand {
    /// Uploads a folder of class folders and freezes it as a dataset
    Upload(Box<UploadArgs>),
    /// Freezes class folders that are in S3 already as a dataset
    Import(Box<ImportArgs>),
    /// Downloads a dataset from Kaggle, uploads its class folders and freezes them
    Kaggle(Box<kaggle::KaggleArgs>),
    /// Freezes adjusters' decisions as a dataset
    FromLabels(from_labels::FromLabelsArgs),
    /// Lists the frozen versions of datasets
    List,
    /// Shows a frozen version of a dataset
    Show(ShowArgs),
    /// Draws a synthetic set of damaged cars
    Synthesize(synthesize::SynthesizeArgs),
}

const UPLOAD_HELP: &str = "\
FOLDER looks like this (train, val and valid are understood too; class folders may begin with a number, in any case):
  training/01-minor/*.jpg    training/02-moderate/*.jpg    training/03-severe/*.jpg
  validation/01-minor/*.jpg  ...

Running it again sends only what has changed. The same content gives the same version; other content gives the next one.

With --json: {\"dataset\": the API's frozen dataset, \"files\", \"sent\", \"skipped\", \"new\", \"known\", \"superseded\"}

Example:
  perito dataset upload demo ./photographs";

/// Uploads a folder of class folders and freezes it as a dataset.
#[derive(Debug, Args)]
#[command(after_help = UPLOAD_HELP, mut_arg("s3_bucket", |bucket| bucket.visible_alias("bucket")))]
pub struct UploadArgs {
    /// The dataset's name; the content becomes its next version
    #[arg(value_name = "NAME")]
    name: Name,
    /// The folder
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// Uploads at once
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    concurrency: u16,
    #[command(flatten)]
    store: ObjectStoreArgs,
}

const IMPORT_HELP: &str = "\
The keys look like this: PREFIX/training/01-minor/a.jpg (see perito dataset upload --help).

With --json: {\"dataset\": the API's frozen dataset, \"files\", \"skipped\", \"new\", \"known\", \"superseded\"}

Example:
  perito dataset import demo --bucket photographs --prefix labelled/2026";

/// Freezes class folders that are in S3 already as a dataset.
#[derive(Debug, Args)]
#[command(after_help = IMPORT_HELP, mut_arg("s3_bucket", |bucket| bucket.visible_alias("bucket")))]
pub struct ImportArgs {
    /// The dataset's name; the content becomes its next version
    #[arg(value_name = "NAME")]
    name: Name,
    /// The folder in the bucket that holds training/ and validation/
    #[arg(long, value_name = "PREFIX")]
    prefix: String,
    #[command(flatten)]
    store: ObjectStoreArgs,
}

/// Which dataset to show.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// NAME for the newest version, or NAME@VERSION
    #[arg(value_name = "DATASET")]
    dataset: DatasetRef,
}

pub(super) async fn run(context: &Context, command: DatasetCommand) -> anyhow::Result<()> {
    let (api, output) = (&context.api, &context.output);
    match command {
        DatasetCommand::Upload(args) => {
            upload(context, &args.name, &args.folder, args.concurrency, &args.store, None).await
        }
        DatasetCommand::Import(args) => import(context, *args).await,
        DatasetCommand::Kaggle(args) => kaggle::run(context, *args).await,
        DatasetCommand::FromLabels(args) => from_labels::run(context, args).await,
        DatasetCommand::List => output.answer(&api.datasets().await?, |list| report::datasets(&list.datasets)),
        DatasetCommand::Show(args) => output.answer(&api.dataset(&args.dataset).await?, report::dataset),
        DatasetCommand::Synthesize(args) => synthesize::run(context, args).await,
    }
}

/// A labelled object in the store.
struct Labelled {
    object: ObjectSummary,
    split: Split,
    label: Severity,
}

/// Uploads the class folders of a folder and freezes them. `origin` says where the folder is from, if it is not the user's own.
async fn upload(
    context: &Context,
    name: &Name,
    folder: &Path,
    concurrency: u16,
    args: &ObjectStoreArgs,
    origin: Option<&str>,
) -> anyhow::Result<()> {
    let found = labelled::read(folder)?;
    tell_skipped(found.skipped.iter().map(|path| path.display()));
    let key = |file: &str| format!("datasets/{name}/{file}");
    let uploads: Vec<Upload> = found
        .photos
        .iter()
        .map(|photo| Upload { path: photo.file.path.clone(), key: key(&photo.file.name), bytes: photo.file.bytes })
        .collect();
    let bucket = &args.s3_bucket;
    let store = store::connect(args)?;
    let (objects, sent) = store::upload(&store, bucket, &uploads, concurrency.into()).await?;
    let labelled = objects
        .into_iter()
        .zip(&found.photos)
        .map(|(object, photo)| Labelled { object, split: photo.split, label: photo.label })
        .collect();
    let skipped = found.skipped.len();
    freeze(context, name, bucket, labelled, origin, json!({ "sent": sent, "skipped": skipped })).await
}

async fn import(context: &Context, args: ImportArgs) -> anyhow::Result<()> {
    let bucket = &args.store.s3_bucket;
    let prefix = match args.prefix.trim_matches('/') {
        "" => String::new(),
        folder => format!("{folder}/"),
    };
    let store = store::connect(&args.store)?;
    let (mut labelled, mut skipped) = (Vec::new(), Vec::new());
    let mut objects = pin!(store.list(bucket, &prefix));
    while let Some(object) = objects.try_next().await? {
        let below = object.key.strip_prefix(&prefix).unwrap_or(&object.key);
        match labelled::of_key(below)? {
            Some((split, label)) => labelled.push(Labelled { object, split, label }),
            None => skipped.push(object.key),
        }
    }
    tell_skipped(skipped.iter());
    if labelled.is_empty() {
        bail!(Usage(format!(
            "s3://{bucket}/{prefix} has no images in training/ or validation/: check --bucket and --prefix, or upload with perito dataset upload"
        )));
    }
    freeze(context, &args.name, bucket, labelled, None, json!({ "skipped": skipped.len() })).await
}

/// Registers labelled objects and freezes them as the next version of a dataset.
async fn freeze(
    context: &Context,
    name: &Name,
    bucket: &str,
    labelled: Vec<Labelled>,
    origin: Option<&str>,
    mut document: serde_json::Value,
) -> anyhow::Result<()> {
    let api = &context.api;
    let images: Vec<NewImage> = labelled
        .iter()
        .map(|Labelled { object, label, .. }| NewImage {
            bucket: bucket.to_owned(),
            key: object.key.clone(),
            etag: object.etag.clone(),
            size_bytes: object.size,
            claim_id: None,
            label: Some(*label),
        })
        .collect();
    let mut totals = Totals::default();
    let progress = Progress::with_count("registering", images.len() as u64);
    let ids = register(api, &images, &mut totals, &progress).await?;
    progress.finish();
    let items: Vec<Item> = ids
        .into_iter()
        .zip(&labelled)
        .map(|(image_id, labelled)| Item { image_id, split: labelled.split, label: labelled.label })
        .collect();
    let draft = api.create_dataset(name, origin).await?.value;
    for batch in items.chunks(ITEM_BATCH) {
        api.add_items(draft.id, batch).await?;
    }
    let frozen = api.freeze(draft.id).await?;
    document["dataset"] = serde_json::from_str(&frozen.text)?;
    document["files"] = images.len().into();
    for (field, count) in [("new", totals.new), ("known", totals.known), ("superseded", totals.superseded)] {
        document[field] = count.into();
    }
    context.output.document(&document, || report::frozen(&frozen.value))
}
