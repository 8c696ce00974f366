//! Writing Parquet: rows of typed cells, a row group of them in memory.

use std::{io::Write, sync::Arc};

use parquet::{
    basic::{Compression, LogicalType, Repetition, TimeUnit, Type as Physical, ZstdLevel},
    data_type::{
        BoolType, ByteArray, ByteArrayType, DoubleType, FixedLenByteArray, FixedLenByteArrayType, FloatType, Int32Type,
        Int64Type,
    },
    errors::ParquetError,
    file::{properties::WriterProperties, writer::SerializedFileWriter},
    schema::types::Type,
};
use perito_domain::table::{Column, ColumnType, Row, Value};

use crate::error::{Error, ErrorKind, Place, Result};

/// A row group has so many rows,
const GROUP_ROWS: usize = 262_144;
/// or about so many bytes before they are encoded, whichever comes first.
const GROUP_BYTES: usize = 64 * 1024 * 1024;

/// Writes a file of Parquet, compressed with Zstandard.
///
/// Texts, and so classes, are strings, encoded by dictionary where that is shorter; times are in microseconds, UTC; UUIDs and
/// decimals have types of their own. Every column may have nulls.
pub struct ParquetWriter<W: Write + Send> {
    file: Arc<str>,
    writer: SerializedFileWriter<W>,
    columns: Vec<Chunk>,
    rows: usize,
    bytes: usize,
    written: u64,
}

/// What is written of one column next.
struct Chunk {
    kind: ColumnType,
    cells: Cells,
    /// 1 where there is a value, 0 where there is none.
    levels: Vec<i16>,
}

enum Cells {
    Bool(Vec<bool>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Float(Vec<f32>),
    Double(Vec<f64>),
    Bytes(Vec<ByteArray>),
    Fixed(Vec<FixedLenByteArray>),
}

impl<W: Write + Send> ParquetWriter<W> {
    /// Begins a file that goes by `name` in errors.
    ///
    /// # Errors
    /// The sink fails, or two columns have one name.
    pub fn new(name: &str, sink: W, columns: &[Column]) -> Result<Self> {
        let file: Arc<str> = name.into();
        let refused = |error: ParquetError| failed(&file, &error);
        let fields = columns
            .iter()
            .map(|column| field(column).map(Arc::new))
            .collect::<std::result::Result<_, _>>()
            .map_err(refused)?;
        let schema = Type::group_type_builder("schema").with_fields(fields).build().map_err(refused)?;
        let level = ZstdLevel::try_new(3).map_err(refused)?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(level))
            .set_created_by(format!("perito {}", env!("CARGO_PKG_VERSION")))
            .build();
        let writer = SerializedFileWriter::new(sink, Arc::new(schema), Arc::new(properties)).map_err(refused)?;
        let columns = columns.iter().map(|column| Chunk::new(column.kind)).collect();
        Ok(Self { file, writer, columns, rows: 0, bytes: 0, written: 0 })
    }

    /// Appends a row.
    ///
    /// # Errors
    /// The row is not of the columns' types, or the sink fails.
    pub fn write(&mut self, row: Row) -> Result<()> {
        if row.len() != self.columns.len() {
            return Err(self.wrong(format!("a row has {} cells, expected {}", row.len(), self.columns.len())));
        }
        for (chunk, value) in self.columns.iter_mut().zip(row) {
            self.bytes += chunk.push(value).map_err(|value| {
                let place = Place { file: self.file.clone(), number: Some(self.written + 1), unit: "row" };
                Error::new(ErrorKind::Row, place, format!("{value:?} in a column of {:?}", chunk.kind))
            })?;
        }
        self.rows += 1;
        self.written += 1;
        if self.rows >= GROUP_ROWS || self.bytes >= GROUP_BYTES { self.end_group() } else { Ok(()) }
    }

    /// Writes what is left and the footer; the number of rows.
    ///
    /// # Errors
    /// The sink fails.
    pub fn finish(mut self) -> Result<u64> {
        if self.rows > 0 {
            self.end_group()?;
        }
        let Self { file, writer, written, .. } = self;
        // Which writes the footer too.
        let mut sink = writer.into_inner().map_err(|error| failed(&file, &error))?;
        sink.flush().map_err(|error| failed(&file, &error.into()))?;
        Ok(written)
    }

    fn end_group(&mut self) -> Result<()> {
        self.rows = 0;
        self.bytes = 0;
        let mut group = || {
            let mut group = self.writer.next_row_group()?;
            for chunk in &mut self.columns {
                let mut column =
                    group.next_column()?.ok_or_else(|| ParquetError::General("a column less".to_owned()))?;
                let levels = Some(std::mem::take(&mut chunk.levels));
                let levels = levels.as_deref();
                match std::mem::replace(&mut chunk.cells, Cells::new(chunk.kind)) {
                    Cells::Bool(cells) => column.typed::<BoolType>().write_batch(&cells, levels, None)?,
                    Cells::Int32(cells) => column.typed::<Int32Type>().write_batch(&cells, levels, None)?,
                    Cells::Int64(cells) => column.typed::<Int64Type>().write_batch(&cells, levels, None)?,
                    Cells::Float(cells) => column.typed::<FloatType>().write_batch(&cells, levels, None)?,
                    Cells::Double(cells) => column.typed::<DoubleType>().write_batch(&cells, levels, None)?,
                    Cells::Bytes(cells) => column.typed::<ByteArrayType>().write_batch(&cells, levels, None)?,
                    Cells::Fixed(cells) => column.typed::<FixedLenByteArrayType>().write_batch(&cells, levels, None)?,
                };
                column.close()?;
            }
            group.close().map(drop)
        };
        group().map_err(|error| failed(&self.file, &error))
    }

