//! `perito images`

mod backlog;
mod register;
mod upload;

use clap::Subcommand;

use super::Context;
use crate::registration::Totals;

/// The catalogue of photographs.
#[derive(Debug, Subcommand)]
pub enum ImagesCommand {
    /// Uploads a folder of claims and registers its photographs
    Upload(Box<upload::UploadArgs>),
    /// Registers photographs that are in S3 already: by prefix, or by a manifest
    Register(Box<register::RegisterArgs>),
    /// Shows what waits to be scored
    Backlog,
}

pub(super) async fn run(context: &Context, command: ImagesCommand) -> anyhow::Result<()> {
    match command {
        ImagesCommand::Upload(args) => upload::run(context, *args).await,
        ImagesCommand::Register(args) => register::run(context, *args).await,
        ImagesCommand::Backlog => backlog::run(context).await,
    }
}

fn told(Totals { new, known, superseded }: Totals) -> String {
    format!("registered {new} new, {known} known, {superseded} superseded")
}
