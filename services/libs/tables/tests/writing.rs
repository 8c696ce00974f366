//! What is written comes back: by cells, and as any other file of Parquet.
#![allow(clippy::unwrap_used)]

use perito_domain::table::{Column, ColumnType, Row, Value};
use perito_tables::{CellReader, ErrorKind, ParquetWriter, Reader};

fn columns() -> Vec<Column> {
    use ColumnType::{Bool, Date, Decimal, Float32, Float64, Int16, Int32, Int64, Text, Timestamp, Uuid};
    [
        ("run", Uuid),
        ("image_id", Int64),
        ("severity", Text),
        ("p_severe", Float32),
        ("share", Float64),
        ("bin", Int16),
        ("version", Int32),
        ("is_best", Bool),
        ("day", Date),
        ("scored_at", Timestamp),
        ("seed", Decimal { precision: 20, scale: 0 }),
    ]
    .map(|(name, kind)| Column { name: name.to_owned(), kind })
    .into()
}

fn row(number: i64) -> Row {
    if number % 7 == 6 {
        return vec![Value::Null; 11];
    }
    vec![
        Value::Uuid([number as u8; 16]),
        Value::Int64(number),
        Value::Text(["minor", "moderate", "größte"][number as usize % 3].to_owned()),
        Value::Float32(0.1 * number as f32),
        Value::Float64(1.0 / (number + 1) as f64),
        Value::Int16(-3),
        Value::Int32(7),
        Value::Bool(number % 2 == 0),
        Value::Date(20_000),
        Value::Timestamp(1_700_000_000_123_456),
        Value::Decimal(18_446_744_073_709_551_615),
    ]
}

#[test]
fn every_type_comes_back_as_it_was() {
    let file = tempfile::Builder::new().suffix(".parquet").tempfile().unwrap();
    let mut writer = ParquetWriter::new("test", file.reopen().unwrap(), &columns()).unwrap();
    // More than one row group has.
    let count = 300_000;
    for number in 0..count {
        writer.write(row(number)).unwrap();
    }
    assert_eq!(writer.finish().unwrap(), count as u64);
    let reader = CellReader::open(file.path(), &columns()).unwrap();
    assert_eq!(reader.total(), count as u64);
    let mut read = 0;
    for found in reader {
        assert_eq!(found.unwrap(), row(read));
        read += 1;
    }
    assert_eq!(read, count);
    // And for any other reader.
    let first: serde_json::Value =
        Reader::open(file.path(), &Default::default()).unwrap().next().unwrap().unwrap().value;
    assert_eq!((&first["severity"], &first["image_id"]), (&"minor".into(), &0.into()));
    assert!(first["scored_at"].as_str().unwrap().starts_with("2023-11-14T22:13:20.123456"), "{first}");
}

#[test]
fn an_empty_table_is_a_file_too() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let writer = ParquetWriter::new("test", file.reopen().unwrap(), &columns()).unwrap();
    assert_eq!(writer.finish().unwrap(), 0);
    assert_eq!(CellReader::open(file.path(), &columns()).unwrap().count(), 0);
}

#[test]
fn what_does_not_fit_is_refused_by_row() {
    let mut writer = ParquetWriter::new("test", Vec::new(), &columns()).unwrap();
    writer.write(row(0)).unwrap();
    let mut wrong = row(1);
    wrong[0] = Value::Int64(1);
    let refused = writer.write(wrong).unwrap_err();
    assert!(refused.kind() == ErrorKind::Row && refused.to_string().contains("row 2"), "{refused}");
    assert!(writer.write(vec![Value::Null]).is_err());
    let other = tempfile::NamedTempFile::new().unwrap();
    ParquetWriter::new("test", other.reopen().unwrap(), &columns()[1..]).unwrap().finish().unwrap();
    let refused = CellReader::open(other.path(), &columns()).err().unwrap();
    assert!(refused.to_string().contains("expected run, image_id"), "{refused}");
}
