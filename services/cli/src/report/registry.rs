//! Models and datasets.

use comfy_table::{Cell, Color};
use perito_domain::{Severity, spec::Split};

use super::{coloured, facts, metrics, number, optional, table, time};
use crate::api::{Count, Dataset, Evaluation, Frozen, Model};

/// Versions of models.
pub fn models(models: &[Model], colour: bool) -> String {
    if models.is_empty() {
        return "no models".to_owned();
    }
    let mut table = table(&["model", "aliases", "architecture", "pixels", "dataset", "classes", "created (UTC)"]);
    for model in models {
        table.add_row(vec![
            Cell::new(&model.reference),
            coloured(model.aliases.join(", "), Color::Green, colour),
            Cell::new(model.architecture),
            number(model.preprocessing.image_size),
            Cell::new(optional(model.dataset.as_deref())),
            Cell::new(classes(model)),
            Cell::new(time(model.created_at)),
        ]);
    }
    table.to_string()
}

/// One version of a model, with its metrics if it was trained here.
pub fn model(model: &Model, evaluation: Option<&Evaluation>, colour: bool) -> String {
    let artifact = &model.artifact;
    let table = facts([
        ("model", Cell::new(&model.reference)),
        ("aliases", coloured(model.aliases.join(", "), Color::Green, colour)),
        ("architecture", Cell::new(model.architecture)),
        (
            "input",
            Cell::new(format!(
                "{0} x {0} pixels, preprocessing {1}",
                model.preprocessing.image_size, model.preprocessing.version
            )),
        ),
        ("classes", Cell::new(classes(model))),
        ("weights", Cell::new(format!("s3://{}/{} ({} bytes)", artifact.bucket, artifact.key, artifact.bytes))),
        ("sha256", Cell::new(&artifact.sha256)),
        ("source", Cell::new(&model.source)),
        ("job", Cell::new(optional(model.job_id))),
        ("dataset", Cell::new(optional(model.dataset.as_deref()))),
        ("dataset digest", Cell::new(optional(model.dataset_digest.as_deref()))),
        ("specification digest", Cell::new(optional(model.spec_sha256.as_deref()))),
        ("seed", Cell::new(optional(model.seed))),
        ("best epoch", Cell::new(optional(model.best_epoch))),
        ("code version", Cell::new(&model.code_version)),
        ("libtorch", Cell::new(optional(model.libtorch_version.as_deref()))),
        ("device", Cell::new(optional(model.device.as_deref()))),
        ("created (UTC)", Cell::new(time(model.created_at))),
    ]);
    match evaluation {
        Some(evaluation) => format!("{table}\n{}", metrics::evaluation(evaluation)),
        None => table.to_string(),
    }
}

fn classes(model: &Model) -> String {
    if model.class_names.is_empty() { "none: to start training from".to_owned() } else { model.class_names.join(", ") }
}

/// Versions of datasets.
pub fn datasets(datasets: &[Dataset]) -> String {
    if datasets.is_empty() {
        return "no datasets".to_owned();
    }
    let mut table = table(&["dataset", "images", "training", "validation", "frozen (UTC)", "digest"]);
    for dataset in datasets {
        let of =
            |split| dataset.counts.iter().filter(|count| count.split == split).map(|count| count.images).sum::<u64>();
        table.add_row(vec![
            Cell::new(&dataset.reference),
            number(dataset.images),
            number(of(Split::Training)),
            number(of(Split::Validation)),
            Cell::new(time(dataset.frozen_at)),
            Cell::new(dataset.digest.get(..12).unwrap_or(&dataset.digest)),
        ]);
    }
    table.to_string()
}

/// One version of a dataset.
pub fn dataset(dataset: &Dataset) -> String {
    let table = facts([
        ("dataset", Cell::new(&dataset.reference)),
        ("images", Cell::new(dataset.images)),
        ("digest", Cell::new(&dataset.digest)),
        ("frozen (UTC)", Cell::new(time(dataset.frozen_at))),
        ("made of", Cell::new(dataset.origin.as_deref().unwrap_or("class folders"))),
    ]);
    format!("{table}\n{}", counts(&dataset.counts))
}

/// What became of a draft.
pub fn frozen(frozen: &Frozen) -> String {
    let known = if frozen.existing { " (the same content was frozen before)" } else { "" };
    format!("{}{known}\n{}", frozen.dataset.reference, counts(&frozen.dataset.counts))
}

/// How many images there are of each split and class.
pub fn counts(counts: &[Count]) -> String {
    let mut header = vec!["split"];
    header.extend(Severity::ALL.iter().map(|class| class.as_str()));
    header.push("all");
    let mut table = table(&header);
    for split in Split::ALL {
        let of = |label: Option<Severity>| {
            let wanted = |count: &&Count| count.split == *split && label.is_none_or(|label| count.label == label);
            counts.iter().filter(wanted).map(|count| count.images).sum::<u64>()
        };
        let mut row = vec![Cell::new(split)];
        row.extend(Severity::ALL.map(|label| number(of(Some(label)))));
        row.push(number(of(None)));
        table.add_row(row);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_show_each_class_of_each_split() {
        let text = counts(&[
            Count { split: Split::Training, label: Severity::Minor, images: 200 },
            Count { split: Split::Training, label: Severity::Severe, images: 50 },
            Count { split: Split::Validation, label: Severity::Minor, images: 7 },
        ]);
        let row = |name: &str| {
            let line = text.lines().find(|line| line.contains(name)).unwrap_or_default();
            line.split(|c: char| !c.is_ascii_digit()).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!((row("training"), row("validation")), ("200 0 50 250".to_owned(), "7 0 0 7".to_owned()), "{text}");
    }
}
