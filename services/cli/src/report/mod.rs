//! What people read: tables.

mod card;
mod history;
mod intake;
mod jobs;
mod leaderboard;
mod metrics;
mod operation;
mod recovery;
mod registry;
mod retention;
mod schedules;
mod tokens;
mod views;

use chrono::{DateTime, Utc};
use comfy_table::{Cell, CellAlignment, Color, ContentArrangement, Table, presets::UTF8_FULL_CONDENSED};

pub use card::Card;
pub use history::{comparison, history};
pub use intake::{backlog, settings};
pub use jobs::{epoch_line, epochs, job, jobs, stages};
pub use leaderboard::leaderboard;
pub use metrics::evaluation;
pub use operation::{status, workers};
pub use recovery::{attempts, dead_letter, dead_letters};
pub use registry::{counts, dataset, datasets, frozen, model, models};
pub use retention::{archives, retention_plan};
pub use schedules::{backfill, runs, schedule, schedules};
pub use tokens::tokens;
pub use views::{dictionary, view, views};

/// An empty table with a header.
pub(crate) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(UTF8_FULL_CONDENSED)
        // Only this program decides about colours.
        .style_text_only();
    if !header.is_empty() {
        table.set_header(header);
    }
    // Long ids and digests are for copying: a table in a file or a pipe is as wide as it needs to be.
    let arrangement = if table.is_tty() { ContentArrangement::Dynamic } else { ContentArrangement::Disabled };
    table.set_content_arrangement(arrangement);
    table
}

/// A table of names and values.
fn facts(rows: impl IntoIterator<Item = (&'static str, Cell)>) -> Table {
    let mut table = table(&[]);
    table.add_rows(rows.into_iter().map(|(name, value)| vec![Cell::new(name), value]));
    table
}

/// A number, on the right.
fn number(value: impl ToString) -> Cell {
    Cell::new(value).set_alignment(CellAlignment::Right)
}

/// A share or metric between 0 and 1.
fn share(value: f64) -> Cell {
    number(format!("{value:.3}"))
}

pub(crate) fn coloured(text: impl ToString, shade: Color, colour: bool) -> Cell {
    let cell = Cell::new(text);
    if colour { cell.fg(shade) } else { cell }
}

fn time(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S").to_string()
}

fn optional(text: Option<impl ToString>) -> String {
    text.map_or_else(|| "-".to_owned(), |text| text.to_string())
}
