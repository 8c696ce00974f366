//! Cells in COPY's binary format: PostgreSQL documentation, "COPY", section "Binary Format".

use bytes::{Buf, BytesMut};
use perito_domain::table::{ColumnType, Row, Value};

use crate::error::{Error, ErrorKind, Result};

/// Signature, flags, length of the header's extension.
pub(crate) const HEADER: &[u8; 19] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// The number of fields that stands for the end.
pub(crate) const TRAILER: i16 = -1;
/// Postgres counts days from 2000-01-01.
const EPOCH_DAYS: i32 = 10_957;
/// And microseconds.
const EPOCH_MICROSECONDS: i64 = EPOCH_DAYS as i64 * 86_400_000_000;

/// Bytes to rows, however the bytes are cut.
pub(crate) struct Decoder {
    columns: Vec<ColumnType>,
    buffer: BytesMut,
    begun: bool,
    ended: bool,
}

impl Decoder {
    pub(crate) fn new(columns: Vec<ColumnType>) -> Self {
        Self { columns, buffer: BytesMut::new(), begun: false, ended: false }
    }

    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next row, if all of it is there.
    pub(crate) fn row(&mut self) -> Result<Option<Row>> {
        if !self.begun {
            if self.buffer.len() < HEADER.len() {
                return Ok(None);
            }
            if self.buffer[..HEADER.len()] != HEADER[..] {
                return Err(malformed("its header is unknown"));
            }
            self.buffer.advance(HEADER.len());
            self.begun = true;
        }
        let Some(length) = self.complete()? else { return Ok(None) };
        let mut bytes = &self.buffer[..length];
        if bytes.get_i16() == TRAILER {
            self.ended = true;
            self.buffer.advance(length);
            return Ok(None);
        }
        let mut row = Vec::with_capacity(self.columns.len());
        for kind in &self.columns {
            let Ok(size) = usize::try_from(bytes.get_i32()) else {
                row.push(Value::Null);
                continue;
            };
            row.push(value(*kind, &bytes[..size])?);
            bytes.advance(size);
        }
        self.buffer.advance(length);
        Ok(Some(row))
    }

    /// Checks that the end was the end.
    pub(crate) fn end(&self) -> Result<()> {
        if self.ended && self.buffer.is_empty() { Ok(()) } else { Err(malformed("it ends within a row")) }
    }

    /// How long the next row is, if all of it is there.
    fn complete(&self) -> Result<Option<usize>> {
        let mut rest = &self.buffer[..];
        if rest.len() < 2 {
            return Ok(None);
        }
        let fields = rest.get_i16();
        if fields == TRAILER {
            return Ok(Some(2));
        }
        if usize::try_from(fields) != Ok(self.columns.len()) {
            return Err(malformed(&format!("a row has {fields} fields, expected {}", self.columns.len())));
        }
        for _ in 0..fields {
            if rest.len() < 4 {
                return Ok(None);
            }
            // -1 is null.
            let size = usize::try_from(rest.get_i32()).unwrap_or(0);
            if rest.len() < size {
                return Ok(None);
            }
            rest.advance(size);
        }
        Ok(Some(self.buffer.len() - rest.len()))
    }
}

fn value(kind: ColumnType, bytes: &[u8]) -> Result<Value> {
    Ok(match kind {
        ColumnType::Bool => Value::Bool(array::<1>(bytes)?[0] != 0),
        ColumnType::Int16 => Value::Int16(i16::from_be_bytes(array(bytes)?)),
        ColumnType::Int32 => Value::Int32(i32::from_be_bytes(array(bytes)?)),
        ColumnType::Int64 => Value::Int64(i64::from_be_bytes(array(bytes)?)),
        ColumnType::Float32 => Value::Float32(f32::from_be_bytes(array(bytes)?)),
        ColumnType::Float64 => Value::Float64(f64::from_be_bytes(array(bytes)?)),
        ColumnType::Uuid => Value::Uuid(array(bytes)?),
        ColumnType::Date => Value::Date(shifted(i32::from_be_bytes(array(bytes)?).checked_add(EPOCH_DAYS))?),
        ColumnType::Timestamp => {
            Value::Timestamp(shifted(i64::from_be_bytes(array(bytes)?).checked_add(EPOCH_MICROSECONDS))?)
        }
        ColumnType::Decimal { scale, .. } => Value::Decimal(unscaled(text(bytes)?, scale)?),
        ColumnType::Text => Value::Text(text(bytes)?.to_owned()),
    })
}

