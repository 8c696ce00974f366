//! Rows of JSON Lines.

use std::io::{BufRead, BufReader, Read};

use perito_domain::limits::MAX_ROW_BYTES;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{
    Outcome, Problem,
    counted::{Counted, Counts},
};

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The rows of a stream.
pub(super) struct Rows {
    reader: BufReader<Counted>,
    counts: Counts,
    length: Option<u64>,
    columns: Option<&'static [&'static str]>,
    line: u64,
    bytes: Vec<u8>,
}

impl Rows {
    pub(super) fn new(
        stream: Box<dyn Read + Send>,
        length: Option<u64>,
        columns: Option<&'static [&'static str]>,
    ) -> Self {
        let (stream, counts) = Counted::new(stream);
        Self { reader: BufReader::new(stream), counts, length, columns, line: 0, bytes: Vec::new() }
    }

    /// The line, and what is in it. Empty lines are passed over.
    pub(super) fn next_row<T: DeserializeOwned>(&mut self) -> Option<(u64, Outcome<T>)> {
        loop {
            self.bytes.clear();
            self.line += 1;
            self.counts.allow(MAX_ROW_BYTES);
            match self.reader.read_until(b'\n', &mut self.bytes) {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) => return Some((self.line, Err(Problem::file(error.to_string())))),
            }
            let mark = if self.line == 1 { BYTE_ORDER_MARK } else { b"" };
            let text = self.bytes.strip_prefix(mark).unwrap_or(&self.bytes).trim_ascii();
            if !text.is_empty() {
                return Some((self.line, self.parse(text).map_err(Problem::row)));
            }
        }
    }

    fn parse<T: DeserializeOwned>(&self, text: &[u8]) -> Result<T, String> {
        // Serde would read an array into a structure too, by position.
        if text[0] != b'{' {
            return Err("is not a JSON object: expected {\"…\": …} on each line".to_owned());
        }
        let parsed = match self.columns {
            None => serde_json::from_slice(text),
            Some(columns) => serde_json::from_slice(text).and_then(|mut object: Map<String, Value>| {
                object.retain(|name, _| columns.contains(&name.as_str()));
                serde_json::from_value(Value::Object(object))
            }),
        };
        // The line is the file's, and said already.
        parsed.map_err(|error| error.to_string().replace(" at line 1 column ", " at column "))
    }

    pub(super) fn share(&self) -> Option<f64> {
        self.length.map(|length| self.counts.share(length))
    }
}
