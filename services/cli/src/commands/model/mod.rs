//! `perito model`

mod card;
mod compare;
mod delete;
mod download;
mod measure;
mod promote;

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use clap::{Args, Subcommand};
use perito_domain::{
    Severity,
    names::{ModelRef, Name},
    preprocessing::{self, Preprocessing},
    spec::Architecture,
};
use perito_runtime::ObjectStoreArgs;
use sha2::{Digest as _, Sha256};

use super::{Context, job::measured};
use crate::{
    api::{Artifact, ImportModel},
    exit::Usage,
    report, store, weights,
};

/// The model registry.
#[derive(Debug, Subcommand)]
pub enum ModelCommand {
    /// Lists the versions of models
    List(ListArgs),
    /// Shows one version of a model, and its metrics if it was trained here
    Show(ShowArgs),
    /// Registers weights from a file
    Import(Box<ImportArgs>),
    /// Writes a version's weights to a file, which can grade photographs without any server
    Download(download::DownloadArgs),
    /// Points an alias to a version, if it does as well as the present one
    Promote(promote::PromoteArgs),
    /// Points an alias back to the version before the last promotion
    Rollback(promote::RollbackArgs),
    /// Shows where a model's aliases have pointed, and who moved them when and why
    History(promote::HistoryArgs),
    /// Compares two versions on the same images
    Compare(compare::CompareArgs),
    /// Writes a version's model card
    Card(card::CardArgs),
    /// Deletes a version that nothing uses
    Delete(Box<delete::DeleteArgs>),
}

/// Which models to list.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only versions of this model
    #[arg(value_name = "NAME")]
    name: Option<Name>,
}

/// Which model to show.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// NAME for the newest version, NAME@VERSION or NAME@ALIAS
    #[arg(value_name = "MODEL")]
    model: ModelRef,
}

const IMPORT_HELP: &str = "\
The file has torchvision's parameter names: a state_dict that torch.save wrote (.pth or .pt, since PyTorch 1.6), or safetensors. Of a
file of torch.save only tensors are read and nothing is run: one that holds anything else is refused. It is stored as safetensors.

A head of another size, such as ImageNet's 1,000 classes, is allowed, and so is a file that lacks the parameters of --allow-missing:
such a model can start a training (perito train --weights), which draws the head or what is missing at random from its seed, but cannot
score.

Examples:
  perito model import --name resnet18-imagenet --arch resnet18 --weights resnet18-f37072fd.pth
  perito model import --name severity --arch cnn4 --image-size 96 --weights best.safetensors
  perito model import --name trunk --arch resnet18 --weights trunk.pth --allow-missing 'layer4.*.conv1.weight,layer4.*.conv2.weight'";

/// Registers weights from a file as the next version of a model.
#[derive(Debug, Args)]
#[command(after_help = IMPORT_HELP)]
pub struct ImportArgs {
    /// The model's name
    #[arg(long)]
    name: Name,
    /// The network: cnn4 or resnet18
    #[arg(long, value_name = "NETWORK")]
    arch: Architecture,
    /// The weights: .pth, .pt or .safetensors
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,
    /// Parameters that the file lacks, separated by commas; * stands for one part of a name, between dots
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    allow_missing: Vec<String>,
    /// Side of the square input that the weights were trained with, in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 224, value_parser = clap::value_parser!(u32).range(32..=1024))]
    image_size: u32,
    /// The version of the preprocessing contract: 1 decodes photographs exactly, 2 and 3 large JPEGs at a reduced scale, 3 several
    /// times as fast
    #[arg(long, value_name = "VERSION", default_value_t = preprocessing::NEWEST, value_parser = clap::value_parser!(u32).range(1..=i64::from(preprocessing::NEWEST)))]
    preprocessing: u32,
    #[command(flatten)]
    store: ObjectStoreArgs,
}

pub(super) async fn run(context: &Context, command: ModelCommand) -> anyhow::Result<()> {
    let (api, output) = (&context.api, &context.output);
    match command {
        ModelCommand::List(args) => {
            let models = api.models(args.name.as_ref()).await?;
            output.answer(&models, |list| report::models(&list.models, output.colour))
        }
        ModelCommand::Show(args) => {
            let model = api.model(&args.model).await?;
            let evaluation = match model.value.job_id {
                Some(job) if !output.is_json() => measured(context, job).await?,
                _ => None,
            };
            output.answer(&model, |model| report::model(model, evaluation.as_ref(), output.colour))
        }
        ModelCommand::Import(args) => import(context, *args).await,
        ModelCommand::Download(args) => download::run(context, args).await,
        ModelCommand::Promote(args) => promote::promote(context, args).await,
        ModelCommand::Rollback(args) => promote::roll_back(context, args).await,
        ModelCommand::History(args) => promote::history(context, args).await,
        ModelCommand::Compare(args) => compare::run(context, args).await,
        ModelCommand::Card(args) => card::run(context, args).await,
        ModelCommand::Delete(args) => delete::run(context, *args).await,
    }
}

async fn import(context: &Context, args: ImportArgs) -> anyhow::Result<()> {
    let path = &args.weights;
    let file_name = path.file_name().context("name a file")?.to_string_lossy().into_owned();
    // In place: nothing else goes on, and reading a file of torch.save is work for the processor.
    let weights = match weights::load(path, args.arch, args.image_size, &args.allow_missing) {
        Ok(weights) => weights,
        Err(error) => bail!(Usage(format!("{}: {error}", path.display()))),
    };
    // Without classes a model cannot score: the registry asks no more.
    let class_names = match weights.why_not_scoring() {
        None => Severity::ALL.map(|class| class.to_string()).to_vec(),
        Some(why) => {
            eprintln!("{why}: this model can start a training, but cannot score");
            Vec::new()
        }
    };
    let bytes = Bytes::from(weights.bytes);
    let sha256 = hex::encode(Sha256::digest(&bytes));
    let artifact = Artifact {
        bucket: args.store.s3_bucket.clone(),
        // The same file is the same object, however often it is imported.
        key: format!("models/imported/{sha256}/model.safetensors"),
        bytes: bytes.len() as u64,
        sha256,
    };
    let store = store::connect(&args.store)?;
    store.ensure_bucket(&artifact.bucket).await?;
    store.put(&artifact.bucket, &artifact.key, bytes, "application/octet-stream").await?;
    let model = ImportModel {
        name: args.name,
        architecture: args.arch,
        class_names,
        preprocessing: Preprocessing { version: args.preprocessing, ..Preprocessing::imagenet(args.image_size) },
        artifact,
        source: file_name,
    };
    let output = &context.output;
    output.answer(&context.api.import_model(&model).await?, |model| report::model(model, None, output.colour))
}
