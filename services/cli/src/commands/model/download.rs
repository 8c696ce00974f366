//! `perito model download`

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use clap::Args;
use perito_domain::{artifact::ArtifactDescription, limits::MAX_ARTIFACT_BYTES, names::ModelRef};
use perito_runtime::ObjectStoreArgs;
use sha2::{Digest as _, Sha256};

use crate::{api::Model, commands::Context, exit::Usage, store, weights};

/// Which model to write where.
#[derive(Debug, Args)]
#[command(
    after_help = "The file is checked against the registry's SHA-256. It says what it is (network, input, classes): an imported one that does not gets a\nnote of it, and its SHA-256 is another then.\n\nExamples:\n  perito model download severity@production severity.safetensors\n  perito-worker predict --model severity.safetensors claims/"
)]
pub struct DownloadArgs {
    /// NAME for the newest version, NAME@VERSION or NAME@ALIAS
    #[arg(value_name = "MODEL")]
    model: ModelRef,
    /// Where to write the safetensors file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Replace a file that is there
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    store: ObjectStoreArgs,
}

pub(super) async fn run(context: &Context, args: DownloadArgs) -> anyhow::Result<()> {
    let path = &args.file;
    if path.exists() && !args.force {
        bail!(Usage(format!("{} is there already: choose another name, or add --force", path.display())));
    }
    let model = context.api.model(&args.model).await?;
    let Model { reference, artifact, .. } = &model.value;
    let store = store::connect(&args.store)?;
    let bytes = store
        .get(&artifact.bucket, &artifact.key, None, MAX_ARTIFACT_BYTES)
        .await
        .with_context(|| format!("get the weights of {reference}"))?;
    let digest = hex::encode(Sha256::digest(&bytes));
    if digest != artifact.sha256 {
        bail!(
            "the weights of {reference} have the SHA-256 {digest}, registered was {}: s3://{}/{} was altered",
            artifact.sha256,
            artifact.bucket,
            artifact.key
        );
    }
    let description = ArtifactDescription {
        architecture: model.value.architecture,
        class_names: model.value.class_names.clone(),
        preprocessing: model.value.preprocessing.clone(),
    };
    let bytes =
        weights::described(bytes.into(), &description).with_context(|| format!("read the weights of {reference}"))?;
    write(path, &bytes).with_context(|| format!("write {}", path.display()))?;
    context.output.answer(&model, |_| format!("{reference} is in {} ({} bytes)", path.display(), bytes.len()))
}

/// Writes a file, whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}
