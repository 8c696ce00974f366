//! `perito model compare`

use clap::Args;
use perito_domain::{
    names::{DatasetRef, ModelRef},
    spec::Split,
};

use super::measure::ensure_measured;
use crate::{
    commands::{Context, signature::PersonArgs},
    report,
};

const COMPARE_HELP: &str = "\
Counts the images that one version got right and the other wrong, and says by McNemar's test whether the difference is more than chance: exactly
below 25 such images, by the chi-square distribution with continuity correction from there on. The comparison is stored: analysts find it in
analytics.model_comparisons.

Example:
  perito model compare severity@production severity@4 --dataset demo@2 --evaluate";

/// Which versions to compare, and where.
#[derive(Debug, Args)]
#[command(after_help = COMPARE_HELP)]
pub struct CompareArgs {
    /// The champion: NAME, NAME@VERSION or NAME@ALIAS
    #[arg(value_name = "CHAMPION")]
    champion: ModelRef,
    /// The challenger
    #[arg(value_name = "CHALLENGER")]
    challenger: ModelRef,
    /// The dataset: NAME or NAME@VERSION
    #[arg(long, value_name = "REF")]
    dataset: DatasetRef,
    /// The split: training or validation [default: validation]
    #[arg(long)]
    split: Option<Split>,
    /// Measures what has not been measured on the dataset first
    #[arg(long)]
    evaluate: bool,
    #[command(flatten)]
    person: PersonArgs,
}

pub(super) async fn run(context: &Context, args: CompareArgs) -> anyhow::Result<()> {
    let api = &context.api;
    let by = args.person.person()?;
    if args.evaluate {
        let (champion, challenger) = (api.model(&args.champion).await?.value, api.model(&args.challenger).await?.value);
        ensure_measured(context, &[&champion.reference, &challenger.reference], &args.dataset, args.split).await?;
    }
    let comparison = api.compare(&args.champion, &args.challenger, &args.dataset, args.split, by.as_ref()).await?;
    context.output.answer(&comparison, report::comparison)
}