    fn wrong(&self, problem: String) -> Error {
        let place = Place { file: self.file.clone(), number: Some(self.written + 1), unit: "row" };
        Error::new(ErrorKind::Row, place, problem)
    }
}

impl Cells {
    fn new(kind: ColumnType) -> Self {
        match kind {
            ColumnType::Bool => Self::Bool(Vec::new()),
            ColumnType::Int16 | ColumnType::Int32 | ColumnType::Date => Self::Int32(Vec::new()),
            ColumnType::Int64 | ColumnType::Timestamp => Self::Int64(Vec::new()),
            ColumnType::Float32 => Self::Float(Vec::new()),
            ColumnType::Float64 => Self::Double(Vec::new()),
            ColumnType::Text => Self::Bytes(Vec::new()),
            ColumnType::Uuid | ColumnType::Decimal { .. } => Self::Fixed(Vec::new()),
        }
    }
}

impl Chunk {
    fn new(kind: ColumnType) -> Self {
        Self { kind, cells: Cells::new(kind), levels: Vec::new() }
    }

    /// Takes a value; about how many bytes that are. The value comes back if it is not of the column's type.
    fn push(&mut self, value: Value) -> std::result::Result<usize, Value> {
        let mut size = 8;
        match (&mut self.cells, value) {
            (_, Value::Null) => {
                self.levels.push(0);
                return Ok(2);
            }
            (Cells::Bool(cells), Value::Bool(value)) => cells.push(value),
            (Cells::Int32(cells), Value::Int16(value)) if self.kind == ColumnType::Int16 => cells.push(value.into()),
            (Cells::Int32(cells), Value::Int32(value)) if self.kind == ColumnType::Int32 => cells.push(value),
            (Cells::Int32(cells), Value::Date(value)) if self.kind == ColumnType::Date => cells.push(value),
            (Cells::Int64(cells), Value::Int64(value)) if self.kind == ColumnType::Int64 => cells.push(value),
            (Cells::Int64(cells), Value::Timestamp(value)) if self.kind == ColumnType::Timestamp => cells.push(value),
            (Cells::Float(cells), Value::Float32(value)) => cells.push(value),
            (Cells::Double(cells), Value::Float64(value)) => cells.push(value),
            (Cells::Bytes(cells), Value::Text(value)) => {
                // The text, and what holds it.
                size = value.len() + 64;
                cells.push(ByteArray::from(value.into_bytes()));
            }
            (Cells::Fixed(cells), Value::Uuid(value)) if self.kind == ColumnType::Uuid => {
                size = 80;
                cells.push(ByteArray::from(value.to_vec()).into());
            }
            (Cells::Fixed(cells), Value::Decimal(value)) if self.kind != ColumnType::Uuid => {
                size = 80;
                cells.push(ByteArray::from(value.to_be_bytes().to_vec()).into());
            }
            (_, value) => return Err(value),
        }
        self.levels.push(1);
        Ok(size)
    }
}

/// Parquet's types: <https://github.com/apache/parquet-format/blob/master/LogicalTypes.md>.
fn field(column: &Column) -> std::result::Result<Type, ParquetError> {
    let (physical, logical) = match column.kind {
        ColumnType::Bool => (Physical::BOOLEAN, None),
        ColumnType::Int16 => (Physical::INT32, Some(LogicalType::integer(16, true))),
        ColumnType::Int32 => (Physical::INT32, None),
        ColumnType::Int64 => (Physical::INT64, None),
        ColumnType::Float32 => (Physical::FLOAT, None),
        ColumnType::Float64 => (Physical::DOUBLE, None),
        ColumnType::Decimal { precision, scale } => {
            (Physical::FIXED_LEN_BYTE_ARRAY, Some(LogicalType::decimal(scale.into(), precision.into())))
        }
        ColumnType::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        ColumnType::Uuid => (Physical::FIXED_LEN_BYTE_ARRAY, Some(LogicalType::Uuid)),
        ColumnType::Date => (Physical::INT32, Some(LogicalType::Date)),
        ColumnType::Timestamp => (Physical::INT64, Some(LogicalType::timestamp(true, TimeUnit::MICROS))),
    };
    let mut builder = Type::primitive_type_builder(&column.name, physical)
        .with_repetition(Repetition::OPTIONAL)
        .with_logical_type(logical);
    if physical == Physical::FIXED_LEN_BYTE_ARRAY {
        builder = builder.with_length(16);
    }
    if let ColumnType::Decimal { precision, scale } = column.kind {
        builder = builder.with_precision(precision.into()).with_scale(scale.into());
    }
    builder.build()
}

fn failed(file: &Arc<str>, error: &ParquetError) -> Error {
    Error::new(ErrorKind::File, Place { file: file.clone(), number: None, unit: "row" }, format!("write: {error}"))
}
