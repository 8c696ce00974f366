//! A model card: Markdown made of stored facts (Mitchell et al., "Model Cards for Model Reporting", 2019).

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use perito_domain::{Severity, spec::Split};

use crate::api::{AliasMove, Comparison, Dataset, Evaluation, Measurement, Model};

/// What the registry knows of a version.
#[derive(Debug, Clone, Copy)]
pub struct Card<'a> {
    /// The version.
    pub model: &'a Model,
    /// What it was trained on.
    pub dataset: Option<&'a Dataset>,
    /// How well it does.
    pub measurements: &'a [Measurement],
    /// Compared with others.
    pub comparisons: &'a [Comparison],
    /// Moves of aliases to it and from it, the newest first.
    pub moves: &'a [AliasMove],
}

impl Card<'_> {
    /// The page. The same facts make the same page.
    pub fn markdown(&self) -> String {
        let sections = [
            self.facts(),
            self.intended_use(),
            self.limits(),
            self.lineage(),
            self.recipe(),
            self.preprocessing(),
            self.metrics(),
            self.compared(),
            self.history(),
        ];
        let mut page = format!("# Model card: {}\n", self.model.reference);
        for section in sections.iter().filter(|section| !section.is_empty()) {
            page.push('\n');
            page.push_str(section);
        }
        page
    }

    fn can_score(&self) -> bool {
        !self.model.class_names.is_empty()
    }

    fn facts(&self) -> String {
        let model = self.model;
        let aliases = if model.aliases.is_empty() { "none".to_owned() } else { model.aliases.join(", ") };
        let classes = if self.can_score() { model.class_names.join(", ") } else { "none of Perito's".to_owned() };
        table(&[
            ("model", code(&model.reference)),
            ("aliases", aliases),
            ("architecture", model.architecture.to_string()),
            ("classes", classes),
            ("registered (UTC)", time(model.created_at)),
            ("made by", cell(&format!("perito {}", model.code_version))),
            ("source", cell(&model.source)),
            ("weights", format!("{} bytes, SHA-256 {}", model.artifact.bytes, code(&model.artifact.sha256))),
        ])
    }

    fn intended_use(&self) -> String {
        let text = if self.can_score() {
            "Grades the damage on a photograph of an insured car as minor, moderate or severe, with a probability for each. Made for putting \
             a backlog of claims into an order and for a second opinion beside an adjuster's.\n\n\
             Not made for deciding a claim without a person, for the cost of a repair, for photographs of anything but cars, or for telling \
             whether there is damage at all: it always answers with one of the three classes."
        } else {
            "A start for a training (`perito train --weights`). It has no head for minor, moderate and severe and cannot score."
        };
        format!("## Intended use\n\n{text}\n")
    }

    fn limits(&self) -> String {
        let mut limits = Vec::new();
        match self.newest_validation() {
            None if self.can_score() => limits.push(
                "It has not been measured on a validation split: nothing is known of how well it does.".to_owned(),
            ),
            None => {}
            Some(measurement) => limits.extend(limits_of(measurement)),
        }
        if self.dataset.is_some() {
            limits.push("It knows damage, cars, cameras and light as its training data show them, and was measured on data of the same kind.".to_owned());
        }
        if limits.is_empty() {
            return String::new();
        }
        format!("## Limits\n\n- {}\n", limits.join("\n- "))
    }

    fn newest_validation(&self) -> Option<&Measurement> {
        self.measurements
            .iter()
            .filter(|measurement| measurement.split == Split::Validation)
            .max_by_key(|measurement| measurement.finished_at)
    }

    fn lineage(&self) -> String {
        let model = self.model;
        let Some(job) = model.job_id else {
            return format!(
                "## Lineage\n\nImported from {}; how it was trained is not known here.\n",
                cell(&model.source)
            );
        };
        let weights = model.hyperparameters.as_ref().and_then(|recipe| recipe["weights"].as_str());
        let mut rows = vec![
            ("training job", code(job.to_string())),
            ("initial weights", weights.map_or_else(|| "random".to_owned(), code)),
            ("best epoch", model.best_epoch.map_or_else(|| "-".to_owned(), |epoch| epoch.to_string())),
            ("dataset", model.dataset.as_deref().map_or_else(|| "-".to_owned(), code)),
            ("dataset digest", model.dataset_digest.as_deref().map_or_else(|| "-".to_owned(), code)),
        ];
        if let Some(seed) = model.seed {
            rows.push(("seed", seed.to_string()));
        }
        for (name, fact) in [
            ("specification digest", &model.spec_sha256),
            ("libtorch", &model.libtorch_version),
            ("device", &model.device),
        ] {
            if let Some(fact) = fact {
                rows.push((name, code(fact)));
            }
        }
        if let Some(origin) = self.dataset.and_then(|dataset| dataset.origin.as_deref()) {
            rows.push(("dataset made of", cell(origin)));
        }
        let mut text = format!("## Lineage\n\n{}", table(&rows));
        if let Some(dataset) = self.dataset {
            text.push_str("\n| images | minor | moderate | severe |\n|---|---:|---:|---:|\n");
            for split in Split::ALL {
                let of = |label| {
                    let wanted = |count: &&crate::api::Count| count.split == *split && count.label == label;
                    dataset.counts.iter().filter(wanted).map(|count| count.images).sum::<u64>()
                };
                let [minor, moderate, severe] = Severity::ALL.map(of);
                let _ = writeln!(text, "| {split} | {minor} | {moderate} | {severe} |");
            }
        }
        text
    }

    fn recipe(&self) -> String {
        let Some(recipe) = &self.model.hyperparameters else { return String::new() };
        // A value that came as JSON can be written as JSON.
        let recipe = serde_json::to_string_pretty(recipe).unwrap_or_default();
        format!("## Recipe\n\n```json\n{recipe}\n```\n")
    }

    fn preprocessing(&self) -> String {
        let contract = &self.model.preprocessing;
        let channels = |values: [f32; 3]| values.map(|value| value.to_string()).join(", ");
        let rows = [
            ("contract", format!("version {}", contract.version)),
            ("input", format!("{0} x {0} pixels, RGB", contract.image_size)),
            ("mean", channels(contract.mean)),
            ("standard deviation", channels(contract.std)),
            ("test-time flip", if contract.test_time_flip { "yes" } else { "no" }.to_owned()),
        ];
        format!(
            "## Preprocessing\n\nDecode, apply the EXIF orientation, convert to 8-bit RGB, resize to the square with antialiased bilinear \
             interpolation whatever the aspect ratio, scale to 0 to 1, subtract the mean and divide by the standard deviation.\n\n{}",
            table(&rows)
        )
    }

    fn metrics(&self) -> String {
        if self.measurements.is_empty() {
            return String::new();
        }
        let mut text = "## Metrics\n".to_owned();
        for measurement in self.measurements {
            let Measurement { dataset, dataset_digest, split, measured_by, finished_at, job_id, evaluation } =
                measurement;
            let by = if measured_by == "train" { "its own training, best epoch" } else { "an evaluation" };
            let _ = write!(
                text,
                "\n### {dataset}, {split}\n\nMeasured by {by} (job {}, {} UTC) on {} images; dataset digest {}.\n\n{}",
                code(job_id.to_string()),
                time(*finished_at),
                evaluation.images,
                code(dataset_digest),
                figures(evaluation)
            );
        }
        text
    }

    fn compared(&self) -> String {
        if self.comparisons.is_empty() {
            return String::new();
        }
        let mut text = "## Comparisons\n\nMcNemar's test on the images that both graded.\n\n\
                        | champion | challenger | dataset | macro F1 | only champion right | only challenger right | test | p |\n\
                        |---|---|---|---|---:|---:|---|---:|\n"
            .to_owned();
        for comparison in self.comparisons {
            let Comparison { champion, challenger, dataset, split, mcnemar, .. } = comparison;
            let _ = writeln!(
                text,
                "| {} | {} | {dataset}, {split} | {:.4} and {:.4} | {} | {} | {} | {:.4} |",
                champion.model,
                challenger.model,
                champion.macro_f1,
                challenger.macro_f1,
                comparison.only_champion_right,
                comparison.only_challenger_right,
                mcnemar.test,
                mcnemar.p_value
            );
        }
        text
    }

    fn history(&self) -> String {
        if self.moves.is_empty() {
            return String::new();
        }
        let mut text = "## Aliases\n\n| when (UTC) | alias | move | by | reason |\n|---|---|---|---|---|\n".to_owned();
        for step in self.moves {
            let from = step.from_version.map_or_else(|| "nothing".to_owned(), |version| format!("version {version}"));
            let forced = if step.forced { ", forced" } else { "" };
            let _ = writeln!(
                text,
                "| {} | {} | {}: from {from} to version {}{forced} | {} | {} |",
                time(step.moved_at),
                step.alias,
                step.action,
                step.to_version,
                cell(step.by.as_deref().unwrap_or("-")),
                cell(step.reason.as_deref().unwrap_or("-"))
            );
        }
        text
    }
}

