//! Files of adjusters' decisions: CSV with a header, JSON Lines or Parquet.

use std::{collections::HashMap, path::Path, str::FromStr};

use chrono::{DateTime, Utc};
use perito_domain::{Severity, limits::MAX_LABEL_ROWS};
use perito_tables::{ErrorKind, Format, ReadOptions, Reader};
use serde::Deserialize;

use crate::{api::Label, exit::Usage};

/// The columns that are read.
const COLUMNS: &[&str] =
    &["image_id", "bucket", "key", "etag", "claim_id", "severity", "label", "source", "decided_at"];

/// What rows may leave out.
#[derive(Debug, Clone, Default)]
pub struct Defaults {
    /// The bucket of a key.
    pub bucket: String,
    /// Who or what system says so.
    pub source: Option<String>,
}

/// A file's rows by their place: decisions, and what is wrong with those that are none.
#[derive(Debug, Clone, Default)]
pub struct LabelFile {
    /// Decisions, with the line (or the row of Parquet) of each, counted from 1.
    pub labels: Vec<(u64, Label)>,
    /// Lines that are none, and why.
    pub problems: Vec<(u64, String)>,
}

/// A row as it is written.
#[derive(Debug, Default, Deserialize)]
struct Row {
    image_id: Option<i64>,
    bucket: Option<String>,
    key: Option<String>,
    etag: Option<String>,
    claim_id: Option<String>,
    #[serde(alias = "label")]
    severity: Option<String>,
    source: Option<String>,
    decided_at: Option<String>,
}

/// Reads a file to its end; `-` is standard input.
///
/// # Errors
/// When it cannot be read at all. Bad rows are no error: they are in the answer.
pub fn read(path: &Path, format: Option<Format>, defaults: &Defaults) -> anyhow::Result<LabelFile> {
    let options = ReadOptions { format, columns: Some(COLUMNS) };
    let rows: Reader<Row> = if path == Path::new("-") {
        let format =
            format.ok_or_else(|| Usage("say what standard input is: --format csv or --format jsonl".to_owned()))?;
        Reader::from_stream("standard input", Box::new(std::io::stdin()), format, &options)
    } else {
        Reader::open(path, &options)
    }
    .map_err(|error| Usage(error.to_string()))?;
    let mut file = LabelFile::default();
    for row in rows {
        if file.rows() >= MAX_LABEL_ROWS {
            return Err(Usage(format!("{} has more than {MAX_LABEL_ROWS} rows: split it", path.display())).into());
        }
        match row {
            Ok(row) => {
                let number = row.place.number.unwrap_or_default();
                match row.value.label(defaults) {
                    Ok(label) => file.labels.push((number, label)),
                    Err(problem) => file.problems.push((number, problem)),
                }
            }
            Err(error) if error.kind() == ErrorKind::Row => {
                file.problems.push((error.place().number.unwrap_or_default(), error.problem().to_owned()));
            }
            Err(error) => return Err(Usage(error.to_string()).into()),
        }
    }
    find_contradictions(&mut file);
    file.problems.sort();
    Ok(file)
}

impl LabelFile {
    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.labels.len() + self.problems.len()
    }
}

impl Row {
    fn label(self, defaults: &Defaults) -> Result<Label, String> {
        let filled = |text: Option<String>| text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        let severity = filled(self.severity).ok_or("severity is missing")?;
        let severity = Severity::from_str(&severity).map_err(|error| error.to_string())?;
        let decided_at = filled(self.decided_at).ok_or("decided_at is missing")?;
        let decided_at: DateTime<Utc> = DateTime::parse_from_rfc3339(&decided_at)
            .map_err(|_| format!("decided_at {decided_at:?} is no time with its zone: write 2026-03-01T10:00:00Z"))?
            .into();
        let source = filled(self.source).or_else(|| defaults.source.clone());
        let source = source.ok_or("source is missing: add the column, or --source")?;
        let (key, claim_id) = (filled(self.key), filled(self.claim_id));
        let bucket = filled(self.bucket).or_else(|| key.as_ref().map(|_| defaults.bucket.clone()));
        if self.image_id.is_none() && key.is_none() && claim_id.is_none() {
            return Err("names neither a photograph (image_id or key) nor a claim (claim_id)".to_owned());
        }
        let texts = [Some(&source), key.as_ref(), bucket.as_ref(), claim_id.as_ref(), self.etag.as_ref()];
        if texts.into_iter().flatten().any(|text| text.contains('\0')) {
            return Err("has a NUL character".to_owned());
        }
        Ok(Label {
            image_id: self.image_id,
            bucket,
            key,
            etag: filled(self.etag),
            claim_id,
            severity,
            source,
            decided_at,
        })
    }
}

