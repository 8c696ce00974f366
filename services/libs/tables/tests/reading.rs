//! The same rows from each format, and what is said of files and rows that are wrong.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    fs::File,
    io::Cursor,
    path::{Path, PathBuf},
    sync::Arc,
};

use parquet::{
    basic::{Compression, ZstdLevel},
    column::writer::ColumnWriter,
    data_type::ByteArray,
    file::{properties::WriterProperties, writer::SerializedFileWriter},
    schema::parser::parse_message_type,
};
use perito_tables::{ErrorKind, Format, ReadOptions, Reader};
use serde::Deserialize;

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Photograph {
    bucket: String,
    key: String,
    #[serde(default)]
    size_bytes: Option<u64>,
    #[serde(default)]
    claim_id: Option<String>,
}

fn photograph(number: u64) -> Photograph {
    Photograph {
        bucket: "claims".to_owned(),
        key: format!("2026/ñandú, \"{number}\".jpg"),
        size_bytes: (!number.is_multiple_of(3)).then_some(number),
        claim_id: number.is_multiple_of(2).then(|| format!("{number:04}")),
    }
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

fn csv(rows: &[Photograph]) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let lines = rows.iter().map(|row| {
        let size = row.size_bytes.map(|size| size.to_string()).unwrap_or_default();
        format!("{},{},{size},{}\r\n", row.bucket, quoted(&row.key), row.claim_id.as_deref().unwrap_or_default())
    });
    std::iter::once("\u{feff}bucket, key ,size_bytes,claim_id\r\n".to_owned()).chain(lines).collect()
}

fn json_lines(rows: &[Photograph]) -> String {
    let line = |row: &Photograph| serde_json::json!({"bucket": row.bucket, "key": row.key, "size_bytes": row.size_bytes, "claim_id": row.claim_id});
    rows.iter().map(|row| format!("{}\n\n", line(row))).collect()
}

/// With two groups of rows, and with sizes as a table keeps them that knows no missing whole number.
fn parquet(path: &Path, rows: &[Photograph], compression: Compression) {
    let schema = "message photographs {
        required binary bucket; required binary key (UTF8); optional double size_bytes; optional binary claim_id (UTF8);
    }";
    let properties = WriterProperties::builder().set_compression(compression).set_data_page_row_count_limit(7).build();
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut writer = SerializedFileWriter::new(File::create(path).unwrap(), schema, Arc::new(properties)).unwrap();
    for rows in [&rows[..rows.len() / 2], &rows[rows.len() / 2..]] {
        let text = |of: fn(&Photograph) -> Option<&str>| -> (Vec<ByteArray>, Vec<i16>) {
            let values = rows.iter().filter_map(|row| of(row).map(ByteArray::from)).collect();
            (values, rows.iter().map(|row| i16::from(of(row).is_some())).collect())
        };
        let mut texts =
            [text(|row| Some(&row.bucket)), text(|row| Some(&row.key)), text(|row| row.claim_id.as_deref())]
                .into_iter();
        let sizes: Vec<f64> = rows.iter().filter_map(|row| row.size_bytes.map(|size| size as f64)).collect();
        let with_size: Vec<i16> = rows.iter().map(|row| i16::from(row.size_bytes.is_some())).collect();
        let mut group = writer.next_row_group().unwrap();
        while let Some(mut column) = group.next_column().unwrap() {
            match column.untyped() {
                ColumnWriter::ByteArrayColumnWriter(writer) => {
                    let (values, levels) = texts.next().unwrap();
                    writer.write_batch(&values, Some(&levels), None).unwrap();
                }
                ColumnWriter::DoubleColumnWriter(writer) => {
                    writer.write_batch(&sizes, Some(&with_size), None).unwrap();
                }
                _ => unreachable!(),
            }
            column.close().unwrap();
        }
        group.close().unwrap();
    }
    writer.close().unwrap();
}

fn read(path: &Path) -> Vec<Photograph> {
    Reader::open(path, &ReadOptions::default()).unwrap().map(|row| row.unwrap().value).collect()
}

