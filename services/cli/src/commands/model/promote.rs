//! `perito model promote`, `rollback` and `history`

use anyhow::Context as _;
use clap::Args;
use perito_domain::{
    names::{DatasetRef, ModelRef, ModelSelector, Name},
    spec::Split,
};

use super::measure::ensure_measured;
use crate::{
    api::{ApiError, Gate},
    commands::{Context, signature::SignatureArgs},
    exit::Usage,
    report,
};

const PROMOTE_HELP: &str = "\
When another version holds the alias, the two are compared on one split of a dataset, and the alias stays where it is when the new version's
macro F1 is below the holder's by more than --margin. Both need a measurement there: perito evaluate makes it, and so does --evaluate. The first
holder of an alias is compared with nobody.

--force moves the alias whatever the comparison says; it needs a --reason. Every move is recorded (perito model history). Jobs that were planned
before keep the version that they were planned with.

Examples:
  perito model promote severity --alias production
  perito model promote severity@4 --alias production --dataset demo@2 --margin 0.005 --evaluate
  perito model promote severity@3 --alias production --force --reason 'version 4 grades trucks as minor'";

/// Which alias to point where, and what has to hold.
#[derive(Debug, Args)]
#[command(after_help = PROMOTE_HELP)]
pub struct PromoteArgs {
    /// NAME@VERSION; NAME for the newest version, or NAME@ALIAS for what another alias points to
    #[arg(value_name = "MODEL")]
    model: ModelRef,
    /// The alias, such as production
    #[arg(long)]
    alias: Name,
    /// Where it is compared with the present holder [default: the dataset that it was trained on]
    #[arg(long, value_name = "REF")]
    dataset: Option<DatasetRef>,
    /// The split: training or validation [default: validation]
    #[arg(long)]
    split: Option<Split>,
    /// How far below the holder's the macro F1 may be, 0 to 1 [default: 0.01]
    #[arg(long, value_name = "DIFFERENCE", value_parser = margin)]
    margin: Option<f64>,
    /// Measures what has not been measured on the dataset first
    #[arg(long)]
    evaluate: bool,
    /// Moves the alias whatever the comparison says
    #[arg(long, requires = "reason", conflicts_with = "evaluate")]
    force: bool,
    #[command(flatten)]
    signature: SignatureArgs,
}

/// Which alias to roll back.
#[derive(Debug, Args)]
#[command(
    after_help = "The former holder is the version before the last promotion that has not been rolled back: once more goes one promotion further back.\nNothing is compared; the step is recorded.\n\nExample:\n  perito model rollback severity --alias production --reason 'grades trucks as minor'"
)]
pub struct RollbackArgs {
    /// The model's name
    #[arg(value_name = "NAME")]
    name: Name,
    /// The alias, such as production
    #[arg(long)]
    alias: Name,
    #[command(flatten)]
    signature: SignatureArgs,
}

/// Whose history to show.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  perito model history severity --alias production")]
pub struct HistoryArgs {
    /// The model's name
    #[arg(value_name = "NAME")]
    name: Name,
    /// Only this alias
    #[arg(long)]
    alias: Option<Name>,
}

pub(super) async fn promote(context: &Context, args: PromoteArgs) -> anyhow::Result<()> {
    let api = &context.api;
    let signature = args.signature.signature()?;
    let model = api.model(&args.model).await?.value;
    if args.evaluate {
        let holder = holder(context, &model.name, &args.alias).await?;
        if let Some(holder) = holder.filter(|holder| *holder != model.reference) {
            let dataset = match (&args.dataset, &model.dataset) {
                (Some(dataset), _) => dataset.clone(),
                (None, Some(trained_on)) => trained_on.parse()?,
                (None, None) => {
                    return Err(Usage(format!(
                        "{} was trained on no dataset: name one with --dataset",
                        model.reference
                    ))
                    .into());
                }
            };
            ensure_measured(context, &[&model.reference, &holder], &dataset, args.split).await?;
        }
    }
    let gate = Gate { dataset: args.dataset, split: args.split, margin: args.margin, force: args.force };
    let promoted = api.promote(&model.name, model.version, &args.alias, &gate, &signature).await?;
    context.output.answer(&promoted, |model| format!("{} is {} now", model.reference, args.alias))
}

pub(super) async fn roll_back(context: &Context, args: RollbackArgs) -> anyhow::Result<()> {
    let signature = args.signature.signature()?;
    let reference = ModelRef { name: args.name.clone(), selector: ModelSelector::Alias(args.alias.clone()) };
    let holder = context.api.model(&reference).await?.value;
    let model = context.api.roll_back(&args.name, &args.alias, holder.version, &signature).await?;
    context.output.answer(&model, |model| {
        format!("{} is {} again, in place of {}", model.reference, args.alias, holder.reference)
    })
}

pub(super) async fn history(context: &Context, args: HistoryArgs) -> anyhow::Result<()> {
    let history = context.api.history(&args.name, args.alias.as_ref()).await?;
    context.output.answer(&history, |history| report::history(args.name.as_str(), &history.moves))
}

/// The version that an alias points to, if there is one.
async fn holder(context: &Context, name: &str, alias: &Name) -> anyhow::Result<Option<String>> {
    let reference = format!("{name}@{alias}").parse().context("name the alias's present holder")?;
    match context.api.model(&reference).await {
        Ok(model) => Ok(Some(model.value.reference)),
        Err(ApiError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn margin(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(margin) if (0.0..=1.0).contains(&margin) => Ok(margin),
        _ => Err("write a number from 0 to 1, such as 0.01".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use crate::arguments::Cli;

    #[test]
    fn forcing_takes_a_reason() {
        let parse = |options: &[&str]| {
            Cli::try_parse_from(
                [&["perito", "model", "promote", "severity@3", "--alias", "production"], options].concat(),
            )
        };
        for good in [
            &[][..],
            &["--dataset=demo@2", "--margin=0.02", "--evaluate"],
            &["--force", "--reason=version 4 fails"],
            &["--force", "--reason=x", "--dataset=demo", "--by=ana"],
        ] {
            assert!(parse(good).is_ok(), "{good:?}");
        }
        for bad in [
            &["--force"][..],
            &["--force", "--reason="],
            &["--force", "--reason=x", "--evaluate"],
            &["--margin=-0.1"],
            &["--margin=NaN"],
            &["--by= ana"],
            &["--split=test"],
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
