//! Types of the domain as the OpenAPI document shows them: specifications and enumerations.
//!
//! Nothing reads into these types: a specification is parsed, completed and checked by [`perito_domain::spec`], which
//! knows nothing of OpenAPI. The tests below hold the two together.

#![expect(dead_code, reason = "only their schemas are used")]

mod schedule;
mod training;

use utoipa::ToSchema;

pub(crate) use schedule::{DeadlineAction, DeadlineOutcome, FiredBy, RunOutcome, ScheduleSpec};
pub(crate) use training::{Architecture, SweepSpec, TrainSpec};

/// What the holder of a token may do; each role may do what the ones before it may.
#[derive(ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    Viewer,
    Operator,
    Admin,
}

/// The kinds of job.
#[derive(ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum JobKind {
    Train,
    Score,
    Evaluate,
    Sweep,
}

/// Where a job is.
#[derive(ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum JobState {
    Queued,
    Running,
    Succeeded,
    Failed,
    Cancelled,
}

/// The stages of the scoring pipeline.
#[derive(ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Stage {
    Fetch,
    Decode,
    Infer,
    Write,
}

/// How badly a car is damaged.
#[derive(ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    Minor,
    Moderate,
    Severe,
}

/// Why an alias moved.
#[derive(ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AliasAction {
    Promote,
    Rollback,
}

/// The forms of McNemar's test.
#[derive(ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum McNemarTest {
    ExactBinomial,
    ChiSquare,
}

/// What a job is to do. Only the fields without a default are needed; unknown fields are refused by name.
#[derive(ToSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(crate) enum JobSpec {
    /// Trains a model and registers the epoch with the best macro F1 on the validation split.
    Train(Box<TrainSpec>),
    /// Scores a selection of images.
    Score(ScoreSpec),
    /// Measures a model on a labelled dataset.
    Evaluate(EvaluateSpec),
    /// Trains many recipes and registers the best one.
    Sweep(Box<SweepSpec>),
}

/// A bulk-scoring job.
#[derive(ToSchema)]
pub(crate) struct ScoreSpec {
    /// The model: `NAME`, `NAME@VERSION` or `NAME@ALIAS`, resolved when the job is planned.
    #[schema(examples("severity@production"))]
    model: String,
    /// Which images; frozen when the job is planned.
    selection: Selection,
    /// Images in one task.
    #[schema(default = 500, minimum = 1, maximum = 10000)]
    shard_size: Option<u32>,
    /// The share of the images that may fail before the job is failed.
    #[schema(default = 0.05, minimum = 0, maximum = 1)]
    failure_budget: Option<f64>,
    /// The most tasks that workers have at once, dispatched or running; no limit when absent.
    #[schema(minimum = 1, maximum = 10000)]
    concurrency: Option<u32>,
}

/// Which images a job scores.
#[derive(ToSchema)]
#[serde(tag = "by", rename_all = "lowercase")]
pub(crate) enum Selection {
    /// Every present image of the catalogue whose key starts with a prefix.
    Prefix { bucket: String, prefix: Option<String> },
    /// The images of a dataset, or of one split of it.
    Dataset { dataset: String, split: Option<Split> },
    /// Every present image without a label that this model version has not dealt with yet.
    Backlog { bucket: Option<String>, prefix: Option<String> },
}

/// A part of a dataset.
#[derive(ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Split {
    /// What weights are fitted to.
    Training,
    /// What models are chosen and judged by.
    Validation,
}

/// An evaluation job.
#[derive(ToSchema)]
pub(crate) struct EvaluateSpec {
    /// The model: `NAME`, `NAME@VERSION` or `NAME@ALIAS`, resolved when the job is planned.
    #[schema(examples("severity@3"))]
    model: String,
    /// The dataset: `NAME` for the newest version, or `NAME@VERSION`.
    #[schema(examples("demo@1"))]
    dataset: String,
    /// The split to measure on; validation when absent.
    split: Option<Split>,
}