/// Appends a cell.
pub(crate) fn encode(buffer: &mut Vec<u8>, value: &Value) -> Result<()> {
    let mut field = |bytes: &[u8]| {
        let length = i32::try_from(bytes.len()).map_err(|_| malformed("a text is longer than 2 GiB"))?;
        buffer.extend_from_slice(&length.to_be_bytes());
        buffer.extend_from_slice(bytes);
        Ok(())
    };
    match value {
        Value::Null => buffer.extend_from_slice(&(-1_i32).to_be_bytes()),
        Value::Bool(value) => field(&[u8::from(*value)])?,
        Value::Int16(value) => field(&value.to_be_bytes())?,
        Value::Int32(value) => field(&value.to_be_bytes())?,
        Value::Int64(value) => field(&value.to_be_bytes())?,
        Value::Float32(value) => field(&value.to_be_bytes())?,
        Value::Float64(value) => field(&value.to_be_bytes())?,
        Value::Uuid(value) => field(value)?,
        Value::Date(days) => field(&shifted(days.checked_sub(EPOCH_DAYS))?.to_be_bytes())?,
        Value::Timestamp(at) => field(&shifted(at.checked_sub(EPOCH_MICROSECONDS))?.to_be_bytes())?,
        // An enum travels as its label.
        Value::Text(value) => field(value.as_bytes())?,
        Value::Decimal(_) => return Err(Error::new(ErrorKind::Invalid, "decimals cannot be copied into a table")),
    }
    Ok(())
}

fn array<const N: usize>(bytes: &[u8]) -> Result<[u8; N]> {
    bytes.try_into().map_err(|_| malformed(&format!("a field of {N} bytes has {}", bytes.len())))
}

fn text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|_| malformed("a text is not UTF-8"))
}

fn shifted<T>(moment: Option<T>) -> Result<T> {
    moment.ok_or_else(|| Error::new(ErrorKind::Invalid, "a time is infinite, which files cannot hold"))
}

/// `12.5` with two digits after the point is 1250.
fn unscaled(text: &str, scale: u8) -> Result<i128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = format!("{whole}{fraction:0<width$}", width = usize::from(scale));
    digits.parse().map_err(|_| Error::new(ErrorKind::Invalid, format!("{text} is no decimal that files can hold")))
}

fn malformed(what: &str) -> Error {
    Error::new(ErrorKind::Internal, format!("read the copy: {what}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn cells_come_back_however_the_bytes_are_cut() {
        let row = vec![
            Value::Bool(true),
            Value::Int64(-7),
            Value::Null,
            Value::Float32(f32::NAN),
            Value::Text("Größe\n".to_owned()),
            Value::Uuid([9; 16]),
            Value::Date(-1),
            Value::Timestamp(1_700_000_000_123_456),
        ];
        let columns = vec![
            ColumnType::Bool,
            ColumnType::Int64,
            ColumnType::Int16,
            ColumnType::Float32,
            ColumnType::Text,
            ColumnType::Uuid,
            ColumnType::Date,
            ColumnType::Timestamp,
        ];
        let mut bytes = HEADER.to_vec();
        for _ in 0..3 {
            bytes.extend_from_slice(&8_i16.to_be_bytes());
            row.iter().for_each(|value| encode(&mut bytes, value).unwrap());
        }
        bytes.extend_from_slice(&TRAILER.to_be_bytes());
        for size in [1, 7, bytes.len()] {
            let mut decoder = Decoder::new(columns.clone());
            let mut rows = Vec::new();
            for part in bytes.chunks(size) {
                decoder.feed(part);
                while let Some(row) = decoder.row().unwrap() {
                    rows.push(row);
                }
            }
            decoder.end().unwrap();
            // NaN is not equal to itself.
            assert_eq!(format!("{rows:?}"), format!("{:?}", vec![&row; 3]));
        }
        let mut cut = Decoder::new(columns);
        cut.feed(&bytes[..bytes.len() - 3]);
        while cut.row().unwrap().is_some() {}
        assert!(cut.end().is_err());
    }

    #[test]
    fn decimals_are_scaled() {
        for (text, scale, expected) in
            [("18446744073709551615", 0, 18_446_744_073_709_551_615), ("-12.5", 2, -1250), ("0.05", 2, 5)]
        {
            assert_eq!(unscaled(text, scale).unwrap(), expected);
        }
        assert!(unscaled("NaN", 0).is_err());
    }
}
