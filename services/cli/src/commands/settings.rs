//! `perito settings`

use clap::{Args, Subcommand};

use super::Context;
use crate::report;

/// What may be changed while everything runs.
#[derive(Debug, Subcommand)]
pub enum SettingsCommand {
    /// Shows the settings
    Show,
    /// Changes settings
    Set(SetArgs),
}

const SET_HELP: &str = "\
A claim is graded as the worst of its photographs whose confidence is at or above --claim-confidence; when there is none, as the class with
the highest mean probability over its photographs. analytics.claim_severity shows the new grades at once; to try a threshold without
changing it: select * from analytics.claim_severity_at(0.8)

Example:
  perito settings set --claim-confidence 0.6";

/// Settings to change.
#[derive(Debug, Args)]
#[command(after_help = SET_HELP)]
pub struct SetArgs {
    /// The confidence, 0 to 1, from which a single photograph decides about its claim
    #[arg(long, value_name = "CONFIDENCE", value_parser = share)]
    claim_confidence: f64,
}

pub(super) async fn run(context: &Context, command: SettingsCommand) -> anyhow::Result<()> {
    let settings = match command {
        SettingsCommand::Show => context.api.settings().await?,
        SettingsCommand::Set(args) => context.api.set_claim_confidence(args.claim_confidence).await?,
    };
    context.output.answer(&settings, report::settings)
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("expected a number from 0 to 1".to_owned()),
    }
}
