//! `perito man`

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, CommandFactory as _};
use serde_json::json;

use super::Context;
use crate::arguments::Cli;

const EXAMPLES: &str = "\
Examples:
  perito man ~/.local/share/man/man1 && man perito-score";

/// Writes a manual page for this program and for each of its commands.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ManArgs {
    /// The folder for the pages; it is made if need be
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

pub(super) fn run(context: &Context, args: &ManArgs) -> anyhow::Result<()> {
    let folder = &args.folder;
    std::fs::create_dir_all(folder).with_context(|| format!("make the folder {}", folder.display()))?;
    clap_mangen::generate_to(Cli::command(), folder)
        .with_context(|| format!("write manual pages to {}", folder.display()))?;
    context.output.document(&json!({ "folder": folder }), || format!("Manual pages are in {}", folder.display()))
}