/// What a measurement says of where the model is weak.
fn limits_of(measurement: &Measurement) -> Vec<String> {
    let evaluation = &measurement.evaluation;
    let mut limits = Vec::new();
    let weakest = evaluation.classes.iter().filter(|class| class.support > 0).min_by(|a, b| a.f1.total_cmp(&b.f1));
    if let Some(class) = weakest {
        limits.push(format!(
            "Weakest on {}: of such photographs it finds {:.0} %, and of those that it grades so {:.0} % are (F1 {:.3}, {} images of {}).",
            class.severity,
            class.recall * 100.0,
            class.precision * 100.0,
            class.f1,
            class.support,
            measurement.dataset
        ));
    }
    for class in evaluation.classes.iter().filter(|class| class.support == 0) {
        limits.push(format!("Not measured on {} damage: {} has none.", class.severity, measurement.dataset));
    }
    if let Some(certainty) = &evaluation.certainty {
        limits.push(format!(
            "Its confidence is off by {:.3} on average (expected calibration error, 0 to 1).",
            certainty.calibration_error
        ));
    }
    if measurement.measured_by == "train" {
        limits.push("Measured on the split that chose its best epoch, which flatters it.".to_owned());
    }
    limits
}

fn figures(evaluation: &Evaluation) -> String {
    let interval = |interval: Option<crate::api::Interval>| {
        interval.map_or_else(|| "-".to_owned(), |interval| format!("{:.4} to {:.4}", interval.low, interval.high))
    };
    let certainty = evaluation.certainty.as_ref();
    let mut text = format!(
        "| | value | 95 % interval |\n|---|---:|---|\n| accuracy | {:.4} | {} |\n| macro F1 | {:.4} | {} |\n",
        evaluation.accuracy,
        interval(certainty.map(|certainty| certainty.accuracy)),
        evaluation.macro_average.f1,
        interval(certainty.map(|certainty| certainty.macro_f1)),
    );
    if let Some(certainty) = certainty {
        let _ = writeln!(text, "| log loss | {:.4} | - |", certainty.log_loss);
        let _ = writeln!(text, "| calibration error | {:.4} | - |", certainty.calibration_error);
    }
    text.push_str("\n| class | precision | recall | F1 | ROC AUC | images |\n|---|---:|---:|---:|---:|---:|\n");
    for (place, class) in evaluation.classes.iter().enumerate() {
        let auc = certainty.and_then(|certainty| *certainty.roc_auc.get(place)?);
        let auc = auc.map_or_else(|| "-".to_owned(), |auc| format!("{auc:.4}"));
        let _ = writeln!(
            text,
            "| {} | {:.4} | {:.4} | {:.4} | {auc} | {} |",
            class.severity, class.precision, class.recall, class.f1, class.support
        );
    }
    text.push_str("\n| actual \\ predicted | minor | moderate | severe |\n|---|---:|---:|---:|\n");
    for (class, row) in evaluation.classes.iter().zip(&evaluation.confusion.counts) {
        let row: Vec<String> = row.iter().map(u64::to_string).collect();
        let _ = writeln!(text, "| {} | {} |", class.severity, row.join(" | "));
    }
    text
}

