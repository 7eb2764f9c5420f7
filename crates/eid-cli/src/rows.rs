//! Rows in files: CSV with a header line, and JSON lines. A bad line is told by file, line and column.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde_json::{Map, Value};

use crate::args::Format;
use crate::failure::Failure;
use crate::limits::IMPORT_LINE_BYTES_MAX;
use crate::value::cell;

/// A row of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct FileRow {
    /// The value of the key column, if one was asked for.
    pub key: Option<String>,
    /// The fields.
    pub fields: Map<String, Value>,
}

/// What is wrong with a line. Lines and columns count from 1; a column is a field in CSV, a character in JSON lines.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {reason}")]
pub struct BadLine {
    line: u64,
    column: u64,
    reason: String,
}

impl BadLine {
    fn new(line: u64, column: usize, reason: impl Into<String>) -> Self {
        Self { line, column: column as u64, reason: reason.into() }
    }

    /// The failure of a command that reads this file.
    #[must_use]
    pub fn failure(&self, file: &str) -> Failure {
        Failure::input(format!("{file}, {self}"))
    }
}

/// The format that a file's name tells.
///
/// # Errors
/// When the ending is neither `.csv` nor `.jsonl` (or `.ndjson`).
pub fn format_of(path: &Path) -> Result<Format, Failure> {
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("csv") => Ok(Format::Csv),
        Some("jsonl" | "ndjson") => Ok(Format::Jsonl),
        _ => Err(Failure::usage(format!("the name of {} does not tell its format", path.display()))
            .hint("add `--format csv` or `--format jsonl`")),
    }
}

/// Reads rows one after another; memory does not grow with the file.
pub struct Rows<R> {
    source: Source<R>,
    key: Option<String>,
    total: u64,
}

impl<R> std::fmt::Debug for Rows<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rows").field("key", &self.key).finish_non_exhaustive()
    }
}

enum Source<R> {
    Csv { reader: csv::Reader<Quotes<R>>, columns: Vec<String>, key: Option<usize> },
    Jsonl { reader: BufReader<R>, line: u64, read: u64 },
}

impl Rows<File> {
    /// Opens a file.
    ///
    /// # Errors
    /// When it cannot be read or its header line is wrong.
    pub fn open(path: &Path, format: Format, key: Option<&str>) -> Result<Self, Failure> {
        let name = path.display().to_string();
        let file = File::open(path).map_err(|cause| {
            let failure = Failure::io(format!("cannot read {name}"), &cause);
            let failure = failure.hint("check the path and whether you may read it");
            if cause.kind() == std::io::ErrorKind::NotFound {
                Failure { exit: crate::failure::Exit::NotFound, code: "not_found", ..failure }
            } else {
                failure
            }
        })?;
        if path.is_dir() {
            return Err(Failure::input(format!("{name} is a directory")).hint("name a file"));
        }
        let total = file.metadata().map_or(0, |meta| meta.len());
        Self::new(file, format, key).map(|rows| Self { total, ..rows }).map_err(|bad| bad.failure(&name))
    }
}

impl<R: Read> Rows<R> {
    /// Reads from this source.
    ///
    /// # Errors
    /// When the header line is wrong, or has no such key column.
    pub fn new(source: R, format: Format, key: Option<&str>) -> Result<Self, BadLine> {
        let source = match format {
            Format::Jsonl => Source::Jsonl { reader: BufReader::new(source), line: 0, read: 0 },
            Format::Csv => {
                let mut reader = csv::ReaderBuilder::new().from_reader(Quotes::new(source));
                let header = reader.headers().map_err(|error| csv_error(&error))?;
                let columns: Vec<String> = header.iter().map(str::to_owned).collect();
                let key = check_columns(&columns, key)?;
                Source::Csv { reader, columns, key }
            }
        };
        Ok(Self { source, key: key.map(str::to_owned), total: 0 })
    }

