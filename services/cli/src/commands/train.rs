//! `perito train`

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use perito_domain::{
    names::{DatasetRef, ModelRef, Name},
    spec::{Architecture, Preset, Stage},
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
What is left out comes from the preset. Precedence: --set, then options, then --spec, then the preset.

Examples:
  perito train --model severity --dataset demo --preset cnn-best --watch
  perito train --model severity --dataset demo@2 --arch resnet18 --weights resnet18-imagenet --freeze layer2
  perito train --model severity --dataset demo --arch cnn4 --epochs 20 \\
      --set optimizer.weight_decay=0.0001 --set 'schedule={\"name\":\"cosine\",\"warmup_epochs\":2}'
  perito train --spec recipe.toml --set seed=7
  perito train --sweep sweep.toml --model severity --dataset demo --watch
  perito train --print-preset resnet18-best >recipe.toml

Fields of a specification: preset, model, dataset, architecture, weights, image_size, preprocessing_version (1: exact,
  2 and 3: large JPEGs at a reduced scale), dropout, freeze, freeze_statistics, zero_init_residual,
  learning_rate_scales.{stem|layer1..layer4}, epochs, batch_size, precision (float32|bfloat16), seed, ema_decay,
  swa_start, early_stopping, test_time_flip,
  optimizer.{name: sgd|adam|adamw, learning_rate, momentum, nesterov, betas, epsilon, weight_decay},
  schedule.{name: constant|step|cosine|plateau, epochs, gamma, warmup_epochs, minimum, factor, patience},
  loss.{label_smoothing, class_weights: \"balanced\"|[minor, moderate, severe]},
  augment.{crop.{from, scale, ratio}, horizontal_flip, rotation_degrees, brightness, contrast, saturation,
           perspective.{distortion, probability}, erasing.probability},
  mix.{probability, mixup, cutmix}

A sweep's file has the fields that its trials have in common, and what they differ in (search.name = \"grid\", or \"random\" with
trials and a seed). Options and --set go to what they have in common. The best trial by macro F1 is trained and registered.
  folds = 5                            # k-fold cross-validation inside the training split; left out: the validation split
  [train]
  preset = \"cnn-best\"
  [search]
  name = \"random\"
  trials = 20
  [search.fields]
  \"optimizer.learning_rate\" = { low = 0.0001, high = 0.01, log = true }
  \"image_size\" = { choices = [64, 96] }";

/// Trains a model on a dataset's training split and registers the epoch with the best macro F1 on its validation split.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct TrainArgs {
    /// The name under which the model is registered, as its next version
    #[arg(long, value_name = "NAME", required_unless_present_any = ["spec", "sweep", "print_preset"])]
    model: Option<Name>,
    /// The dataset: NAME for its newest version, or NAME@VERSION
    #[arg(long, value_name = "REF", required_unless_present_any = ["spec", "sweep", "print_preset"])]
    dataset: Option<DatasetRef>,
    /// The recipe to begin with: cnn-seed, cnn-best, resnet18-seed or resnet18-best; the network's -seed when there is none
    #[arg(long, value_name = "PRESET")]
    preset: Option<Preset>,
    /// Print a preset's file, with its comments, and do nothing else
    #[arg(long, value_name = "PRESET", exclusive = true)]
    print_preset: Option<Preset>,
    /// The network: cnn4 or resnet18
    #[arg(long, value_name = "NETWORK", required_unless_present_any = ["spec", "sweep", "preset", "print_preset"])]
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
    /// A file with a specification to begin with, in TOML or JSON
    #[arg(long, value_name = "FILE")]
    spec: Option<PathBuf>,
    /// A file with a sweep, in TOML or JSON: many recipes are trained, and the best one is registered
    #[arg(long, value_name = "FILE", conflicts_with = "spec")]
    sweep: Option<PathBuf>,
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
    if let Some(preset) = args.print_preset {
        return context.output.text(preset.text());
    }
    let (spec, submission) = specification(args)?;
    submit(context, spec, submission).await
}

pub(super) fn specification(args: TrainArgs) -> anyhow::Result<(Specification, SubmitArgs)> {
    let (kind, file) = if args.sweep.is_some() { ("sweep", &args.sweep) } else { ("train", &args.spec) };
    let mut spec = match file {
        None => Specification::new(kind),
        Some(path) => {
            let reading = || format!("read {}", path.display());
            let text = std::fs::read_to_string(path).with_context(reading)?;
            Specification::from_text(kind, &text).with_context(reading)?
        }
    };
    let place = if args.sweep.is_some() { "train." } else { "" };
    let options: [(&str, Option<Value>); 11] = [
        ("model", args.model.map(|model| model.to_string().into())),
        ("dataset", args.dataset.map(|dataset| dataset.to_string().into())),
        ("preset", args.preset.map(|preset| preset.as_str().into())),
        ("architecture", args.arch.map(|architecture| architecture.as_str().into())),
        ("epochs", args.epochs.map(Value::from)),
        ("batch_size", args.batch_size.map(Value::from)),
        ("image_size", args.image_size.map(Value::from)),
        ("optimizer.learning_rate", args.learning_rate.map(Value::from)),
        ("freeze", args.freeze.map(|freeze| freeze.0.map(Stage::as_str).into())),
        ("weights", args.weights.map(|weights| weights.to_string().into())),
        ("seed", args.seed.map(Value::from)),
    ];
    for (path, value) in options {
        spec.set_some(&format!("{place}{path}"), value)?;
    }
    for (path, value) in args.set {
        spec.set(&format!("{place}{path}"), value).map_err(|Usage(problem)| Usage(format!("--set {problem}")))?;
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
            "--preset=resnet18-best",
            "--freeze=none",
            "--weights=imagenet@1",
            "--seed=7",
            "--set=augment.brightness=0",
            "--set=schedule={\"name\":\"cosine\"}",
        ];
        let expected = json!({
            "kind": "train", "model": "m", "dataset": "d", "architecture": "resnet18", "epochs": 3, "batch_size": 16,
            "image_size": 96, "preset": "resnet18-best", "optimizer": {"learning_rate": 0.01}, "freeze": null, "weights": "imagenet@1", "seed": 7,
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
    fn options_go_to_what_the_trials_of_a_sweep_have_in_common() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text =
            "folds = 3\n[train]\npreset = \"cnn-best\"\n[search]\nname = \"grid\"\nfields = { dropout = [0.2, 0.4] }";
        std::fs::write(&file, text).unwrap();
        let path = file.path().to_str().unwrap();
        let sent = spec(&["--sweep", path, "--model=m", "--dataset=d", "--epochs=20", "--set=mix.mixup=0.1"]).unwrap();
        let expected = json!({
            "kind": "sweep", "folds": 3, "search": {"name": "grid", "fields": {"dropout": [0.2, 0.4]}},
            "train": {"preset": "cnn-best", "model": "m", "dataset": "d", "epochs": 20, "mix": {"mixup": 0.1}},
        });
        assert_eq!(sent, expected);
        let refused = spec(&["--sweep", path, "--model=m"]).unwrap_err().to_string();
        assert!(refused.contains("dataset"), "{refused}");
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
