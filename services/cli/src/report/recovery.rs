//! Attempts and dead letters.

use comfy_table::Cell;

use super::{facts, number, optional, table, time};
use crate::api::{Attempt, DeadLetter};

/// What became of each attempt.
pub fn attempts(attempts: &[Attempt]) -> String {
    if attempts.is_empty() {
        return "no attempts".to_owned();
    }
    let mut table =
        table(&["task", "images", "attempt", "worker", "started (UTC)", "took", "outcome", "class", "error"]);
    for attempt in attempts {
        let took = attempt.ended_at.map(|ended| format!("{:.1} s", (ended - attempt.started_at).as_seconds_f64()));
        table.add_row(vec![
            number(attempt.task),
            number(attempt.images),
            number(attempt.attempt),
            Cell::new(&attempt.worker),
            Cell::new(time(attempt.started_at)),
            number(optional(took)),
            Cell::new(attempt.outcome.as_deref().unwrap_or("running")),
            Cell::new(optional(attempt.error_class.as_deref())),
            Cell::new(optional(attempt.error.as_deref())),
        ]);
    }
    table.to_string()
}

/// Messages that nobody could act on.
pub fn dead_letters(letters: &[DeadLetter]) -> String {
    if letters.is_empty() {
        return "no dead letters".to_owned();
    }
    let mut table = table(&["id", "from", "died (UTC)", "bytes", "what"]);
    for letter in letters {
        table.add_row(vec![
            Cell::new(&letter.id),
            Cell::new(optional(letter.died_in.as_deref())),
            Cell::new(optional(letter.died_at.map(time))),
            number(letter.bytes),
            Cell::new(what(letter)),
        ]);
    }
    table.to_string()
}

/// One of them, with all it says.
pub fn dead_letter(letter: &DeadLetter) -> String {
    let mut rows = vec![
        ("id", Cell::new(&letter.id)),
        ("waits in", Cell::new(&letter.queue)),
        ("came from", Cell::new(optional(letter.died_in.as_deref()))),
        ("reason", Cell::new(optional(letter.reason.as_deref()))),
        ("died (UTC)", Cell::new(optional(letter.died_at.map(time)))),
        ("what", Cell::new(what(letter))),
    ];
    let headers: Vec<String> = letter.headers.iter().map(|(key, value)| format!("{key}: {value}")).collect();
    rows.push(("headers", Cell::new(headers.join("\n"))));
    let rest = if letter.truncated { " (the beginning)" } else { "" };
    rows.push(("bytes", Cell::new(format!("{}{rest}", letter.bytes))));
    let body = match &letter.text {
        // Control characters are not for terminals.
        Some(text) => text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect(),
        None => wrapped(&letter.hex),
    };
    rows.push(("body", Cell::new(body)));
    facts(rows).to_string()
}

fn what(letter: &DeadLetter) -> String {
    match (&letter.task, &letter.problem) {
        (Some(task), _) => {
            format!("attempt {} of {} task {} of job {}", task.attempt, task.kind, task.task_id, task.job_id)
        }
        (None, problem) => optional(problem.as_deref()),
    }
}

/// 32 bytes a line.
fn wrapped(hex: &str) -> String {
    let lines: Vec<String> = hex.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
    lines.join("\n")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_dead_letter_says_why_it_is_here_and_harms_no_terminal() {
        let letter: DeadLetter = serde_json::from_value(json!({
            "id": "8f3a1c5e9b7d2f40", "queue": "perito.dead-letter", "died_in": "perito.score", "reason": "rejected",
            "died_at": "2026-10-01T02:00:31Z", "bytes": 3, "problem": "unknown schema version 99", "task": null,
            "headers": {"x-first-death-reason": "rejected"}, "text": "a\u{1b}b", "hex": "611b62", "truncated": false,
        }))
        .unwrap();
        let shown = dead_letter(&letter);
        for part in ["perito.score", "unknown schema version 99", "x-first-death-reason: rejected", "a\u{fffd}b"] {
            assert!(shown.contains(part), "{part}:\n{shown}");
        }
        assert!(dead_letters(&[letter]).contains("8f3a1c5e9b7d2f40"));
        assert_eq!(dead_letters(&[]), "no dead letters");
        assert_eq!(wrapped(&"ab".repeat(40)).lines().count(), 2);
    }
}