/// The places and problems of the rows that are wrong, and how many are right.
fn problems(path: &Path, options: &ReadOptions) -> (Vec<String>, usize) {
    let mut right = 0;
    let wrong = Reader::<Photograph>::open(path, options)
        .unwrap()
        .filter_map(|row| row.map(|_| right += 1).err())
        .map(|error| error.to_string().replace(&path.display().to_string(), "FILE"))
        .collect();
    (wrong, right)
}

fn refused(path: &Path, options: &ReadOptions) -> String {
    let error = Reader::<Photograph>::open(path, options).err().unwrap();
    assert_eq!((error.kind(), error.place().number), (ErrorKind::File, None));
    error.to_string()
}

#[test]
fn each_format_gives_the_same_rows() {
    let folder = Folder::new();
    let rows: Vec<_> = (1..=50).map(photograph).collect();
    assert_eq!(read(&folder.file("a.csv", csv(&rows))), rows);
    assert_eq!(read(&folder.file("a.jsonl", json_lines(&rows))), rows);
    let codecs =
        [Compression::UNCOMPRESSED, Compression::SNAPPY, Compression::ZSTD(ZstdLevel::default()), Compression::LZ4_RAW];
    for codec in codecs.into_iter().chain([Compression::GZIP(Default::default())]) {
        let path = folder.0.path().join("a.parquet");
        parquet(&path, &rows, codec);
        assert_eq!(read(&path), rows, "{codec:?}");
    }
}

#[test]
fn rows_know_their_place_and_the_reader_how_far_it_is() {
    let folder = Folder::new();
    let rows: Vec<_> = (1..=3).map(photograph).collect();
    let table = folder.0.path().join("a.parquet");
    parquet(&table, &rows, Compression::SNAPPY);
    for (path, numbers, unit) in [
        (folder.file("a.csv", csv(&rows)), [2, 3, 4], "line"),
        (folder.file("a.jsonl", json_lines(&rows)), [1, 3, 5], "line"),
        (table, [1, 2, 3], "row"),
    ] {
        let mut reader = Reader::<Photograph>::open(&path, &ReadOptions::default()).unwrap();
        for number in numbers {
            let place = reader.next().unwrap().unwrap().place;
            assert_eq!(place.to_string(), format!("{}, {unit} {number}", path.display()));
        }
        assert!(reader.next().is_none());
        assert_eq!(reader.share(), Some(1.0));
    }
}

#[test]
fn a_row_that_is_wrong_is_named_and_the_rows_after_it_are_read() {
    let folder = Folder::new();
    let path = folder
        .file("odd.csv", b"bucket,key,size_bytes\nb,k,1\nb,k,many\nb,k\n\"b\",\"two\nlines\",2\nb,\xff,3\nb,k,4\n");
    let (wrong, right) = problems(&path, &ReadOptions::default());
    assert_eq!(right, 3);
    assert_eq!(
        wrong,
        [
            "FILE, line 3: size_bytes \"many\": invalid digit found in string",
            "FILE, line 4: has 2 fields, the header has 3",
            "FILE, line 7: is not UTF-8 in its field 2",
        ]
    );
    let path = folder.file(
        "odd.jsonl",
        "{\"bucket\": \"b\"}\n[\"b\", \"k\"]\n{\"bucket\": 1, \"key\": \"k\"}\n{\"bucket\": \"b\", \"key\": \"k\", \"claim\": 1}\n{\"bucket\"\n{\"bucket\": \"b\", \"key\": \"k\"}",
    );
    let (wrong, right) = problems(&path, &ReadOptions::default());
    assert_eq!(right, 1);
    for (problem, words) in wrong.iter().zip([
        "line 1: missing field `key` at column 15",
        "line 2: is not a JSON object",
        "line 3: invalid type: integer `1`, expected a string",
        "line 4: unknown field `claim`, expected one of `bucket`",
        "line 5: EOF while parsing",
    ]) {
        assert!(problem.contains(words), "{problem}");
    }
    assert_eq!(wrong.len(), 5);
}