/// Rows that say another thing about the same at the same time, wherever in the file they are.
fn find_contradictions(file: &mut LabelFile) {
    let mut first: HashMap<_, (u64, Severity)> = HashMap::with_capacity(file.labels.len());
    let mut problems = Vec::new();
    file.labels.retain(|(line, label)| {
        let photograph = label.image_id.is_some() || label.key.is_some();
        let claim = label.claim_id.clone().filter(|_| !photograph);
        let target = (label.image_id, label.bucket.clone(), label.key.clone(), label.etag.clone(), claim);
        let (earlier, said) =
            *first.entry((target, label.source.clone(), label.decided_at)).or_insert((*line, label.severity));
        if said != label.severity {
            problems.push((
                *line,
                format!("says {} where line {earlier} says {said} about the same at the same time", label.severity),
            ));
        }
        said == label.severity
    });
    file.problems.extend(problems);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn defaults() -> Defaults {
        Defaults { bucket: "claims".to_owned(), source: None }
    }

    fn file(name: &str, text: &str, defaults: &Defaults) -> anyhow::Result<LabelFile> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        read(&path, None, defaults)
    }

    #[test]
    fn rows_become_labels_with_what_they_leave_out() {
        let text = "\u{feff}key,claim_id,severity,source,decided_at,office\n\
                    a.jpg,,Severe,ana,2026-03-01T10:00:00+01:00,Lima\n\
                    ,c-7, minor ,ana,2026-03-01T10:00:00Z,Lima\n";
        let found = file("march.csv", text, &defaults()).unwrap();
        assert!(found.problems.is_empty(), "{found:?}");
        let (line, first) = &found.labels[0];
        assert_eq!((*line, first.bucket.as_deref(), first.key.as_deref()), (2, Some("claims"), Some("a.jpg")));
        assert_eq!(
            (first.severity, first.decided_at.to_rfc3339()),
            (Severity::Severe, "2026-03-01T09:00:00+00:00".to_owned())
        );
        let second = &found.labels[1].1;
        assert_eq!((second.bucket.as_deref(), second.claim_id.as_deref()), (None, Some("c-7")));

        let lines = "{\"image_id\": 7, \"label\": \"minor\", \"decided_at\": \"2026-03-01T10:00:00Z\"}\n\n\
                     {\"bucket\": \"b\", \"key\": \"k\", \"severity\": \"severe\", \"decided_at\": \"2026-03-01T10:00:00Z\"}";
        let with_source = Defaults { source: Some("guidewire".to_owned()), ..defaults() };
        let found = file("march.jsonl", lines, &with_source).unwrap();
        let found: Vec<_> =
            found.labels.iter().map(|(line, label)| (*line, label.image_id, label.source.as_str())).collect();
        assert_eq!(found, [(1, Some(7), "guidewire"), (3, None, "guidewire")]);
    }

    #[test]
    fn bad_rows_are_told_by_line() {
        let text = "image_id,key,severity,source,decided_at\n\
                    7,,minor,ana,2026-03-01T10:00:00Z\n\
                    x,,minor,ana,2026-03-01T10:00:00Z\n\
                    ,a.jpg,total,ana,2026-03-01T10:00:00Z\n\
                    ,a.jpg,minor,ana,yesterday\n\
                    ,\"a\nb.jpg\",minor,,2026-03-01T10:00:00Z\n\
                    ,,minor,ana,2026-03-01T10:00:00Z\n\
                    ,a.jpg\n\
                    7,,severe,ana,2026-03-01T10:00:00Z\n";
        let found = file("march.csv", text, &defaults()).unwrap();
        let expected = [
            (3, "image_id"),
            (4, "total"),
            (5, "no time with its zone"),
            (6, "source is missing"),
            (8, "neither a photograph"),
            (9, "fields"),
            (10, "where line 2 says minor"),
        ];
        assert_eq!(found.problems.len(), expected.len(), "{:?}", found.problems);
        for ((line, problem), (expected_line, part)) in found.problems.iter().zip(expected) {
            assert!(*line == expected_line && problem.contains(part), "{line}: {problem}");
        }
        assert_eq!((found.labels.len(), found.rows()), (1, 8));
        let found = file("march.jsonl", "{\"key\": 7}\nnot json\n", &defaults()).unwrap();
        assert_eq!(found.problems.iter().map(|problem| problem.0).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn what_cannot_be_read_is_wrong_usage() {
        for (name, text) in [("march.csv", ""), ("march.xlsx", "x"), ("march.parquet", "x")] {
            let refused = file(name, text, &defaults()).unwrap_err();
            assert!(refused.to_string().contains(name) && crate::exit::code(&refused) == 2, "{refused}");
        }
        assert!(read(Path::new("-"), None, &defaults()).unwrap_err().to_string().contains("--format"));
        assert!(
            read(Path::new("/does/not/exist.csv"), None, &defaults())
                .unwrap_err()
                .to_string()
                .contains("/does/not/exist.csv")
        );
    }
}
