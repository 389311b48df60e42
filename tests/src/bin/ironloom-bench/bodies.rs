//! Bodies of pushes.

use std::fmt::Write as _;
use std::sync::Arc;

use anyhow::Result;
use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, DictionaryArray, Float64Array, RecordBatch, TimestampMicrosecondArray};
use arrow_ipc::writer::StreamWriter;

/// The time of the first reading, in microseconds: 14 November 2023.
const FIRST: i64 = 1_700_000_000_000_000;

/// Readings as one JSON object on each line.
pub(crate) fn lines(readings: &[(u32, f64)]) -> Result<String> {
    let mut body = String::with_capacity(readings.len() * 48);
    for (point, value) in readings {
        writeln!(body, r#"{{"point":"bench/p{point}/value","value":{value:?}}}"#)?;
    }
    Ok(body)
}

/// Readings as one batch of an Arrow stream, whose dictionary has the points that they are of.
pub(crate) fn columns(readings: &[(u32, f64)]) -> Result<Vec<u8>> {
    let names: Vec<String> = readings.iter().map(|(point, _)| format!("bench/p{point}/value")).collect();
    let point: DictionaryArray<Int32Type> = names.iter().map(|name| Some(name.as_str())).collect();
    let value = Float64Array::from_iter_values(readings.iter().map(|(_, value)| *value));
    let at = TimestampMicrosecondArray::from_iter_values((FIRST..).take(readings.len())).with_timezone("UTC");
    let columns: [(&str, ArrayRef); 3] =
        [("point", Arc::new(point)), ("value", Arc::new(value)), ("at", Arc::new(at))];
    let batch = RecordBatch::try_from_iter(columns)?;
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema())?;
    writer.write(&batch)?;
    Ok(writer.into_inner()?)
}