    /// Bytes of the source that have been taken.
    #[must_use]
    pub fn read_so_far(&self) -> u64 {
        match &self.source {
            Source::Csv { reader, .. } => reader.position().byte(),
            Source::Jsonl { read, .. } => *read,
        }
    }

    /// Bytes of the file when it was opened; 0 when that is not known.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    fn read(&mut self) -> Result<Option<FileRow>, BadLine> {
        match &mut self.source {
            Source::Csv { reader, columns, key } => read_csv(reader, columns, *key),
            Source::Jsonl { reader, line, read } => read_jsonl(reader, line, read, self.key.as_deref()),
        }
    }
}

impl<R: Read> Iterator for Rows<R> {
    type Item = Result<FileRow, BadLine>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

/// Hands bytes of a CSV file on and follows its quotes, as the parser behind it does not tell where one was left open:
/// such a field would take in the rest of the file.
struct Quotes<R> {
    source: R,
    at: InRow,
    line: u64,
    column: usize,
    /// Where the quoted field began, and how many bytes it has.
    opened: (u64, usize, u64),
    /// How many bytes of a byte order mark the file begins with.
    mark: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum InRow {
    FieldStart,
    Field,
    Quoted,
    /// After a quote within a quoted field: its end, or half of an escaped quote.
    QuoteInQuoted,
}

impl<R> Quotes<R> {
    fn new(source: R) -> Self {
        Self { source, at: InRow::FieldStart, line: 1, column: 1, opened: (1, 1, 0), mark: Some(0) }
    }

    fn follow(&mut self, byte: u8) {
        if let Some(at) = self.mark {
            self.mark = (at < 2).then_some(at + 1);
            if [0xef, 0xbb, 0xbf][at] == byte {
                return;
            }
            self.mark = None;
        }
        self.opened.2 += 1;
        self.at = match (self.at, byte) {
            (InRow::FieldStart, b'"') => {
                self.opened = (self.line, self.column, 0);
                InRow::Quoted
            }
            (InRow::Quoted, b'"') => InRow::QuoteInQuoted,
            (InRow::Quoted, _) | (InRow::QuoteInQuoted, b'"') => InRow::Quoted,
            (_, b',') => {
                self.column += 1;
                InRow::FieldStart
            }
            (_, b'\n' | b'\r') => {
                self.column = 1;
                InRow::FieldStart
            }
            _ => InRow::Field,
        };
        self.line += u64::from(byte == b'\n');
    }

    fn open(&self, reason: &str) -> std::io::Error {
        std::io::Error::other(BadLine::new(self.opened.0, self.opened.1, reason))
    }
}

impl<R: Read> Read for Quotes<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.source.read(buffer)?;
        for byte in &buffer[..read] {
            self.follow(*byte);
        }
        match self.at {
            InRow::Quoted if read == 0 && !buffer.is_empty() => Err(self.open("the quote is never closed")),
            InRow::Quoted if self.opened.2 > IMPORT_LINE_BYTES_MAX => {
                Err(self.open("the quoted field is longer than 1 MiB; is its quote closed?"))
            }
            _ => Ok(read),
        }
    }
}

/// Every column has a name of its own. Gives where the key column is.
fn check_columns(columns: &[String], key: Option<&str>) -> Result<Option<usize>, BadLine> {
    for (index, column) in columns.iter().enumerate() {
        if column.is_empty() {
            return Err(BadLine::new(1, index + 1, "the column has no name"));
        }
        if columns[..index].contains(column) {
            return Err(BadLine::new(1, index + 1, format!("there are two columns \"{column}\"")));
        }
    }
    if columns.is_empty() {
        return Err(BadLine::new(1, 1, "there is no header line"));
    }
    let Some(key) = key else { return Ok(None) };
    let found = columns.iter().position(|column| column == key);
    found.map(Some).ok_or_else(|| {
        BadLine::new(1, 1, format!("there is no column \"{key}\"; there are: {}", columns.join(", ")))
    })
}

