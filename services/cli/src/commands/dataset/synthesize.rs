//! `perito dataset synthesize`

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::json;

use crate::{
    commands::Context,
    exit::Usage,
    progress::Progress,
    synthetic::{Plan, Synthesis},
};

const HELP: &str = "\
Writes FOLDER/training and FOLDER/validation with class folders, and FOLDER/backlog with a folder for each claim of 1 to 6
photographs. The same seed draws the same files. Needs no server.

With --json: {\"folder\", \"files\", \"bytes\"}

Example:
  perito dataset synthesize ./photographs --training 600 --validation 150 --backlog-claims 60
  perito dataset upload demo ./photographs
  perito images upload ./photographs/backlog --prefix backlog";

/// Draws a synthetic set of damaged cars.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct SynthesizeArgs {
    /// Where to write it
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// Photographs to train with, a third of each class
    #[arg(long, value_name = "N", default_value_t = 600)]
    training: u32,
    /// Photographs to validate with, a third of each class
    #[arg(long, value_name = "N", default_value_t = 150)]
    validation: u32,
    /// Claims in the backlog
    #[arg(long, value_name = "N", default_value_t = 60, visible_alias = "claims")]
    backlog_claims: u32,
    /// Another seed draws other cars
    #[arg(long, value_name = "N", default_value_t = 42)]
    seed: u64,
}

/// The folders of a set, in the order in which they appear.
const PARTS: [&str; 3] = ["training", "validation", "backlog"];

pub(super) async fn run(context: &Context, args: SynthesizeArgs) -> anyhow::Result<()> {
    let plan =
        Plan { training: args.training, validation: args.validation, claims: args.backlog_claims, seed: args.seed };
    let folder = args.folder.clone();
    let (files, bytes) = tokio::task::spawn_blocking(move || write(&folder, &plan)).await.context("draw")??;
    let folder = args.folder.display().to_string();
    let document = json!({ "folder": folder, "files": files, "bytes": bytes });
    context.output.document(&document, || format!("drew {files} photographs in {folder}"))
}

/// Draws the set; how many files and bytes it has. It appears whole or not at all: it is drawn in a folder beside and then moved.
fn write(folder: &Path, plan: &Plan) -> anyhow::Result<(u64, u64)> {
    if let Some(taken) = PARTS.iter().map(|part| folder.join(part)).find(|path| path.exists()) {
        bail!(Usage(format!("{} exists already: remove it, or name another folder", taken.display())));
    }
    let synthesis = Synthesis::new(plan);
    if synthesis.is_empty() {
        bail!(Usage("nothing to draw: ask for some photographs or claims".to_owned()));
    }
    let draft = folder.join(".synthesis");
    if draft.exists() {
        fs::remove_dir_all(&draft)
            .with_context(|| format!("remove {}, left by a run that was stopped", draft.display()))?;
    }
    fs::create_dir_all(&draft).with_context(|| format!("make the folder {}", draft.display()))?;
    let bytes = std::sync::atomic::AtomicU64::new(0);
    let progress = Progress::with_count("drawing", synthesis.len() as u64);
    synthesis.write(&draft, |size| {
        bytes.fetch_add(size, std::sync::atomic::Ordering::Relaxed);
        progress.advance(1, 0);
    })?;
    progress.finish();
    for part in PARTS {
        let (from, to) = (draft.join(part), folder.join(part));
        if from.exists() {
            fs::rename(&from, &to).with_context(|| format!("move {} to {}", from.display(), to.display()))?;
        }
    }
    fs::remove_dir_all(&draft).with_context(|| format!("remove {}", draft.display()))?;
    Ok((synthesis.len() as u64, bytes.into_inner()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_was_drawn_can_be_uploaded_and_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        // As a run leaves it that was stopped.
        fs::create_dir_all(folder.path().join(".synthesis/training/old")).unwrap();
        let plan = Plan { training: 3, validation: 3, claims: 2, seed: 1 };
        let (files, bytes) = write(folder.path(), &plan).unwrap();
        assert!(files >= 8 && bytes > 0);
        let found = crate::folders::labelled::read(folder.path()).unwrap();
        assert_eq!((found.photos.len(), found.skipped.len()), (6, 0));
        assert!(!folder.path().join(".synthesis").exists());
        let refused = write(folder.path(), &plan).unwrap_err();
        assert!(refused.to_string().contains("exists already"), "{refused}");
        assert_eq!(crate::exit::code(&refused), 2);
    }
}
