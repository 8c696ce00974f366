//! The metrics of a model.

use comfy_table::Cell;

use super::{number, share, table};
use crate::api::{Average, Certainty, Evaluation};

/// Precision, recall and F1, then the confusion matrix.
pub fn evaluation(evaluation: &Evaluation) -> String {
    let mut metrics = table(&["class", "precision", "recall", "F1", "images"]);
    for class in &evaluation.classes {
        metrics.add_row(vec![
            Cell::new(class.severity),
            share(class.precision),
            share(class.recall),
            share(class.f1),
            number(class.support),
        ]);
    }
    let average = |name: &str, average: &Average| {
        let Average { precision, recall, f1 } = *average;
        vec![Cell::new(name), share(precision), share(recall), share(f1), number(evaluation.images)]
    };
    metrics.add_row(average("macro average", &evaluation.macro_average));
    metrics.add_row(average("weighted average", &evaluation.weighted_average));

    let names: Vec<String> = evaluation.classes.iter().map(|class| class.severity.to_string()).collect();
    let mut header = vec!["actual \\ predicted"];
    header.extend(names.iter().map(String::as_str));
    let mut confusion = table(&header);
    for (name, row) in names.iter().zip(&evaluation.confusion.counts) {
        let mut cells = vec![Cell::new(name)];
        cells.extend(row.iter().map(number));
        confusion.add_row(cells);
    }
    let Evaluation { accuracy, images, .. } = evaluation;
    match &evaluation.certainty {
        None => format!("accuracy {accuracy:.3} on {images} images\n{metrics}\n{confusion}"),
        Some(certainty) => {
            let Certainty { log_loss, calibration_error, accuracy: of_accuracy, macro_f1, .. } = certainty;
            let auc = names.iter().zip(&certainty.roc_auc);
            let auc = auc.filter_map(|(name, auc)| auc.map(|auc| format!("{name} {auc:.3}"))).collect::<Vec<_>>();
            format!(
                "accuracy {accuracy:.3} on {images} images, 95 % interval {:.3} to {:.3}; macro F1 {:.3} to {:.3}\n\
                 log loss {log_loss:.4}, calibration error {calibration_error:.3}, ROC AUC {}\n{metrics}\n{confusion}",
                of_accuracy.low,
                of_accuracy.high,
                macro_f1.low,
                macro_f1.high,
                auc.join(", ")
            )
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_confusion_matrix_has_actual_classes_as_rows() {
        let class = |severity: &str, f1: f64| json!({"severity": severity, "precision": 0.5, "recall": 0.25, "f1": f1, "support": 82});
        let average = json!({"precision": 0.65, "recall": 0.654, "f1": 0.6504});
        let evaluation: Evaluation = serde_json::from_value(json!({
            "images": 248, "accuracy": 0.6653,
            "classes": [class("minor", 0.719), class("moderate", 0.482), class("severe", 0.75)],
            "macro_average": average, "weighted_average": average,
            "confusion": {"counts": [[60, 15, 7], [20, 33, 22], [5, 14, 72]]},
        }))
        .unwrap();
        let text = super::evaluation(&evaluation);
        assert!(text.starts_with("accuracy 0.665 on 248 images"), "{text}");
        let row = text.lines().find(|line| line.contains("moderate") && line.contains("33")).unwrap();
        let numbers: Vec<&str> = row.split(|c: char| !c.is_ascii_digit()).filter(|part| !part.is_empty()).collect();
        assert_eq!(numbers, ["20", "33", "22"]);
        assert!(text.contains("macro average") && text.contains("0.482"), "{text}");
    }
}
