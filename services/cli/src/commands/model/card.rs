//! `perito model card`

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use perito_domain::names::ModelRef;
use serde_json::json;

use crate::{commands::Context, report};

const CARD_HELP: &str = "\
A page of Markdown made of what is stored: what the model is for and where its limits are, lineage, recipe, preprocessing, metrics with
their intervals, comparisons, and who promoted it.

With --json: {\"model\", \"markdown\"}

Examples:
  perito model card severity@production
  perito model card severity@4 --output severity-4.md";

/// Which version's card to write.
#[derive(Debug, Args)]
#[command(after_help = CARD_HELP)]
pub struct CardArgs {
    /// NAME for the newest version, NAME@VERSION or NAME@ALIAS
    #[arg(value_name = "MODEL")]
    model: ModelRef,
    /// A file instead of standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) async fn run(context: &Context, args: CardArgs) -> anyhow::Result<()> {
    let api = &context.api;
    let model = api.model(&args.model).await?.value;
    let dataset = match &model.dataset {
        Some(reference) => Some(api.dataset(&reference.parse()?).await?.value),
        None => None,
    };
    let mut comparisons = api.comparisons(&model.name).await?.value.comparisons;
    comparisons
        .retain(|comparison| [&comparison.champion.model, &comparison.challenger.model].contains(&&model.reference));
    let mut moves = api.history(&model.name.parse()?, None).await?.value.moves;
    moves.retain(|step| step.to_version == model.version || step.from_version == Some(model.version));
    let measurements = api.measurements(&model.reference).await?.value.measurements;
    let card = report::Card {
        model: &model,
        dataset: dataset.as_ref(),
        measurements: &measurements,
        comparisons: &comparisons,
        moves: &moves,
    };
    let markdown = card.markdown();
    let Some(path) = args.output else {
        return context
            .output
            .document(&json!({ "model": model.reference, "markdown": markdown }), || markdown.clone());
    };
    tokio::fs::write(&path, &markdown).await.with_context(|| format!("write {}", path.display()))?;
    eprintln!("wrote {}", path.display());
    Ok(())
}
