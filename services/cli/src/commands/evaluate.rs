//! `perito evaluate`

use clap::Args;
use perito_domain::{
    names::{DatasetRef, ModelRef},
    spec::Split,
};

use super::{
    Context,
    submit::{SubmitArgs, submit},
};
use crate::specification::Specification;

/// Measures a model on one split of a labelled dataset: accuracy, precision, recall, F1, confusion matrix.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  perito evaluate severity@production --dataset demo --watch\n  perito evaluate severity@3 --dataset demo@2 --split training"
)]
pub struct EvaluateArgs {
    /// The model: NAME, NAME@VERSION or NAME@ALIAS
    #[arg(value_name = "MODEL")]
    model: ModelRef,
    /// The dataset: NAME or NAME@VERSION
    #[arg(long, value_name = "REF")]
    dataset: DatasetRef,
    /// The split: training or validation [default: validation]
    #[arg(long)]
    split: Option<Split>,
    #[command(flatten)]
    submission: SubmitArgs,
}

pub(super) async fn run(context: &Context, args: EvaluateArgs) -> anyhow::Result<()> {
    let (spec, submission) = specification(args)?;
    submit(context, spec, submission).await
}

pub(super) fn specification(args: EvaluateArgs) -> anyhow::Result<(Specification, SubmitArgs)> {
    let mut spec = Specification::new("evaluate");
    spec.set("model", args.model.to_string())?;
    spec.set("dataset", args.dataset.to_string())?;
    spec.set_some("split", args.split.map(Split::as_str))?;
    Ok((spec, args.submission))
}
