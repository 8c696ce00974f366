//! Rows of typed cells: what leaves the database for a file, and comes back.

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    /// True or false.
    Bool,
    /// Signed, 16 bits.
    Int16,
    /// Signed, 32 bits.
    Int32,
    /// Signed, 64 bits.
    Int64,
    /// IEEE 754, 32 bits.
    Float32,
    /// IEEE 754, 64 bits.
    Float64,
    /// Exact decimals.
    Decimal {
        /// Digits altogether, 1 to 38.
        precision: u8,
        /// Digits after the point, at most `precision`.
        scale: u8,
    },
    /// UTF-8.
    Text,
    /// A UUID.
    Uuid,
    /// A day.
    Date,
    /// A moment, to the microsecond.
    Timestamp,
}

/// A column of a table. Any may have nulls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: ColumnType,
}

/// A cell.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// Of [`ColumnType::Bool`].
    Bool(bool),
    /// Of [`ColumnType::Int16`].
    Int16(i16),
    /// Of [`ColumnType::Int32`].
    Int32(i32),
    /// Of [`ColumnType::Int64`].
    Int64(i64),
    /// Of [`ColumnType::Float32`].
    Float32(f32),
    /// Of [`ColumnType::Float64`].
    Float64(f64),
    /// Of [`ColumnType::Decimal`]: the number without its point.
    Decimal(i128),
    /// Of [`ColumnType::Text`].
    Text(String),
    /// Of [`ColumnType::Uuid`].
    Uuid([u8; 16]),
    /// Of [`ColumnType::Date`]: days since 1970-01-01.
    Date(i32),
    /// Of [`ColumnType::Timestamp`]: microseconds since 1970-01-01 00:00 UTC.
    Timestamp(i64),
}

/// A row: a cell for each column.
pub type Row = Vec<Value>;
