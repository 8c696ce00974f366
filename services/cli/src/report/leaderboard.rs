//! The trials of a sweep.

use comfy_table::Cell;

use super::{number, optional, share, table};
use crate::api::Trial;

/// The trials, as the API orders them: from the best to the worst, then those that are not done.
pub fn leaderboard(trials: &[Trial]) -> String {
    if trials.is_empty() {
        return "no trials".to_owned();
    }
    let mut table = table(&["rank", "trial", "parameters", "runs", "macro F1", "accuracy", "log loss", "best epoch"]);
    for trial in trials {
        let parameters = trial.parameters.iter().map(|(path, value)| format!("{path}={value}")).collect::<Vec<_>>();
        let deviation = trial.macro_f1_deviation.map_or_else(String::new, |value| format!(" ± {value:.3}"));
        let f1 = trial.macro_f1.map(|value| format!("{value:.3}{deviation}"));
        table.add_row(vec![
            number(optional(trial.rank)),
            number(trial.trial),
            Cell::new(parameters.join("\n")),
            number(format!("{}/{}", trial.runs_done, trial.runs)),
            match &trial.error {
                Some(error) => Cell::new(error),
                None => number(optional(f1)),
            },
            trial.accuracy.map_or_else(|| number("-"), share),
            number(optional(trial.log_loss.map(|value| format!("{value:.4}")))),
            number(optional(trial.best_epoch.map(|value| format!("{value:.1}")))),
        ]);
    }
    table.to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn trials_say_what_they_tried_and_what_came_of_it() {
        let trials: Vec<Trial> = serde_json::from_value(json!([
            {"rank": 1, "trial": 3, "parameters": {"epochs": 5, "optimizer.learning_rate": 0.01}, "runs": 5, "runs_done": 5,
             "macro_f1": 0.7123, "macro_f1_deviation": 0.02, "accuracy": 0.74, "log_loss": 0.61, "best_epoch": 4.2},
            {"trial": 0, "parameters": {"epochs": 2}, "runs": 5, "runs_done": 1, "error": "the loss is NaN"},
        ]))
        .unwrap();
        let text = leaderboard(&trials);
        for part in ["0.712 ± 0.020", "optimizer.learning_rate=0.01", "5/5", "1/5", "the loss is NaN", "4.2"] {
            assert!(text.contains(part), "{part}:\n{text}");
        }
        assert_eq!(leaderboard(&[]), "no trials");
    }
}
