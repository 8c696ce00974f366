//! `perito train`

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use perito_domain::{
    names::{DatasetRef, ModelRef, Name},
    spec::{Architecture, Stage},
};
use serde_json::Value;

use super::{
    Context,
    submit::{SubmitArgs, submit},
};
use crate::{
    exit::Usage,
    specification::{Specification, assignment},
};

const EXAMPLES: &str = "\
What is left out comes from the architecture's preset. Precedence: --set, then options, then --spec, then the preset.

Examples:
  perito train --model severity --dataset demo --arch cnn4 --watch
  perito train --model severity --dataset demo@2 --arch resnet18 --weights resnet18-imagenet --freeze layer2
  perito train --model severity --dataset demo --arch cnn4 --epochs 20 \\
      --set optimizer.weight_decay=0.0001 --set 'schedule={\"name\":\"cosine\",\"warmup_epochs\":2}'
  perito train --spec recipe.json --set seed=7

Fields of a specification: model, dataset, architecture, weights, image_size, dropout, freeze, epochs, batch_size, seed,
  optimizer.{name: sgd|adam|adamw, learning_rate, momentum, nesterov, betas, epsilon, weight_decay},
  schedule.{name: constant|step|cosine, epochs, gamma, warmup_epochs, minimum},
  augment.{horizontal_flip, rotation_degrees, brightness, contrast, saturation, perspective.{distortion, probability}}";

/// Trains a model on a dataset's training split and registers the epoch with the best macro F1 on its validation split.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct TrainArgs {
    /// The name under which the model is registered, as its next version
    #[arg(long, value_name = "NAME", required_unless_present = "spec")]
    model: Option<Name>,
    /// The dataset: NAME for its newest version, or NAME@VERSION
    #[arg(long, value_name = "REF", required_unless_present = "spec")]
    dataset: Option<DatasetRef>,
    /// The network: cnn4 or resnet18
    #[arg(long, value_name = "NETWORK", required_unless_present = "spec")]
    arch: Option<Architecture>,
    /// Passes over the training split
    #[arg(long, value_name = "N")]
    epochs: Option<u32>,
    /// Images in one optimiser step
    #[arg(long, value_name = "N")]
    batch_size: Option<u32>,
    /// Side of the square input, in pixels
    #[arg(long, value_name = "PIXELS")]
    image_size: Option<u32>,
    /// The optimiser's step size
    #[arg(long, value_name = "X")]
    learning_rate: Option<f64>,
    /// The last stage that is not trained: stem, layer1 to layer4, or none
    #[arg(long, value_name = "STAGE", value_parser = freeze)]
    freeze: Option<Freeze>,
    /// A registered model whose weights training starts from
    #[arg(long, value_name = "REF")]
    weights: Option<ModelRef>,
    /// Seed of everything random
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// A file with a specification in JSON to begin with
    #[arg(long, value_name = "FILE")]
    spec: Option<PathBuf>,
    /// Sets any field of the specification; the value is JSON or text
    #[arg(long, value_name = "PATH=VALUE", value_parser = assignment)]
    set: Vec<(String, Value)>,
    #[command(flatten)]
    submission: SubmitArgs,
}

/// A stage, or none at all.
#[derive(Debug, Clone, Copy)]
struct Freeze(Option<Stage>);

fn freeze(text: &str) -> Result<Freeze, String> {
    if text == "none" {
        return Ok(Freeze(None));
    }
    text.parse().map(|stage| Freeze(Some(stage))).map_err(|error| format!("{error}, none"))
}

pub(super) async fn run(context: &Context, args: TrainArgs) -> anyhow::Result<()> {
    let (spec, submission) = specification(args)?;
    submit(context, spec, submission).await
}

