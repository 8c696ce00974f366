//! Standard output: a table for people or JSON for programs, never both, and nothing else.

use std::io::{ErrorKind, IsTerminal, Write};

use anyhow::Context as _;
use serde_json::Value;

use crate::api::Answer;

/// How results are written.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    json: bool,
    /// Whether results may have colours.
    pub colour: bool,
}

impl Output {
    /// JSON, or tables with colours where a terminal shows them and `NO_COLOR` (<https://no-color.org>) is not set.
    pub fn new(json: bool) -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { json, colour: !unwanted && std::io::stdout().is_terminal() }
    }

    /// Whether results are JSON.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// An answer of the API: its JSON as it came, or what `render` makes of it.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn answer<T>(&self, answer: &Answer<T>, render: impl FnOnce(&T) -> String) -> anyhow::Result<()> {
        if self.json { print(&answer.text) } else { print(&render(&answer.value)) }
    }

    /// A text as it is, whatever was asked for.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn text(&self, text: &str) -> anyhow::Result<()> {
        print(text)
    }

    /// A result of this program's own: a JSON document, or what `render` says.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn document(&self, document: &Value, render: impl FnOnce() -> String) -> anyhow::Result<()> {
        if self.json { print(&document.to_string()) } else { print(&render()) }
    }
}

/// Writes to standard output. A reader that has seen enough (`perito job list | head`) is no error.
fn print(text: &str) -> anyhow::Result<()> {
    match writeln!(std::io::stdout().lock(), "{}", text.trim_end()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("write the result"),
        _ => Ok(()),
    }
}
