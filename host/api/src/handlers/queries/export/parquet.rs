//! Rows as Parquet, a group of rows at a time.
//!
//! A group is written once it has [`GROUP_ROWS`] rows or [`GROUP_BYTES`] of text; memory holds one, and of those before some
//! kilobytes each, until the file's end tells where they are. Columns are Snappy's.
//!
//! Every column may be null. Times are timestamps in microseconds, UTC; counts 64-bit integers; durations doubles; money and ids
//! texts; lists, objects and what has no one type (a score's value, bodies) JSON, as text. What a spreadsheet might take for
//! a formula stays as it is: nothing evaluates a cell of Parquet.

use std::sync::Arc;

use bytes::Bytes;
use chrono::DateTime;
use parquet::basic::{Compression, LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;
use serde_json::{Map, Value};

/// Rows of a group at most.
const GROUP_ROWS: usize = 5_000;
/// Text that closes a group.
const GROUP_BYTES: usize = 8 << 20;

/// A file in the making.
pub(super) struct Parquet {
    writer: SerializedFileWriter<Vec<u8>>,
    columns: Vec<Column>,
    rows: usize,
    bytes: usize,
}

/// What a column's cells of one group are, and which rows have one.
struct Column {
    name: &'static str,
    is_json: bool,
    cells: Cells,
    /// 1 for a cell, 0 for null.
    levels: Vec<i16>,
}

enum Cells {
    Text(Vec<ByteArray>),
    Integer(Vec<i64>),
    Number(Vec<f64>),
    Flag(Vec<bool>),
    /// Microseconds since the epoch.
    Time(Vec<i64>),
}

impl Parquet {
    /// With these columns; the names are those of [`What::fields`](super::super::What::fields).
    pub(super) fn new(names: &[&'static str]) -> Result<Self, ParquetError> {
        let columns: Vec<_> = names.iter().map(|name| Column::new(name)).collect();
        let fields = columns.iter().map(|column| column.schema().map(Arc::new)).collect::<Result<_, _>>()?;
        let schema = Type::group_type_builder("rows").with_fields(fields).build()?;
        // Statistics of pages would be held until the end, for every page.
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_offset_index_disabled(true)
            .set_created_by(concat!("brokle ", env!("CARGO_PKG_VERSION")).to_owned());
        let writer = SerializedFileWriter::new(Vec::new(), Arc::new(schema), Arc::new(properties.build()))?;
        Ok(Self { writer, columns, rows: 0, bytes: 0 })
    }

    /// Adds a row; what is written of the file then, if the group is full.
    pub(super) fn add(&mut self, row: &Map<String, Value>) -> Result<Option<Bytes>, ParquetError> {
        for column in &mut self.columns {
            self.bytes += column.add(row.get(column.name).unwrap_or(&Value::Null));
        }
        self.rows += 1;
        if self.rows < GROUP_ROWS && self.bytes < GROUP_BYTES {
            return Ok(None);
        }
        self.close_group()?;
        self.writer.flush()?;
        Ok(Some(std::mem::take(self.writer.inner_mut()).into()))
    }

    /// The rest of the file.
    pub(super) fn finish(mut self) -> Result<Bytes, ParquetError> {
        if self.rows > 0 {
            self.close_group()?;
        }
        Ok(self.writer.into_inner()?.into())
    }

    fn close_group(&mut self) -> Result<(), ParquetError> {
        let mut group = self.writer.next_row_group()?;
        for Column { cells, levels, .. } in &mut self.columns {
            let Some(mut column) = group.next_column()? else { break };
            let levels = std::mem::take(levels);
            match cells {
                Cells::Text(cells) => {
                    let cells = std::mem::take(cells);
                    column.typed::<ByteArrayType>().write_batch(&cells, Some(&levels), None)?
                }
                Cells::Integer(cells) | Cells::Time(cells) => {
                    let cells = std::mem::take(cells);
                    column.typed::<Int64Type>().write_batch(&cells, Some(&levels), None)?
                }
                Cells::Number(cells) => {
                    let cells = std::mem::take(cells);
                    column.typed::<DoubleType>().write_batch(&cells, Some(&levels), None)?
                }
                Cells::Flag(cells) => {
                    let cells = std::mem::take(cells);
                    column.typed::<BoolType>().write_batch(&cells, Some(&levels), None)?
                }
            };
            column.close()?;
        }
        group.close()?;
        (self.rows, self.bytes) = (0, 0);
        Ok(())
    }
}

impl Column {
    fn new(name: &'static str) -> Self {
        let (cells, is_json) = match name {
            "start_time" | "end_time" | "timestamp" | "created_at" | "updated_at" => {
                (Cells::Time(Vec::new()), false)
            }
            "duration_ms" | "time_to_first_token_ms" => (Cells::Number(Vec::new()), false),
            "status_code" | "traces" | "sessions" | "observations" | "errors" | "input_tokens"
            | "output_tokens" => (Cells::Integer(Vec::new()), false),
            "streaming" => (Cells::Flag(Vec::new()), false),
            "usage" | "error" | "tags" | "attributes" | "input" | "output" | "update" | "value"
            | "metadata" => (Cells::Text(Vec::new()), true),
            _ => (Cells::Text(Vec::new()), false),
        };
        Self { name, is_json, cells, levels: Vec::new() }
    }

    fn schema(&self) -> Result<Type, ParquetError> {
        let (physical, logical) = match self.cells {
            Cells::Text(_) if self.is_json => (Physical::BYTE_ARRAY, Some(LogicalType::Json)),
            Cells::Text(_) => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
            Cells::Integer(_) => (Physical::INT64, None),
            Cells::Number(_) => (Physical::DOUBLE, None),
            Cells::Flag(_) => (Physical::BOOLEAN, None),
            Cells::Time(_) => (Physical::INT64, Some(LogicalType::timestamp(true, TimeUnit::MICROS))),
        };
        let field = Type::primitive_type_builder(self.name, physical).with_repetition(Repetition::OPTIONAL);
        field.with_logical_type(logical).build()
    }

    /// Adds a cell; how many bytes of text it has.
    fn add(&mut self, value: &Value) -> usize {
        let mut bytes = 0;
        let is_there = !value.is_null()
            && match &mut self.cells {
                Cells::Text(cells) => {
                    let text = match value {
                        Value::String(text) if !self.is_json => text.clone(),
                        other => other.to_string(),
                    };
                    bytes = text.len();
                    cells.push(text.into_bytes().into());
                    true
                }
                Cells::Integer(cells) => push(cells, value.as_i64()),
                Cells::Number(cells) => push(cells, value.as_f64()),
                Cells::Flag(cells) => push(cells, value.as_bool()),
                Cells::Time(cells) => {
                    let time = value.as_str().and_then(|text| DateTime::parse_from_rfc3339(text).ok());
                    push(cells, time.map(|time| time.timestamp_micros()))
                }
            };
        self.levels.push(i16::from(is_there));
        bytes
    }
}

/// Whether there was one.
fn push<T>(cells: &mut Vec<T>, cell: Option<T>) -> bool {
    let before = cells.len();
    cells.extend(cell);
    cells.len() > before
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader as _, SerializedFileReader};
    use parquet::record::{Field, RowAccessor as _};
    use serde_json::json;

    use super::*;

    const NAMES: &[&str] =
        &["name", "start_time", "duration_ms", "status_code", "streaming", "usage", "cost", "value"];

    /// The file of these rows, and the lengths of the pieces that it came in.
    fn file(rows: &[Value]) -> (SerializedFileReader<Bytes>, Vec<usize>) {
        let mut parquet = Parquet::new(NAMES).unwrap();
        let mut pieces = Vec::new();
        for row in rows {
            pieces.extend(parquet.add(row.as_object().unwrap()).unwrap());
        }
        pieces.push(parquet.finish().unwrap());
        let lengths = pieces.iter().map(Bytes::len).collect();
        (SerializedFileReader::new(Bytes::from(pieces.concat())).unwrap(), lengths)
    }

    #[test]
    fn every_cell_comes_back_and_null_is_null() {
        let rows = [
            json!({"name": "=1+1 ä", "start_time": "2026-03-01T00:00:00.123456Z", "duration_ms": 1.5, "status_code": 200,
                "streaming": true, "usage": {"total": 3}, "cost": "0.000000000000000001", "value": "a \"text\"", "else": 1}),
            json!({"name": null, "value": 0.5}),
            json!({"status_code": "no number", "start_time": "no time"}),
        ];
        let (file, _) = file(&rows);
        let read: Vec<_> = file.get_row_iter(None).unwrap().map(Result::unwrap).collect();
        assert_eq!(read.len(), 3);
        let first = &read[0];
        assert_eq!(first.get_string(0).unwrap(), "=1+1 ä");
        assert_eq!(first.get_timestamp_micros(1).unwrap(), 1_772_323_200_123_456);
        assert_eq!(first.get_double(2).unwrap().to_bits(), 1.5_f64.to_bits());
        assert_eq!(first.get_long(3).unwrap(), 200);
        assert!(first.get_bool(4).unwrap());
        let json = |row: &parquet::record::Row, at| match row.get_column_iter().nth(at).unwrap().1 {
            Field::Str(text) => text.clone(),
            Field::Bytes(bytes) => String::from_utf8(bytes.data().to_vec()).unwrap(),
            other => panic!("{other:?}"),
        };
        assert_eq!(json(first, 5), r#"{"total":3}"#);
        assert_eq!(first.get_string(6).unwrap(), "0.000000000000000001");
        assert_eq!((json(first, 7), json(&read[1], 7)), (r#""a \"text\"""#.to_owned(), "0.5".to_owned()));
        for (row, nulls) in [(&read[1], 0..7), (&read[2], 0..8)] {
            for (at, (_, field)) in row.get_column_iter().enumerate() {
                assert!(!nulls.contains(&at) || matches!(field, Field::Null), "{at}: {field:?}");
            }
        }
    }

    #[test]
    fn a_long_list_comes_group_by_group() {
        let row = |n: usize| json!({"name": n.to_string(), "duration_ms": n as f64});
        let rows: Vec<_> = (0..2 * GROUP_ROWS + 7).map(row).collect();
        let (file, pieces) = file(&rows);
        assert_eq!(pieces.len(), 3);
        let groups: Vec<_> = file.metadata().row_groups().iter().map(|group| group.num_rows()).collect();
        assert_eq!(groups, [GROUP_ROWS as i64, GROUP_ROWS as i64, 7]);
        for (n, row) in file.get_row_iter(None).unwrap().enumerate() {
            assert_eq!(row.unwrap().get_string(0).unwrap(), &n.to_string());
        }
        // Large rows make smaller groups.
        let large = |_| json!({"name": "x".repeat(3 << 20)});
        let (large, _) = self::file(&(0..4).map(large).collect::<Vec<_>>());
        assert_eq!(large.metadata().num_row_groups(), 2);
        let (empty, _) = self::file(&[]);
        assert_eq!((empty.metadata().num_row_groups(), empty.get_row_iter(None).unwrap().count()), (0, 0));
    }
}
