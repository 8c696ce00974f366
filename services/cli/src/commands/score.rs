//! `perito score`

use clap::{ArgGroup, Args};
use perito_domain::{
    names::{DatasetRef, ModelRef},
    spec::Split,
};

use super::{
    Context,
    submit::{SubmitArgs, submit},
};
use crate::specification::Specification;

const EXAMPLES: &str = "\
Which photographs, frozen when the job is planned:
  --backlog    all in the catalogue without a label that this model version has not dealt with (--bucket and --prefix narrow it)
  --prefix P   all in the catalogue whose key in the bucket begins so, scored before or not
  --dataset D  those of a dataset

Examples:
  perito score severity@production --backlog --watch
  perito score severity@production --backlog --idempotency-key nightly-$(date +%F)
  perito score severity@3 --prefix backlog/2026/ --shard-size 1000
  perito score severity --dataset demo --split validation";

/// Scores photographs with a model.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, group(ArgGroup::new("selection").required(true).multiple(true).args(["prefix", "dataset", "backlog"])))]
pub struct ScoreArgs {
    /// The model: NAME, NAME@VERSION or NAME@ALIAS; an alias is resolved when the job is planned
    #[arg(value_name = "MODEL")]
    model: ModelRef,
    /// Everything that this model version has not dealt with yet
    #[arg(long)]
    backlog: bool,
    /// The start of the keys
    #[arg(long, value_name = "PREFIX", conflicts_with = "dataset")]
    prefix: Option<String>,
    /// The bucket [default for --prefix: PERITO_S3_BUCKET or perito]
    #[arg(long, value_name = "BUCKET", conflicts_with = "dataset")]
    bucket: Option<String>,
    /// The dataset: NAME or NAME@VERSION
    #[arg(long, value_name = "REF", conflicts_with = "backlog")]
    dataset: Option<DatasetRef>,
    /// One split of the dataset: training or validation
    #[arg(long, requires = "dataset", conflicts_with = "backlog")]
    split: Option<Split>,
    /// Images in one task, 1 to 10,000 [default: 500]
    #[arg(long, value_name = "N")]
    shard_size: Option<u32>,
    /// The share of the images, 0 to 1, that may fail before the job is failed [default: 0.05]
    #[arg(long, value_name = "SHARE")]
    failure_budget: Option<f64>,
    /// The most tasks that workers have at once, dispatched or running [default: no limit]
    #[arg(long, value_name = "N")]
    concurrency: Option<u32>,
    #[arg(long = "s3-bucket", env = "PERITO_S3_BUCKET", default_value = "perito", hide = true)]
    default_bucket: String,
    #[command(flatten)]
    submission: SubmitArgs,
}

pub(super) async fn run(context: &Context, args: ScoreArgs) -> anyhow::Result<()> {
    let (spec, submission) = specification(args)?;
    submit(context, spec, submission).await
}

pub(super) fn specification(args: ScoreArgs) -> anyhow::Result<(Specification, SubmitArgs)> {
    let mut spec = Specification::new("score");
    spec.set("model", args.model.to_string())?;
    if let Some(dataset) = args.dataset {
        spec.set("selection.by", "dataset")?;
        spec.set("selection.dataset", dataset.to_string())?;
        spec.set_some("selection.split", args.split.map(Split::as_str))?;
    } else if args.backlog {
        spec.set("selection.by", "backlog")?;
        spec.set_some("selection.bucket", args.bucket)?;
        spec.set_some("selection.prefix", args.prefix)?;
    } else {
        spec.set("selection.by", "prefix")?;
        spec.set("selection.bucket", args.bucket.unwrap_or(args.default_bucket))?;
        spec.set_some("selection.prefix", args.prefix)?;
    }
    spec.set_some("shard_size", args.shard_size)?;
    spec.set_some("failure_budget", args.failure_budget)?;
    spec.set_some("concurrency", args.concurrency)?;
    Ok((spec, args.submission))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::Parser as _;
    use serde_json::{Value, json};

    use super::*;
    use crate::arguments::{Cli, Command};

    fn spec(options: &[&str]) -> anyhow::Result<Value> {
        let cli = Cli::try_parse_from([&["perito", "score", "severity@production"], options].concat())?;
        let Command::Score(args) = cli.command else { panic!("not score") };
        Ok(specification(args)?.0.checked()?)
    }

    #[test]
    fn selections_become_what_the_api_expects() {
        for (options, selection) in [
            (&["--backlog"][..], json!({"by": "backlog"})),
            (&["--backlog", "--bucket=b", "--prefix=p/"], json!({"by": "backlog", "bucket": "b", "prefix": "p/"})),
            (&["--prefix=p/", "--bucket=b"], json!({"by": "prefix", "bucket": "b", "prefix": "p/"})),
            (&["--prefix=p/", "--s3-bucket=e"], json!({"by": "prefix", "bucket": "e", "prefix": "p/"})),
            (&["--dataset=d@1", "--split=training"], json!({"by": "dataset", "dataset": "d@1", "split": "training"})),
        ] {
            let sent = spec(options).unwrap();
            assert_eq!(sent["selection"], selection, "{options:?}");
            assert_eq!(sent["model"], "severity@production");
        }
        let sent = spec(&["--backlog", "--shard-size=50", "--failure-budget=0.5", "--concurrency=4"]).unwrap();
        assert_eq!((&sent["shard_size"], &sent["failure_budget"]), (&json!(50), &json!(0.5)));
        assert_eq!(sent["concurrency"], 4);
    }

    #[test]
    fn selections_that_make_no_sense_are_refused() {
        for wrong in [
            &[][..],
            &["--bucket=b"],
            &["--backlog", "--dataset=d"],
            &["--prefix=p", "--dataset=d"],
            &["--backlog", "--split=training"],
            &["--backlog", "--shard-size=0"],
            &["--backlog", "--failure-budget=1.5"],
            &["--backlog", "--concurrency=0"],
        ] {
            assert!(spec(wrong).is_err(), "{wrong:?}");
        }
    }
}