fn read_csv<R: Read>(
    reader: &mut csv::Reader<Quotes<R>>,
    columns: &[String],
    key: Option<usize>,
) -> Result<Option<FileRow>, BadLine> {
    let mut record = csv::StringRecord::new();
    if !reader.read_record(&mut record).map_err(|error| csv_error(&error))? {
        return Ok(None);
    }
    let line = record.position().map_or(0, csv::Position::line);
    if record.as_slice().len() as u64 > IMPORT_LINE_BYTES_MAX {
        return Err(BadLine::new(line, 1, "the row is longer than 1 MiB"));
    }
    let key = match key {
        Some(index) if record.get(index).unwrap_or("").is_empty() => {
            return Err(BadLine::new(line, index + 1, format!("the key \"{}\" is empty", columns[index])));
        }
        Some(index) => record.get(index).map(str::to_owned),
        None => None,
    };
    let fields = columns.iter().zip(&record).map(|(column, text)| (column.clone(), cell(text))).collect();
    Ok(Some(FileRow { key, fields }))
}

fn csv_error(error: &csv::Error) -> BadLine {
    let line = error.position().map_or(1, csv::Position::line);
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            let column = usize::try_from((*expected_len).min(*len)).unwrap_or(usize::MAX).saturating_add(1);
            BadLine::new(line, column, format!("{len} fields where the header line has {expected_len}"))
        }
        csv::ErrorKind::Utf8 { err, .. } => BadLine::new(line, err.field() + 1, "the text is not UTF-8"),
        csv::ErrorKind::Io(cause) => {
            match cause.get_ref().and_then(|cause| cause.downcast_ref::<BadLine>()) {
                Some(bad) => bad.clone(),
                None => BadLine::new(line, 1, cause.to_string()),
            }
        }
        _ => BadLine::new(line, 1, error.to_string()),
    }
}

fn read_jsonl<R: Read>(
    reader: &mut BufReader<R>,
    line: &mut u64,
    read: &mut u64,
    key: Option<&str>,
) -> Result<Option<FileRow>, BadLine> {
    loop {
        *line += 1;
        let mut text = Vec::new();
        let taken = reader.by_ref().take(IMPORT_LINE_BYTES_MAX + 1).read_until(b'\n', &mut text);
        let taken = taken.map_err(|cause| BadLine::new(*line, 1, cause.to_string()))?;
        *read += taken as u64;
        if taken == 0 {
            return Ok(None);
        }
        if text.len() as u64 > IMPORT_LINE_BYTES_MAX {
            return Err(BadLine::new(*line, 1, "the line is longer than 1 MiB"));
        }
        if text.trim_ascii().is_empty() {
            continue;
        }
        let value: Value = serde_json::from_slice(&text)
            .map_err(|error| BadLine::new(*line, error.column(), reason_without_place(&error)))?;
        let Value::Object(fields) = value else {
            return Err(BadLine::new(*line, 1, "not a JSON object"));
        };
        let key = match key {
            None => None,
            Some(key) => Some(match fields.get(key) {
                Some(Value::String(text)) if !text.is_empty() => text.clone(),
                Some(Value::Number(number)) => number.to_string(),
                _ => {
                    return Err(BadLine::new(
                        *line,
                        1,
                        format!("the key \"{key}\" is not a text or a number"),
                    ));
                }
            }),
        };
        return Ok(Some(FileRow { key, fields }));
    }
}

