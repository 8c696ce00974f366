//! Views and their columns.

use std::fmt::Write as _;

use comfy_table::Cell;
use perito_database::View;

use super::table;

/// All views.
pub fn views(views: &[View]) -> String {
    let mut table = table(&["view", "columns", "what it holds"]);
    for view in views {
        table.add_row([
            Cell::new(format!("analytics.{}", view.name)),
            super::number(view.columns.len()),
            Cell::new(&view.comment),
        ]);
    }
    table.to_string()
}

/// A view's columns.
pub fn view(view: &View) -> String {
    let mut table = table(&["column", "type", "what it holds"]);
    for column in &view.columns {
        table.add_row([&column.name, &column.sql_type, &column.comment]);
    }
    format!("analytics.{}: {}\n{table}", view.name, view.comment)
}

/// The page of all views and columns.
pub fn dictionary(views: &[View]) -> String {
    let mut page = String::from(
        "# Data dictionary\n\n\
         The views of the schema `analytics`: what analysts see. Columns are added and never get another meaning. A run's rows appear in the\n\
         moment in which it ends successfully, all of them.\n\n\
         This page is made from the comments in the database by `make dictionary`; `perito views` shows the same.\n\n\
         | view | what it holds |\n|---|---|\n",
    );
    // Writing to a string cannot fail.
    for view in views {
        let _ = writeln!(page, "| [{0}](#{0}) | {1} |", view.name, cell(&view.comment));
    }
    for view in views {
        let _ = write!(
            page,
            "\n## {}\n\n{}\n\n| column | type | what it holds |\n|---|---|---|\n",
            view.name, view.comment
        );
        for column in &view.columns {
            let _ = writeln!(page, "| `{}` | {} | {} |", column.name, cell(&column.sql_type), cell(&column.comment));
        }
    }
    page
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
