//! Reading Parquet that [`crate::ParquetWriter`] wrote, cell by cell as it was.

use std::{fs::File, path::Path, sync::Arc};

use parquet::{
    file::reader::{FileReader, SerializedFileReader},
    record::{Field, reader::RowIter},
};
use perito_domain::table::{Column, ColumnType, Row, Value};

use crate::error::{Error, ErrorKind, Place, Result};

/// The rows of a file, in its order.
pub struct CellReader {
    file: Arc<str>,
    kinds: Vec<ColumnType>,
    rows: RowIter<'static>,
    total: u64,
    read: u64,
}

impl CellReader {
    /// Opens a file that has exactly these columns.
    ///
    /// # Errors
    /// It cannot be read, or has other columns.
    pub fn open(path: &Path, columns: &[Column]) -> Result<Self> {
        let file: Arc<str> = path.display().to_string().into();
        let refused = |problem: String| {
            Error::new(ErrorKind::File, Place { file: file.clone(), number: None, unit: "row" }, problem)
        };
        let opened = File::open(path).map_err(|error| refused(format!("open: {error}")))?;
        let reader = SerializedFileReader::new(opened).map_err(|error| refused(format!("read the footer: {error}")))?;
        let metadata = reader.metadata().file_metadata();
        let total = metadata.num_rows().unsigned_abs();
        let found: Vec<_> = metadata.schema().get_fields().iter().map(|field| field.name().to_owned()).collect();
        let expected: Vec<_> = columns.iter().map(|column| column.name.as_str()).collect();
        if found != expected {
            return Err(refused(format!("has the columns {}, expected {}", found.join(", "), expected.join(", "))));
        }
        let kinds = columns.iter().map(|column| column.kind).collect();
        Ok(Self { kinds, rows: RowIter::from_file_into(Box::new(reader)), file, total, read: 0 })
    }

    /// How many rows the file says it has.
    pub fn total(&self) -> u64 {
        self.total
    }
}

impl Iterator for CellReader {
    type Item = Result<Row>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.rows.next()?;
        self.read += 1;
        let cells = row.map_err(|error| error.to_string()).and_then(|row| -> std::result::Result<Row, String> {
            let cells = row.get_column_iter().zip(&self.kinds);
            cells
                .map(|((name, field), kind)| {
                    value(field, *kind).ok_or_else(|| format!("{name}: {field} is no {kind:?}"))
                })
                .collect()
        });
        Some(cells.map_err(|problem: String| {
            let place = Place { file: self.file.clone(), number: Some(self.read), unit: "row" };
            Error::new(ErrorKind::File, place, problem)
        }))
    }
}

fn value(field: &Field, kind: ColumnType) -> Option<Value> {
    Some(match (field, kind) {
        (Field::Null, _) => Value::Null,
        (Field::Bool(value), ColumnType::Bool) => Value::Bool(*value),
        (Field::Short(value), ColumnType::Int16) => Value::Int16(*value),
        (Field::Int(value), ColumnType::Int32) => Value::Int32(*value),
        (Field::Long(value), ColumnType::Int64) => Value::Int64(*value),
        (Field::Float(value), ColumnType::Float32) => Value::Float32(*value),
        (Field::Double(value), ColumnType::Float64) => Value::Float64(*value),
        (Field::Str(value), ColumnType::Text) => Value::Text(value.clone()),
        (Field::Bytes(value), ColumnType::Uuid) => Value::Uuid(value.data().try_into().ok()?),
        (Field::Date(value), ColumnType::Date) => Value::Date(*value),
        (Field::TimestampMicros(value), ColumnType::Timestamp) => Value::Timestamp(*value),
        (Field::Decimal(value), ColumnType::Decimal { .. }) => {
            Value::Decimal(i128::from_be_bytes(value.data().try_into().ok()?))
        }
        _ => return None,
    })
}