/// serde_json ends its messages with the place, counted within the one line.
fn reason_without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.clone(), |(reason, _)| reason.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rows(text: &str, format: Format, key: Option<&str>) -> Result<Vec<FileRow>, String> {
        let rows = Rows::new(text.as_bytes(), format, key).map_err(|bad| bad.to_string())?;
        rows.collect::<Result<_, _>>().map_err(|bad| bad.to_string())
    }

    #[test]
    fn csv_rows_have_keys_and_exact_values() {
        let text = "iata,name,latitude\nSEA,\"Seattle, \"\"Tacoma\"\"\",47.45\nNUL,,1.50\n";
        let rows = rows(text, Format::Csv, Some("iata")).unwrap();
        assert_eq!(rows[0].key.as_deref(), Some("SEA"));
        assert_eq!(
            Value::Object(rows[0].fields.clone()),
            json!({"iata": "SEA", "name": "Seattle, \"Tacoma\"", "latitude": 47.45})
        );
        assert_eq!(
            Value::Object(rows[1].fields.clone()),
            json!({"iata": "NUL", "name": "", "latitude": "1.50"})
        );
    }

    #[test]
    fn a_bad_csv_line_is_told_by_line_and_column() {
        let bad = |text: &str, key| rows(text, Format::Csv, key).unwrap_err();
        assert_eq!(bad("a,b\n1,2\n3\n", None), "line 3, column 2: 1 fields where the header line has 2");
        assert_eq!(bad("a,b\n1,2,3\n", None), "line 2, column 3: 3 fields where the header line has 2");
        assert_eq!(bad("a,b\n1,2\n3,\n", Some("b")), "line 3, column 2: the key \"b\" is empty");
        assert_eq!(bad("a,b\n", Some("c")), "line 1, column 1: there is no column \"c\"; there are: a, b");
        assert_eq!(bad("a,a\n", None), "line 1, column 2: there are two columns \"a\"");
        assert_eq!(bad("", None), "line 1, column 1: there is no header line");
        let rows = Rows::new(&b"a,b\n1,\xff\n"[..], Format::Csv, None).unwrap();
        let error = rows.collect::<Result<Vec<_>, _>>().unwrap_err();
        assert_eq!(error.to_string(), "line 2, column 2: the text is not UTF-8");
    }

    #[test]
    fn a_quote_that_is_never_closed_is_told_by_where_it_was_opened() {
        let bad = |text: &str| rows(text, Format::Csv, None).unwrap_err();
        assert_eq!(bad("a,b\n1,\"x\ny\"\n3,\"4\n5,6\n"), "line 4, column 2: the quote is never closed");
        assert_eq!(bad("\"a,b\n1,2\n"), "line 1, column 1: the quote is never closed");
        assert_eq!(bad("\u{feff}\"a\",b\r\n1,\"2\"\"\r\n"), "line 2, column 2: the quote is never closed");
        let long = format!("a,b\n1,2\n3,\"{}", "x\n".repeat(600_000));
        assert!(bad(&long).starts_with("line 3, column 2: the quoted field is longer"), "{}", bad(&long));
        for good in ["a,b\n1,\"\"\n", "a,b\n1,2\"\n", "a,b\n1,\"x\"\"y\"", "\u{feff}\"a,b\",c\n1,\"2\""] {
            assert_eq!(rows(good, Format::Csv, None).map(|rows| rows.len()), Ok(1), "{good}");
        }
    }

    #[test]
    fn json_lines_are_objects_and_bad_ones_are_told_by_line_and_column() {
        let good = rows("{\"a\":1}\n\n{\"a\":\"x\",\"b\":[1]}\n", Format::Jsonl, Some("a")).unwrap();
        assert_eq!(good.iter().map(|row| row.key.as_deref()).collect::<Vec<_>>(), [Some("1"), Some("x")]);
        let bad = |text: &str, key| rows(text, Format::Jsonl, key).unwrap_err();
        assert!(bad("{\"a\":1}\n{\"a\":}\n", None).starts_with("line 2, column 6: expected value"));
        assert_eq!(bad("[1]\n", None), "line 1, column 1: not a JSON object");
        assert_eq!(
            bad("{\"a\":null}\n", Some("a")),
            "line 1, column 1: the key \"a\" is not a text or a number"
        );
    }
}
