//! Rows of CSV.

use std::io::Read;

use csv::{ErrorKind, Reader, ReaderBuilder, StringRecord, Trim};
use perito_domain::limits::MAX_ROW_BYTES;
use serde::de::DeserializeOwned;

use super::{
    Outcome, Problem,
    counted::{Counted, Counts},
};

/// As much of a value as an error shows.
const SHOWN_CHARS: usize = 64;

/// The rows of a stream.
pub(super) struct Rows {
    reader: Reader<Counted>,
    counts: Counts,
    length: Option<u64>,
    header: StringRecord,
    /// Which fields are read, when not all are.
    fields: Option<Vec<usize>>,
    record: StringRecord,
    /// What positions lack where lines end with CR LF: the LF is counted with the next row.
    behind: u64,
}

impl Rows {
    pub(super) fn new(
        stream: Box<dyn Read + Send>,
        length: Option<u64>,
        columns: Option<&'static [&'static str]>,
    ) -> Outcome<Self> {
        let (stream, counts) = Counted::new(stream);
        counts.allow(MAX_ROW_BYTES);
        let mut reader = ReaderBuilder::new().trim(Trim::Headers).from_reader(stream);
        let header =
            reader.headers().map_err(|error| Problem::file(format!("read the header: {}", problem(&error))))?;
        let header = header.clone();
        let behind = u64::from(reader.position().line() == 1);
        if header.is_empty() {
            return Err(Problem::file("is empty: expected a header, as in bucket,key,…"));
        }
        let twice =
            header.iter().enumerate().find(|(index, name)| header.iter().take(*index).any(|other| other == *name));
        if let Some((_, name)) = twice {
            return Err(Problem::file(format!("its header names {name:?} twice")));
        }
        let fields: Option<Vec<usize>> = columns.map(|columns| {
            header.iter().enumerate().filter(|(_, name)| columns.contains(name)).map(|(index, _)| index).collect()
        });
        let header = fields.as_ref().map_or_else(|| header.clone(), |fields| chosen(&header, fields));
        Ok(Self { reader, counts, length, header, fields, record: StringRecord::new(), behind })
    }

    /// The line, and what is in it.
    pub(super) fn next_row<T: DeserializeOwned>(&mut self) -> Option<(u64, Outcome<T>)> {
        self.counts.allow(MAX_ROW_BYTES);
        let before = self.reader.position().line();
        let read = self.reader.read_record(&mut self.record);
        let line = self.record.position().map_or(before, csv::Position::line) + self.behind;
        match read {
            Ok(false) => return None,
            Ok(true) => {}
            Err(error) => {
                let text = problem(&error);
                let lost = matches!(error.kind(), ErrorKind::Io(_) | ErrorKind::Seek);
                let line = error.position().map_or(line, |position| position.line() + self.behind);
                return Some((line, Err(if lost { Problem::file(text) } else { Problem::row(text) })));
            }
        }
        let record = self.fields.as_ref().map(|fields| chosen(&self.record, fields));
        let record = record.as_ref().unwrap_or(&self.record);
        let outcome = record.deserialize(Some(&self.header)).map_err(|error| {
            let ErrorKind::Deserialize { err, .. } = error.kind() else { return Problem::row(problem(&error)) };
            let field = err.field().and_then(|index| usize::try_from(index).ok());
            let named = field.and_then(|index| Some((self.header.get(index)?, record.get(index)?)));
            Problem::row(match named {
                Some((name, value)) => format!("{name} {}: {}", shown(value), err.kind()),
                None => err.kind().to_string(),
            })
        });
        Some((line, outcome))
    }

    pub(super) fn share(&self) -> Option<f64> {
        self.length.map(|length| self.counts.share(length))
    }
}

fn chosen(record: &StringRecord, fields: &[usize]) -> StringRecord {
    fields.iter().filter_map(|index| record.get(*index)).collect()
}

fn shown(value: &str) -> String {
    let start: String = value.chars().take(SHOWN_CHARS).collect();
    if start.len() == value.len() { format!("{value:?}") } else { format!("{start:?}…") }
}

/// The error without the place, which the caller gives.
fn problem(error: &csv::Error) -> String {
    match error.kind() {
        ErrorKind::Io(error) => error.to_string(),
        ErrorKind::Utf8 { err, .. } => format!("is not UTF-8 in its field {}", err.field() + 1),
        ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("has {len} fields, the header has {expected_len}")
        }
        _ => error.to_string(),
    }
}