fn specification(args: TrainArgs) -> anyhow::Result<(Specification, SubmitArgs)> {
    let mut spec = match &args.spec {
        None => Specification::new("train"),
        Some(path) => {
            let reading = || format!("read {}", path.display());
            let text = std::fs::read_to_string(path).with_context(reading)?;
            Specification::from_json("train", &text).with_context(reading)?
        }
    };
    spec.set_some("model", args.model.map(|model| model.to_string()))?;
    spec.set_some("dataset", args.dataset.map(|dataset| dataset.to_string()))?;
    spec.set_some("architecture", args.arch.map(Architecture::as_str))?;
    spec.set_some("epochs", args.epochs)?;
    spec.set_some("batch_size", args.batch_size)?;
    spec.set_some("image_size", args.image_size)?;
    spec.set_some("optimizer.learning_rate", args.learning_rate)?;
    spec.set_some("freeze", args.freeze.map(|freeze| freeze.0.map(Stage::as_str)))?;
    spec.set_some("weights", args.weights.map(|weights| weights.to_string()))?;
    spec.set_some("seed", args.seed)?;
    for (path, value) in args.set {
        spec.set(&path, value).map_err(|Usage(problem)| Usage(format!("--set {problem}")))?;
    }
    Ok((spec, args.submission))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::Parser as _;
    use serde_json::json;

    use super::*;
    use crate::arguments::{Cli, Command};

    fn spec(options: &[&str]) -> anyhow::Result<Value> {
        let cli = Cli::try_parse_from([&["perito", "train"], options].concat())?;
        let Command::Train(args) = cli.command else { panic!("not train") };
        Ok(specification(args)?.0.checked()?)
    }

    const BASE: [&str; 6] = ["--model", "severity", "--dataset", "demo@2", "--arch", "cnn4"];

    #[test]
    fn only_what_was_said_is_sent() {
        let expected = json!({"kind": "train", "model": "severity", "dataset": "demo@2", "architecture": "cnn4"});
        assert_eq!(spec(&BASE).unwrap(), expected);
    }

    #[test]
    fn options_become_fields() {
        let options = [
            "--model=m",
            "--dataset=d",
            "--arch=resnet18",
            "--epochs=3",
            "--batch-size=16",
            "--image-size=96",
            "--learning-rate=0.01",
            "--freeze=none",
            "--weights=imagenet@1",
            "--seed=7",
            "--set=augment.brightness=0",
            "--set=schedule={\"name\":\"cosine\"}",
        ];
        let expected = json!({
            "kind": "train", "model": "m", "dataset": "d", "architecture": "resnet18", "epochs": 3, "batch_size": 16,
            "image_size": 96, "optimizer": {"learning_rate": 0.01}, "freeze": null, "weights": "imagenet@1", "seed": 7,
            "augment": {"brightness": 0}, "schedule": {"name": "cosine"},
        });
        assert_eq!(spec(&options).unwrap(), expected);
    }

    #[test]
    fn set_goes_before_options_and_options_before_the_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(
            &file,
            r#"{"model": "m", "dataset": "d", "architecture": "cnn4", "epochs": 1, "seed": 1, "batch_size": 8}"#,
        )
        .unwrap();
        let path = file.path().to_str().unwrap();
        let sent = spec(&["--spec", path, "--epochs=2", "--seed=2", "--set=seed=3"]).unwrap();
        assert_eq!((&sent["batch_size"], &sent["epochs"], &sent["seed"]), (&json!(8), &json!(2), &json!(3)));
    }

    #[test]
    fn what_is_wrong_is_named_before_anything_is_sent() {
        for (options, part) in [
            (&["--set=optimizer.lr=1"][..], "lr"),
            (&["--epochs=0"], "epochs: is 0"),
            (&["--freeze=layer9"], "layer9"),
            (&["--arch=vgg"], "vgg"),
            (&["--spec=/does/not/exist"], "/does/not/exist"),
            (&["--set=epochs"], "path.to.field=value"),
            (&["--set=epochs.x=1", "--epochs=2"], "--set epochs.x"),
        ] {
            let base = if options.iter().any(|option| option.starts_with("--arch")) { &BASE[..4] } else { &BASE };
            let refused = format!("{:#}", spec(&[base, options].concat()).unwrap_err());
            assert!(refused.contains(part), "{part}: {refused}");
        }
        assert_eq!(crate::exit::code(&spec(&["--spec=/dev/null"]).unwrap_err()), 2);
        let incomplete = spec(&["--model=m", "--arch=cnn4"]).unwrap_err().to_string();
        assert!(incomplete.contains("--dataset"), "{incomplete}");
    }
}