/// How the bytes of an image become a model's input.
#[derive(ToSchema)]
#[schema(example = json!({"version": 3, "image_size": 224, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}))]
pub(crate) struct Preprocessing {
    /// The version of the contract: 1 decodes photographs exactly, 2 and 3 large JPEGs at a reduced scale.
    version: u32,
    /// Side of the square input, in pixels.
    image_size: u32,
    /// Mean that is subtracted, for red, green and blue in 0 to 1.
    mean: [f32; 3],
    /// Standard deviation that divides, likewise.
    std: [f32; 3],
    /// Whether probabilities are the mean of those of an image and of its mirror image; false when absent.
    test_time_flip: Option<bool>,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use perito_domain::{lifecycle, spec};
    use serde_json::{Value, json};
    use utoipa::PartialSchema;

    pub(super) fn documented<T: PartialSchema>() -> Value {
        serde_json::to_value(T::schema()).unwrap()
    }

    /// The property names of an object's schema, or of the variant of a tagged union whose tag has this value.
    pub(super) fn properties(schema: &Value, variant: Option<(&str, &str)>) -> BTreeSet<String> {
        let object = match variant {
            None => schema,
            Some((tag, value)) => schema["oneOf"]
                .as_array()
                .unwrap()
                .iter()
                .find(|variant| variant["properties"][tag]["enum"][0] == value)
                .unwrap_or_else(|| panic!("no {value} in {schema}")),
        };
        object["properties"].as_object().unwrap().keys().cloned().collect()
    }

    pub(super) fn fields(value: &Value) -> BTreeSet<String> {
        value.as_object().unwrap().keys().filter(|key| *key != "kind").cloned().collect()
    }

    pub(super) fn completed(value: Value) -> Value {
        serde_json::to_value(spec::JobSpec::parse(value).unwrap()).unwrap()
    }

    #[test]
    fn the_document_shows_every_field_of_a_scoring_job() {
        for selection in [
            json!({"by": "prefix", "bucket": "b", "prefix": "p"}),
            json!({"by": "dataset", "dataset": "d", "split": "training"}),
            json!({"by": "backlog", "bucket": "b", "prefix": "p"}),
        ] {
            let spec = completed(json!({"kind": "score", "model": "m", "selection": selection, "concurrency": 3}));
            assert_eq!(properties(&documented::<ScoreSpec>(), None), fields(&spec));
            let variant = Some(("by", selection["by"].as_str().unwrap()));
            assert_eq!(properties(&documented::<Selection>(), variant), fields(&spec["selection"]));
        }
    }

    #[test]
    fn the_document_shows_every_field_of_an_evaluation() {
        let spec = completed(json!({"kind": "evaluate", "model": "m", "dataset": "d"}));
        assert_eq!(properties(&documented::<EvaluateSpec>(), None), fields(&spec));
    }

    #[test]
    fn the_document_shows_every_value_of_the_enumerations() {
        fn agree<T: PartialSchema>(names: impl Iterator<Item = &'static str>) {
            assert_eq!(documented::<T>()["enum"], json!(names.collect::<Vec<_>>()));
        }
        agree::<JobKind>(lifecycle::JobKind::ALL.iter().map(|kind| kind.as_str()));
        agree::<JobState>(lifecycle::JobState::ALL.iter().map(|state| state.as_str()));
        agree::<Severity>(perito_domain::Severity::ALL.iter().map(|severity| severity.as_str()));
        agree::<Architecture>(spec::Architecture::ALL.iter().map(|architecture| architecture.as_str()));
        agree::<training::Stage>(spec::Stage::ALL.iter().map(|stage| stage.as_str()));
        agree::<AliasAction>(perito_domain::aliases::AliasAction::ALL.iter().map(|action| action.as_str()));
        agree::<McNemarTest>(perito_domain::metrics::mcnemar::McNemarTest::ALL.iter().map(|test| test.as_str()));
        agree::<Split>(spec::Split::ALL.iter().map(|split| split.as_str()));
    }
}
