//! CSV and TSV: the first line names the columns, and every value is text.

use csv::{ByteRecord, Position, ReaderBuilder};
use serde_json::Value;

use super::rows::File;
use super::{DataError, Row};

const NO_HEADER: &str = " (the first line; is the line that names the columns missing?)";

pub(super) fn rows(
    file: &File<'_>,
    text: &[u8],
    delimiter: u8,
) -> Result<Vec<Result<Row, DataError>>, DataError> {
    let table = Table { file, text, delimiter };
    let mut reader = table.builder().from_reader(text);
    let mut record = ByteRecord::new();
    let unreadable = |error: csv::Error| file.unusable(error.to_string());
    if !reader.read_byte_record(&mut record).map_err(unreadable)? {
        return Ok(Vec::new());
    }
    let columns = table.values(&record)?;
    file.check_columns(&columns, NO_HEADER)?;
    let mut rows = Vec::new();
    while rows.len() < file.limit() && reader.read_byte_record(&mut record).map_err(unreadable)? {
        rows.push(table.row(&columns, &record, reader.position()));
    }
    Ok(rows)
}

struct Table<'a> {
    file: &'a File<'a>,
    text: &'a [u8],
    delimiter: u8,
}

// === impl Table ===

impl Table<'_> {
    fn builder(&self) -> ReaderBuilder {
        let mut builder = ReaderBuilder::new();
        builder.delimiter(self.delimiter).quoting(self.delimiter == b',');
        builder.has_headers(false).flexible(true);
        builder
    }

    fn row(&self, columns: &[String], record: &ByteRecord, end: &Position) -> Result<Row, DataError> {
        let (start, line) = self.start(record);
        let place = self.file.line(line);
        let values = self.values(record)?;
        let malformed = |reason| Err(DataError::Malformed { place: place.clone(), reason });
        if end.byte() as usize >= self.text.len() && self.is_open(record, start) {
            return malformed("a quote is opened that is never closed; double a quote that is text".into());
        }
        if values.len() != columns.len() {
            let remedy = match self.delimiter {
                b',' => "put a value that holds commas, quotes or line breaks in quotes",
                _ => "a value cannot hold a tab or a line break; use CSV or JSONL for such text",
            };
            let (got, want) = (values.len(), columns.len());
            return malformed(format!("the row has {got} values, the header has {want} columns; {remedy}"));
        }
        let values = columns.iter().cloned().zip(values.into_iter().map(Value::String)).collect();
        Ok(Row::new(place, values))
    }

    fn values(&self, record: &ByteRecord) -> Result<Vec<String>, DataError> {
        let value = |(i, bytes): (usize, &[u8])| match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(DataError::Malformed {
                place: self.file.line(self.start(record).1),
                reason: format!("value {} is not UTF-8; save the file as UTF-8", i + 1),
            }),
        };
        record.iter().enumerate().map(value).collect()
    }

    /// The byte and line at which a record starts; the parser counts empty lines before it as its own.
    fn start(&self, record: &ByteRecord) -> (usize, usize) {
        let position = record.position().expect("invariant: records that a reader filled have a position");
        let byte = position.byte() as usize;
        let empty = self.text[byte..].iter().take_while(|byte| matches!(byte, b'\r' | b'\n'));
        let breaks = empty.clone().filter(|&&byte| byte == b'\n').count();
        (byte + empty.count(), position.line() as usize + breaks)
    }

    /// Whether the last record ends inside of quotes: then, and only then, one more quote changes nothing.
    fn is_open(&self, record: &ByteRecord, start: usize) -> bool {
        let closed = [&self.text[start..], b"\""].concat();
        let mut reader = self.builder().from_reader(&closed[..]);
        let mut again = reader.byte_records();
        let same = again.next().is_some_and(|closed| closed.is_ok_and(|closed| closed == *record));
        same && again.next().is_none()
    }
}
