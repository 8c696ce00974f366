//! Rows of Parquet.

use std::{
    fs::File,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use chrono::DateTime;
use parquet::{
    file::reader::{FileReader, SerializedFileReader},
    record::{Field, Row, reader::RowIter},
    schema::types::Type,
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{Outcome, Problem};

/// Beyond it not every whole number is a floating-point number.
const MAX_WHOLE: f64 = 9_007_199_254_740_992.0;

/// The rows of a file.
pub(super) struct Rows {
    rows: RowIter<'static>,
    read: u64,
    total: u64,
}

impl Rows {
    pub(super) fn new(file: File, columns: Option<&'static [&'static str]>) -> Outcome<Self> {
        let unreadable = |error: parquet::errors::ParquetError| Problem::file(format!("read the footer: {error}"));
        let reader = catch_unwind(|| SerializedFileReader::new(file))
            .map_err(|_| Problem::file("the footer is damaged"))?
            .map_err(unreadable)?;
        let metadata = reader.metadata().file_metadata();
        let total = metadata.num_rows().unsigned_abs();
        let chosen = columns.map(|columns| chosen(metadata.schema(), columns)).transpose()?;
        let rows = RowIter::from_file_into(Box::new(reader)).project(chosen).map_err(unreadable)?;
        Ok(Self { rows, read: 0, total })
    }

    /// The row, counted from 1, and what is in it.
    pub(super) fn next_row<T: DeserializeOwned>(&mut self) -> Option<(u64, Outcome<T>)> {
        // The library panics at some damage. What it leaves behind is not used again: the error ends the reading.
        let row = catch_unwind(AssertUnwindSafe(|| self.rows.next()));
        self.read += 1;
        let row = match row {
            Ok(row) => row?,
            Err(_) => return Some((self.read, Err(Problem::file("the file is damaged")))),
        };
        let outcome = match row {
            Ok(row) => object(&row).and_then(|object| {
                serde_json::from_value(Value::Object(object)).map_err(|error| Problem::row(error.to_string()))
            }),
            Err(error) => Err(Problem::file(error.to_string())),
        };
        Some((self.read, outcome))
    }

    pub(super) fn share(&self) -> f64 {
        if self.total == 0 { 1.0 } else { (self.read as f64 / self.total as f64).min(1.0) }
    }
}

/// The schema of these columns, as far as the file has them.
fn chosen(schema: &Type, columns: &[&str]) -> Outcome<Type> {
    let fields: Vec<Arc<Type>> =
        schema.get_fields().iter().filter(|field| columns.contains(&field.name())).cloned().collect();
    if fields.is_empty() {
        let there: Vec<_> = schema.get_fields().iter().map(|field| field.name()).collect();
        let problem = format!("has none of the columns {}: it has {}", columns.join(", "), there.join(", "));
        return Err(Problem::file(problem));
    }
    let built = Type::group_type_builder(schema.name()).with_fields(fields).build();
    built.map_err(|error| Problem::file(format!("read the schema: {error}")))
}

fn object(row: &Row) -> Outcome<Map<String, Value>> {
    row.get_column_iter()
        .map(|(name, field)| {
            let value = value(field).map_err(|problem| Problem::row(format!("{name}: {problem}")))?;
            Ok((name.clone(), value))
        })
        .collect()
}

/// The value as serde reads it: text from binary columns, times as RFC 3339.
fn value(field: &Field) -> Result<Value, &'static str> {
    let time = |time: Option<DateTime<_>>| {
        time.map(|time| Value::String(time.to_rfc3339())).ok_or("a time that no calendar has")
    };
    match field {
        // Some writers do not mark text as such.
        Field::Bytes(bytes) => {
            let text = bytes.as_utf8().map_err(|_| "binary data that is not UTF-8")?;
            Ok(Value::String(text.to_owned()))
        }
        // A table that knows no missing whole numbers keeps them as floating-point ones.
        Field::Double(number) if number.fract() == 0.0 && number.abs() < MAX_WHOLE => Ok(Value::from(*number as i64)),
        Field::TimestampMillis(millis) => time(DateTime::from_timestamp_millis(*millis)),
        Field::TimestampMicros(micros) => time(DateTime::from_timestamp_micros(*micros)),
        field => Ok(field.to_json_value()),
    }
}