#[test]
fn columns_that_nobody_asked_for_are_passed_over() {
    let folder = Folder::new();
    let options = ReadOptions { format: None, columns: Some(&["bucket", "key", "size_bytes"]) };
    let rows: Vec<_> = (1..=4).map(photograph).collect();
    let table = folder.0.path().join("a.parquet");
    parquet(&table, &rows, Compression::SNAPPY);
    let expected: Vec<_> = rows.iter().map(|row| Photograph { claim_id: None, ..row.clone() }).collect();
    for path in [folder.file("a.csv", csv(&rows)), folder.file("a.jsonl", json_lines(&rows)), table] {
        let reader = Reader::<Photograph>::open(&path, &options).unwrap();
        assert_eq!(reader.map(|row| row.unwrap().value).collect::<Vec<_>>(), expected, "{}", path.display());
    }
}

#[test]
fn a_file_that_cannot_be_read_says_why() {
    let folder = Folder::new();
    let default = ReadOptions::default();
    assert!(refused(Path::new("/nowhere/m.csv"), &default).starts_with("/nowhere/m.csv: open: No such file"));
    assert!(refused(&folder.file("m.txt", ""), &default).contains("expected .csv, .jsonl or .parquet"));
    assert!(refused(&folder.file("empty.csv", ""), &default).contains("expected a header"));
    assert!(refused(&folder.file("twice.csv", "key,bucket,key\n"), &default).contains("names \"key\" twice"));
    assert!(refused(&folder.file("text.parquet", "bucket,key\n"), &default).contains("read the footer"));
    let table = folder.0.path().join("a.parquet");
    parquet(&table, &[photograph(1), photograph(2)], Compression::SNAPPY);
    let other = refused(&table, &ReadOptions { format: None, columns: Some(&["image"]) });
    assert!(other.contains("none of the columns image: it has bucket, key, size_bytes, claim_id"), "{other}");
}

#[test]
fn a_row_without_end_is_not_read_into_memory() {
    let folder = Folder::new();
    let endless = "x".repeat(4 << 20);
    for path in [
        folder.file("a.csv", format!("bucket,key\nb,k\nb,\"{endless}\nb,k\n")),
        folder.file("a.jsonl", format!("{{\"bucket\": \"b\", \"key\": \"k\"}}\n{{\"key\": \"{endless}\"}}\n")),
    ] {
        let mut reader = Reader::<Photograph>::open(&path, &ReadOptions::default()).unwrap();
        reader.next().unwrap().unwrap();
        let error = reader.next().unwrap().unwrap_err();
        assert!(error.kind() == ErrorKind::File && error.to_string().contains("is a quote missing?"), "{error}");
        assert!(reader.share().unwrap() < 0.3, "{:?}", reader.share());
        assert!(reader.next().is_none(), "nothing more");
    }
}

#[test]
fn text_comes_from_a_stream_too() {
    let rows: Vec<_> = (1..=5).map(photograph).collect();
    let open = |format, content: String| {
        let stream = Box::new(Cursor::new(content));
        Reader::<Photograph>::from_stream("standard input", stream, format, &ReadOptions::default())
    };
    for (format, content) in [(Format::Csv, csv(&rows)), (Format::JsonLines, json_lines(&rows))] {
        let reader = open(format, content).unwrap();
        assert_eq!(reader.share(), None);
        assert_eq!(reader.map(|row| row.unwrap().value).collect::<Vec<_>>(), rows);
    }
    let refused = open(Format::Parquet, String::new()).err().unwrap();
    assert!(refused.to_string().contains("give a file"), "{refused}");
}

/// Whatever is wrong with its bytes, a table gives rows or errors and comes to an end.
#[test]
fn damaged_tables_end_with_an_error_or_wrong_rows() {
    let folder = Folder::new();
    let path = folder.0.path().join("a.parquet");
    parquet(&path, &(1..=20).map(photograph).collect::<Vec<_>>(), Compression::SNAPPY);
    let whole = std::fs::read(&path).unwrap();
    for place in (0..whole.len()).step_by(3) {
        let mut damaged = whole.clone();
        damaged[place] ^= 0x55;
        let path = folder.file("damaged.parquet", damaged);
        if let Ok(reader) = Reader::<Photograph>::open(&path, &ReadOptions::default()) {
            assert!(reader.take(1000).count() <= 41, "byte {place}");
        }
    }
    for length in (0..whole.len()).step_by(50) {
        let path = folder.file("short.parquet", &whole[..length]);
        assert!(Reader::<Photograph>::open(&path, &ReadOptions::default()).is_err(), "{length} bytes");
    }
}