fn table(rows: &[(&str, String)]) -> String {
    let mut text = "| | |\n|---|---|\n".to_owned();
    for (name, value) in rows {
        let _ = writeln!(text, "| {name} | {value} |");
    }
    text
}

fn code(text: impl AsRef<str>) -> String {
    format!("`{}`", text.as_ref())
}

/// Text that somebody wrote, so that it stays one cell and no markup.
fn cell(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '|' | '*' | '_' | '`' | '<' | '[' | '\\' => {
                safe.push('\\');
                safe.push(character);
            }
            control if control.is_control() => safe.push(' '),
            other => safe.push(other),
        }
    }
    safe
}

fn time(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M").to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn model(extra: Value) -> Model {
        let mut model = json!({
            "name": "severity", "version": 4, "reference": "severity@4", "aliases": ["production"], "architecture": "cnn4",
            "class_names": ["minor", "moderate", "severe"], "preprocessing": {"version": 1, "image_size": 64, "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225]}, "artifact": {"bucket": "b", "key": "k", "sha256": "ab".repeat(32), "bytes": 10},
            "job_id": "0199a5f2-7c3e-7d51-9b1e-2f6c8a4d0e11", "dataset": "demo@1", "dataset_digest": "cd".repeat(32),
            "hyperparameters": {"epochs": 3, "weights": "imagenet@1"}, "best_epoch": 2, "seed": 42, "libtorch_version": "2.13.0",
            "code_version": "0.1.0", "source": "a|b",
            "created_at": "2026-10-01T02:00:00Z",
        });
        model.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        serde_json::from_value(model).unwrap()
    }

    fn measurement(measured_by: &str) -> Measurement {
        let class = |severity: &str, f1: f64| json!({"severity": severity, "precision": 0.5, "recall": 0.25, "f1": f1, "support": 82});
        let average = json!({"precision": 0.65, "recall": 0.654, "f1": 0.6504});
        serde_json::from_value(json!({
            "job_id": "0199a5f2-7c3e-7d51-9b1e-2f6c8a4d0e11", "measured_by": measured_by, "dataset": "demo@1",
            "dataset_digest": "cd".repeat(32), "split": "validation", "finished_at": "2026-10-01T02:00:00Z",
            "evaluation": {
                "images": 246, "accuracy": 0.6653, "classes": [class("minor", 0.719), class("moderate", 0.482), class("severe", 0.75)],
                "macro_average": average, "weighted_average": average, "confusion": {"counts": [[60, 15, 7], [20, 33, 22], [5, 14, 72]]},
                "certainty": {"log_loss": 0.74, "calibration_error": 0.061, "roc_auc": [0.88, null, 0.9],
                              "accuracy": {"low": 0.605, "high": 0.722}, "macro_f1": {"low": 0.588, "high": 0.708}},
            },
        }))
        .unwrap()
    }

    #[test]
    fn a_card_tells_what_is_stored() {
        let dataset: Dataset = serde_json::from_value(json!({
            "reference": "demo@1", "digest": "cd".repeat(32), "images": 6, "frozen_at": "2026-10-01T02:00:00Z",
            "origin": "human labels, seed 7",
            "counts": [{"split": "training", "label": "minor", "images": 4}, {"split": "validation", "label": "severe", "images": 2}],
        }))
        .unwrap();
        let moves: Vec<AliasMove> = serde_json::from_value(json!([{
            "alias": "production", "action": "promote", "from_version": 3, "to_version": 4, "by": "ana", "reason": "better | newer",
            "moved_at": "2026-10-02T02:00:00Z", "forced": true, "check": null,
        }]))
        .unwrap();
        let comparisons: Vec<Comparison> = serde_json::from_value(json!([{
            "champion": {"model": "severity@3", "accuracy": 0.6, "macro_f1": 0.61}, "challenger": {"model": "severity@4", "accuracy": 0.66, "macro_f1": 0.65},
            "dataset": "demo@1", "split": "validation", "images": 246, "left_out": 0, "both_right": 100, "only_champion_right": 16,
            "only_challenger_right": 24, "both_wrong": 106, "mcnemar": {"test": "chi-square", "statistic": 1.225, "p_value": 0.2684},
            "compared_at": "2026-10-02T02:00:00Z",
        }]))
        .unwrap();
        let model = model(json!({}));
        let measurements = [measurement("train")];
        let card = Card {
            model: &model,
            dataset: Some(&dataset),
            measurements: &measurements,
            comparisons: &comparisons,
            moves: &moves,
        };
        let page = card.markdown();
        for part in [
            "# Model card: severity@4",
            "## Intended use",
            "Weakest on moderate",
            "flatters it",
            "| initial weights | `imagenet@1` |",
            "| seed | 42 |",
            "| libtorch | `2.13.0` |",
            "| dataset made of | human labels, seed 7 |",
            "| training | 4 | 0 | 0 |",
            "\"epochs\": 3",
            "64 x 64 pixels",
            "| macro F1 | 0.6504 | 0.5880 to 0.7080 |",
            "| moderate | 20 | 33 | 22 |",
            "| moderate | 0.5000 | 0.2500 | 0.4820 | - | 82 |",
            "| severity@3 | severity@4 | demo@1, validation | 0.6100 and 0.6500 | 16 | 24 | chi-square | 0.2684 |",
            "promote: from version 3 to version 4, forced | ana | better \\| newer |",
            "a\\|b",
        ] {
            assert!(page.contains(part), "{part} in\n{page}");
        }
        assert_eq!(page, card.markdown());
    }

    #[test]
    fn an_import_says_what_is_not_known() {
        let model = model(
            json!({"job_id": null, "dataset": null, "dataset_digest": null, "hyperparameters": null, "class_names": [], "aliases": []}),
        );
        let page = Card { model: &model, dataset: None, measurements: &[], comparisons: &[], moves: &[] }.markdown();
        assert!(page.contains("cannot score") && page.contains("how it was trained is not known here"), "{page}");
        assert!(!page.contains("## Metrics") && !page.contains("## Recipe") && !page.contains("## Limits"), "{page}");
    }
}
