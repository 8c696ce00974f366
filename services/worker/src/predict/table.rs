//! Rows, as a table, JSON Lines, CSV or Parquet.

use std::{
    fmt,
    io::{BufWriter, Write},
    path::Path,
};

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use comfy_table::{Cell, CellAlignment, Table, presets::UTF8_FULL_CONDENSED};
use perito_domain::{
    Severity,
    failure::FailureReason,
    table::{Column, ColumnType, Value},
};
use perito_tables::ParquetWriter;
use serde::Serialize;

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// One object a line.
    Json,
    /// Comma-separated values with a header.
    Csv,
    /// Parquet, to a file.
    Parquet,
}

impl Format {
    /// What was asked for, or what the file's ending says.
    ///
    /// # Errors
    /// An ending that says nothing.
    pub fn choose(asked: Option<Self>, output: Option<&Path>) -> anyhow::Result<Self> {
        if asked == Some(Self::Parquet) && output.is_none() {
            bail!("Parquet is no text: say --output FILE.parquet");
        }
        let Some(output) = output.filter(|_| asked.is_none()) else {
            return Ok(asked.unwrap_or(Self::Table));
        };
        let ending = output.extension().map(|ending| ending.to_string_lossy().to_lowercase());
        match ending.as_deref() {
            Some("json" | "jsonl" | "ndjson") => Ok(Self::Json),
            Some("csv") => Ok(Self::Csv),
            Some("parquet" | "pq") => Ok(Self::Parquet),
            Some("txt") | None => Ok(Self::Table),
            Some(other) => bail!("--output ends in .{other}: say --format table, json, csv or parquet"),
        }
    }
}

/// One photograph's grade, or why it has none. Columns are named as in the view `analytics.predictions`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The file.
    pub path: String,
    /// The class with the highest probability.
    pub severity: Option<Severity>,
    /// The probability of minor damage, 0 to 1; the three add up to 1.
    pub p_minor: Option<f32>,
    /// The probability of moderate damage.
    pub p_moderate: Option<f32>,
    /// The probability of severe damage.
    pub p_severe: Option<f32>,
    /// Why it could not be graded, as in `analytics.image_failures`.
    pub reason: Option<&'static str>,
    /// What exactly was found.
    pub detail: Option<String>,
}

impl Row {
    /// A grade.
    pub fn graded(path: String, grade: Option<(Severity, [f32; 3])>) -> Self {
        let (severity, probabilities) = grade.unzip();
        let [p_minor, p_moderate, p_severe] = std::array::from_fn(|class| probabilities.map(|all| all[class]));
        Self { path, severity, p_minor, p_moderate, p_severe, reason: None, detail: None }
    }

    /// None.
    pub fn failed(path: String, reason: FailureReason, detail: String) -> Self {
        Self { reason: Some(reason.as_str()), detail: Some(detail), ..Self::graded(path, None) }
    }
}

/// Writes rows to a file, whole or not at all, or to standard output.
///
/// # Errors
/// Names the file.
pub fn write(rows: &[Row], format: Format, output: Option<&Path>) -> anyhow::Result<()> {
    let Some(path) = output else {
        return match write_to(rows, format, std::io::stdout()) {
            // Whoever reads has seen enough.
            Err(error) if is_broken_pipe(&error) => Ok(()),
            result => result.context("write to standard output"),
        };
    };
    let written = || -> anyhow::Result<()> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        write_to(rows, format, file.as_file_mut())?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    written().with_context(|| format!("write {}", path.display()))
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let of_io = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    };
    error.chain().any(of_io)
}

fn write_to(rows: &[Row], format: Format, to: impl Write + Send) -> anyhow::Result<()> {
    let mut to = BufWriter::new(to);
    match format {
        Format::Table => writeln!(to, "{}", Shown(rows))?,
        Format::Json => {
            for row in rows {
                serde_json::to_writer(&mut to, row)?;
                to.write_all(b"\n")?;
            }
        }
        Format::Csv => {
            let mut csv = csv::Writer::from_writer(&mut to);
            for row in rows {
                csv.serialize(row)?;
            }
            csv.flush()?;
        }
        Format::Parquet => {
            let mut parquet = ParquetWriter::new("predictions", &mut to, &columns())?;
            for row in rows {
                parquet.write(cells(row))?;
            }
            parquet.finish()?;
        }
    }
    Ok(to.flush()?)
}

