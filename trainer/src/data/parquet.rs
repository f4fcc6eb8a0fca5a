//! Parquet: texts, numbers, truth values and lists of them by column.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::Field;
use serde_json::{Map, Number, Value};

use super::rows::File;
use super::{DataError, Row};

pub(super) fn rows(file: &File<'_>, bytes: Bytes) -> Result<Vec<Result<Row, DataError>>, DataError> {
    // the crate panics on some damaged files (a negative offset, a page without encoding); nothing of its state is
    // used afterwards
    let read = catch_unwind(AssertUnwindSafe(|| read(file, bytes)));
    read.unwrap_or_else(|_| Err(file.unusable("the file is damaged; write it anew")))
}

fn read(file: &File<'_>, bytes: Bytes) -> Result<Vec<Result<Row, DataError>>, DataError> {
    let reader = SerializedFileReader::new(bytes).map_err(|error| file.unusable(error.to_string()))?;
    let schema = reader.metadata().file_metadata().schema();
    let columns: Vec<String> = schema.get_fields().iter().map(|field| field.name().to_owned()).collect();
    file.check_columns(&columns, "")?;
    let rows = reader.get_row_iter(None).map_err(|error| file.unusable(error.to_string()))?;
    let mut read = Vec::new();
    for (i, row) in rows.take(file.limit()).enumerate() {
        let place = file.row(i + 1);
        match row {
            Ok(row) => {
                let values: Map<String, Value> =
                    row.into_columns().into_iter().map(|(name, field)| (name, value(field))).collect();
                read.push(Ok(Row::new(place, values)));
            }
            Err(error) => {
                // what follows a page that cannot be read cannot be read either
                read.push(Err(DataError::Malformed { place, reason: error.to_string() }));
                break;
            }
        }
    }
    Ok(read)
}

fn value(field: Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(truth) => Value::Bool(truth),
        Field::Byte(number) => number.into(),
        Field::Short(number) => number.into(),
        Field::Int(number) => number.into(),
        Field::Long(number) => number.into(),
        Field::UByte(number) => number.into(),
        Field::UShort(number) => number.into(),
        Field::UInt(number) => number.into(),
        Field::ULong(number) => number.into(),
        Field::Float16(number) => float(&number.to_string()),
        Field::Float(number) => float(&number.to_string()),
        Field::Double(number) => Number::from_f64(number).map_or(Value::Null, Value::Number),
        Field::Str(text) => Value::String(text),
        // writers of older files leave out that the bytes are text
        Field::Bytes(bytes) => match std::str::from_utf8(bytes.data()) {
            Ok(text) => Value::String(text.to_owned()),
            Err(_) => bytes.data().into(),
        },
        Field::ListInternal(list) => list.elements().iter().cloned().map(value).collect(),
        Field::Group(row) => {
            row.into_columns().into_iter().map(|(name, field)| (name, value(field))).collect()
        }
        Field::MapInternal(_)
        | Field::Decimal(_)
        | Field::Date(_)
        | Field::TimeMillis(_)
        | Field::TimeMicros(_)
        | Field::TimestampMillis(_)
        | Field::TimestampMicros(_) => Value::String(field.to_string()),
    }
}

/// A short float as its own shortest digits, which its value as a double has not.
fn float(digits: &str) -> Value {
    digits.parse().ok().and_then(Number::from_f64).map_or(Value::Null, Value::Number)
}
