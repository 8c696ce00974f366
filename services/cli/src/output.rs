//! Standard output: a table for people or JSON for programs, never both, and nothing else.

use std::{
    borrow::Cow,
    io::{ErrorKind, IsTerminal, Write},
};

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
        if self.json { print(&answer.text) } else { print(&printable(&render(&answer.value), self.colour)) }
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
        if self.json { print(&document.to_string()) } else { print(&printable(&render(), self.colour)) }
    }
}

/// Text for a terminal. What somebody wrote into a key, a reason or a file's name can neither move the cursor, nor ring, nor turn the
/// direction of writing: such characters are shown as their codes. Of escape sequences only this program's own colours are left.
pub(crate) fn printable(text: &str, colour: bool) -> Cow<'_, str> {
    let hostile = |c: char| {
        c.is_control() && !matches!(c, '\n' | '\t') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(hostile) {
        return text.into();
    }
    let mut safe = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(hostile) {
        safe.push_str(&rest[..at]);
        rest = &rest[at..];
        let own = if colour { colour_sequence(rest) } else { 0 };
        if own > 0 {
            safe.push_str(&rest[..own]);
            rest = &rest[own..];
        } else if let Some(character) = rest.chars().next() {
            safe.extend(character.escape_default());
            rest = &rest[character.len_utf8()..];
        }
    }
    safe.push_str(rest);
    safe.into()
}

/// The length of the colour (SGR) that a text begins with, or 0.
fn colour_sequence(text: &str) -> usize {
    let Some(codes) = text.strip_prefix("\x1b[") else { return 0 };
    let digits = codes.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b';').count();
    if codes.as_bytes().get(digits) == Some(&b'm') { 2 + digits + 1 } else { 0 }
}

/// Writes to standard output. A reader that has seen enough (`perito job list | head`) is no error.
fn print(text: &str) -> anyhow::Result<()> {
    match writeln!(std::io::stdout().lock(), "{}", text.trim_end()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("write the result"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn what_somebody_wrote_cannot_steer_the_terminal() {
        let text = "claims/\u{1b}[2J\u{7}a\r\u{9b}31m\u{202e}gpj.exe\tb\n\u{1b}[31mred\u{1b}[0m";
        let plain = "claims/\\u{1b}[2J\\u{7}a\\r\\u{9b}31m\\u{202e}gpj.exe\tb\n";
        assert_eq!(printable(text, false), format!("{plain}\\u{{1b}}[31mred\\u{{1b}}[0m"));
        assert_eq!(printable(text, true), format!("{plain}\u{1b}[31mred\u{1b}[0m"));
        assert_eq!(printable("│ claim é 車 │\n", false), "│ claim é 車 │\n");
    }
}