/// The fields of a row, as columns.
fn columns() -> Vec<Column> {
    let columns = [
        ("path", ColumnType::Text),
        ("severity", ColumnType::Text),
        ("p_minor", ColumnType::Float32),
        ("p_moderate", ColumnType::Float32),
        ("p_severe", ColumnType::Float32),
        ("reason", ColumnType::Text),
        ("detail", ColumnType::Text),
    ];
    columns.map(|(name, kind)| Column { name: name.to_owned(), kind }).into()
}

fn cells(row: &Row) -> Vec<Value> {
    let text = |text: Option<&str>| text.map_or(Value::Null, |text| Value::Text(text.to_owned()));
    let number = |number: Option<f32>| number.map_or(Value::Null, Value::Float32);
    vec![
        text(Some(&row.path)),
        text(row.severity.map(Severity::as_str)),
        number(row.p_minor),
        number(row.p_moderate),
        number(row.p_severe),
        text(row.reason),
        text(row.detail.as_deref()),
    ]
}

struct Shown<'a>(&'a [Row]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(UTF8_FULL_CONDENSED).set_header(["photograph", "severity", "minor", "moderate", "severe"]);
        let share = |share: Option<f32>| {
            Cell::new(share.map(|share| format!("{share:.3}")).unwrap_or_default()).set_alignment(CellAlignment::Right)
        };
        for row in self.0 {
            let grade = match (row.severity, row.reason) {
                (Some(severity), _) => severity.to_string(),
                (None, reason) => {
                    format!("{}: {}", reason.unwrap_or_default(), row.detail.as_deref().unwrap_or_default())
                }
            };
            table.add_row([
                Cell::new(&row.path),
                Cell::new(grade),
                share(row.p_minor),
                share(row.p_moderate),
                share(row.p_severe),
            ]);
        }
        write!(f, "{table}")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn rows() -> [Row; 2] {
        [
            Row::graded("a, b.jpg".to_owned(), Some((Severity::Severe, [0.125, 0.25, 0.625]))),
            Row::failed("c.jpg".to_owned(), FailureReason::Empty, "the file is empty".to_owned()),
        ]
    }

    fn written(format: Format) -> String {
        let mut bytes = Vec::new();
        write_to(&rows(), format, &mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn rows_are_written_in_every_format() {
        assert_eq!(
            written(Format::Csv),
            "path,severity,p_minor,p_moderate,p_severe,reason,detail\n\"a, b.jpg\",severe,0.125,0.25,0.625,,\n\
             c.jpg,,,,,empty,the file is empty\n"
        );
        let json = written(Format::Json);
        let lines: Vec<serde_json::Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((&lines[0]["severity"], &lines[1]["reason"]), (&"severe".into(), &"empty".into()));
        assert!(lines[1]["p_minor"].is_null());
        let table = written(Format::Table);
        assert!(table.contains("0.625") && table.contains("empty: the file is empty"), "{table}");
    }

    #[test]
    fn parquet_has_the_rows_with_their_types() {
        let file = tempfile::NamedTempFile::new().unwrap();
        write(&rows(), Format::Parquet, Some(file.path())).unwrap();
        let read: Vec<_> =
            perito_tables::CellReader::open(file.path(), &columns()).unwrap().map(Result::unwrap).collect();
        assert_eq!(read, rows().iter().map(cells).collect::<Vec<_>>());
        assert_eq!(read[0][4], Value::Float32(0.625));
    }

    #[test]
    fn the_format_is_asked_for_or_told_by_the_ending() {
        let choose = |asked, output: Option<&str>| Format::choose(asked, output.map(Path::new));
        assert_eq!(choose(None, None).unwrap(), Format::Table);
        assert_eq!(choose(None, Some("out/grades.CSV")).unwrap(), Format::Csv);
        assert_eq!(choose(Some(Format::Json), Some("grades.csv")).unwrap(), Format::Json);
        assert_eq!(choose(None, Some("grades.parquet")).unwrap(), Format::Parquet);
        assert!(choose(Some(Format::Parquet), None).unwrap_err().to_string().contains("--output"));
        assert!(choose(None, Some("grades.xlsx")).unwrap_err().to_string().contains(".xlsx"));
    }

    #[test]
    fn a_file_is_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("grades.csv");
        std::fs::write(&path, "old").unwrap();
        write(&rows(), Format::Csv, Some(&path)).unwrap();
        assert!(std::fs::read_to_string(&path).unwrap().starts_with("path,"));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
        let nowhere = folder.path().join("none/grades.csv");
        assert!(write(&rows(), Format::Csv, Some(&nowhere)).unwrap_err().to_string().contains("grades.csv"));
    }
}
