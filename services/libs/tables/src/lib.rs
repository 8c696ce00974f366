//! Files of rows: CSV, JSON Lines and Parquet. No type of their libraries leaves this crate.
//!
//! Rows are read one at a time into any type that serde knows, whatever the format: a row of CSV is text by column, a line of JSON
//! Lines an object, a row of Parquet the same. Only a row, or a page of each column of a Parquet file, is in memory.
//!
//! | module | holds |
//! |---|---|
//! | [`format`] | which format a file has |
//! | [`read`] | [`Reader`]: rows, each with its place in the file |
//! | [`write`] | [`ParquetWriter`]: rows of typed cells into a file |
//! | [`cells`] | [`CellReader`]: such a file back into typed cells |
//! | [`error`] | what can be wrong, and where: in one row, or in the file |
//!
//! To add a format: a variant of [`Format`], and a module of [`read`] whose rows become the caller's type.
//!
//! ```no_run
//! #[derive(serde::Deserialize)]
//! struct Photograph { bucket: String, key: String, size_bytes: Option<u64> }
//!
//! for row in perito_tables::Reader::<Photograph>::open("manifest.parquet".as_ref(), &Default::default())? {
//!     let row = row?; // names the file and the line or row
//!     println!("{}: {}/{}", row.place, row.value.bucket, row.value.key);
//! }
//! # Ok::<(), perito_tables::Error>(())
//! ```

mod cells;
mod error;
mod format;
mod read;
mod write;

pub use cells::CellReader;
pub use error::{Error, ErrorKind, Place, Result};
pub use format::{Format, UnknownFormat};
pub use read::{ReadOptions, Reader, Row};
pub use write::ParquetWriter;
