//! Where aliases have pointed, and which of two versions does better.

use comfy_table::Cell;

use super::{number, optional, share, table, time};
use crate::api::{AliasMove, Comparison};

/// The moves of a model's aliases.
pub fn history(name: &str, moves: &[AliasMove]) -> String {
    if moves.is_empty() {
        return format!("no alias of {name} has ever pointed anywhere");
    }
    let mut table = table(&["when (UTC)", "alias", "move", "from", "to", "compared (macro F1)", "by", "reason"]);
    for step in moves {
        let compared = step.check.as_ref().map(|check| {
            format!("{}, {}: {:.4}, before {:.4}", check.dataset, check.split, check.macro_f1, check.former_macro_f1)
        });
        let action = if step.forced { format!("{}, forced", step.action) } else { step.action.to_string() };
        table.add_row(vec![
            Cell::new(time(step.moved_at)),
            Cell::new(&step.alias),
            Cell::new(action),
            number(optional(step.from_version)),
            number(step.to_version),
            Cell::new(optional(compared)),
            Cell::new(optional(step.by.as_deref())),
            Cell::new(optional(step.reason.as_deref())),
        ]);
    }
    table.to_string()
}

/// Two versions on the same images.
pub fn comparison(comparison: &Comparison) -> String {
    let Comparison { champion, challenger, dataset, split, images, left_out, mcnemar, .. } = comparison;
    let mut figures = table(&["", "model", "accuracy", "macro F1", "only this one right"]);
    for (role, contender, alone) in [
        ("champion", champion, comparison.only_champion_right),
        ("challenger", challenger, comparison.only_challenger_right),
    ] {
        figures.add_row(vec![
            Cell::new(role),
            Cell::new(&contender.model),
            share(contender.accuracy),
            share(contender.macro_f1),
            number(alone),
        ]);
    }
    let left_out =
        if *left_out == 0 { String::new() } else { format!("; {left_out} that only one of them graded are left out") };
    let verdict = if mcnemar.p_value >= 0.05 {
        "no more than chance would make, at 5 %".to_owned()
    } else if comparison.only_challenger_right > comparison.only_champion_right {
        format!("more than chance would make: {} is right more often", challenger.model)
    } else {
        format!("more than chance would make: {} is right more often", champion.model)
    };
    format!(
        "{dataset}, {split}: {images} images, both right on {}, both wrong on {}{left_out}\n{figures}\nMcNemar's test ({}): statistic {:.4}, \
         p {:.4}; the difference is {verdict}",
        comparison.both_right, comparison.both_wrong, mcnemar.test, mcnemar.statistic, mcnemar.p_value
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_comparison_says_which_test_and_what_it_means() {
        let of = |champion: u64, challenger: u64, p_value: f64| {
            let comparison: Comparison = serde_json::from_value(json!({
                "champion": {"model": "m@1", "accuracy": 0.6, "macro_f1": 0.61}, "challenger": {"model": "m@2", "accuracy": 0.66, "macro_f1": 0.65},
                "dataset": "demo@1", "split": "validation", "images": 246, "left_out": 3, "both_right": 100, "only_champion_right": champion,
                "only_challenger_right": challenger, "both_wrong": 106, "mcnemar": {"test": "exact-binomial", "statistic": 1.0, "p_value": p_value},
                "compared_at": "2026-10-02T02:00:00Z",
            }))
            .unwrap();
            super::comparison(&comparison)
        };
        let close = of(4, 6, 0.75);
        assert!(
            close.contains("exact-binomial")
                && close.contains("no more than chance")
                && close.contains("3 that only one"),
            "{close}"
        );
        assert!(of(1, 16, 0.001).contains("m@2 is right more often"));
        assert!(of(16, 1, 0.001).contains("m@1 is right more often"));
    }
}
