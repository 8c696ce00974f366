//! Rows, one at a time.

mod counted;
mod csv;
mod json_lines;
mod parquet;

use std::{fs::File, io::Read, marker::PhantomData, path::Path, sync::Arc};

use serde::de::DeserializeOwned;

use crate::{
    error::{Error, ErrorKind, Place, Result},
    format::Format,
};

/// How to read a file.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReadOptions {
    /// Its format; by its ending when absent.
    pub format: Option<Format>,
    /// The columns that are read; others are passed over. All of them when absent, and then it is the rows' type that decides
    /// whether unknown ones are refused.
    pub columns: Option<&'static [&'static str]>,
}

/// A row, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row<T> {
    /// The file, and the line or row.
    pub place: Place,
    /// What is in it.
    pub value: T,
}

/// What is wrong with a row or with the file.
struct Problem {
    kind: ErrorKind,
    text: String,
}

impl Problem {
    fn row(text: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Row, text: text.into() }
    }

    fn file(text: impl Into<String>) -> Self {
        Self { kind: ErrorKind::File, text: text.into() }
    }
}

type Outcome<T> = std::result::Result<T, Problem>;

enum Source {
    Csv(Box<csv::Rows>),
    JsonLines(json_lines::Rows),
    Parquet(Box<parquet::Rows>),
}

/// The rows of a file, in its order. A row that is wrong is an error of kind [`ErrorKind::Row`], and the next one follows; after any
/// other error there is nothing more.
///
/// Reading blocks the thread.
pub struct Reader<T> {
    file: Arc<str>,
    source: Source,
    ended: bool,
    rows: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Reader<T> {
    /// Opens a file.
    ///
    /// # Errors
    /// It cannot be opened, its format is unknown, or it has no header or footer that can be read.
    pub fn open(path: &Path, options: &ReadOptions) -> Result<Self> {
        let name: Arc<str> = path.display().to_string().into();
        let refused = |problem: String| Error::new(ErrorKind::File, whole(&name), problem);
        let format = options.format.or_else(|| Format::of(path)).ok_or_else(|| {
            refused("its ending tells no format: expected .csv, .jsonl or .parquet, or say which it is".to_owned())
        })?;
        let file = File::open(path).map_err(|error| refused(format!("open: {error}")))?;
        let length = file.metadata().map_err(|error| refused(format!("look at it: {error}")))?.len();
        let source = match format {
            Format::Parquet => parquet::Rows::new(file, options.columns).map(|rows| Source::Parquet(Box::new(rows))),
            _ => text(format, Box::new(file), Some(length), options.columns),
        };
        Self::with(name, source)
    }

    /// Reads from a stream, such as standard input, which goes by `name` in errors.
    ///
    /// # Errors
    /// It has no header that can be read, or the format is Parquet, which is read from its end.
    pub fn from_stream(
        name: &str,
        stream: Box<dyn Read + Send>,
        format: Format,
        options: &ReadOptions,
    ) -> Result<Self> {
        Self::with(name.into(), text(format, stream, None, options.columns))
    }

    fn with(file: Arc<str>, source: Outcome<Source>) -> Result<Self> {
        match source {
            Ok(source) => Ok(Self { file, source, ended: false, rows: PhantomData }),
            Err(problem) => Err(Error::new(problem.kind, whole(&file), problem.text)),
        }
    }

    /// The share of the file that was read, 0 to 1; `None` for a stream.
    pub fn share(&self) -> Option<f64> {
        match &self.source {
            Source::Csv(rows) => rows.share(),
            Source::JsonLines(rows) => rows.share(),
            Source::Parquet(rows) => Some(rows.share()),
        }
    }
}

fn text(
    format: Format,
    stream: Box<dyn Read + Send>,
    length: Option<u64>,
    columns: Option<&'static [&'static str]>,
) -> Outcome<Source> {
    match format {
        Format::Csv => csv::Rows::new(stream, length, columns).map(|rows| Source::Csv(Box::new(rows))),
        Format::JsonLines => Ok(Source::JsonLines(json_lines::Rows::new(stream, length, columns))),
        Format::Parquet => Err(Problem::file("Parquet is read from its end: give a file instead of a stream")),
    }
}

fn whole(file: &Arc<str>) -> Place {
    Place { file: Arc::clone(file), number: None, unit: "" }
}

impl<T: DeserializeOwned> Iterator for Reader<T> {
    type Item = Result<Row<T>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let (unit, (number, outcome)) = match &mut self.source {
            Source::Csv(rows) => ("line", rows.next_row()?),
            Source::JsonLines(rows) => ("line", rows.next_row()?),
            Source::Parquet(rows) => ("row", rows.next_row()?),
        };
        let place = Place { file: Arc::clone(&self.file), number: Some(number), unit };
        Some(match outcome {
            Ok(value) => Ok(Row { place, value }),
            Err(problem) => {
                self.ended = problem.kind == ErrorKind::File;
                Err(Error::new(problem.kind, place, problem.text))
            }
        })
    }
}
