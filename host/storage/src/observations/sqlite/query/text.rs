//! SQL functions that filters use.
//!
//! - `brokle_has(text, needle)`: whether the lower-case needle is in the text, in any case (Unicode).
//! - `brokle_body_has(body, needle)`: the same for a stored body, as its bytes came.
//! - `brokle_number(value)`: a number, or a text that is one; else NULL.

use rusqlite::Connection;
use rusqlite::functions::FunctionFlags;
use rusqlite::types::ValueRef;

use super::super::super::AnalyticsError;
use super::super::super::query::parse::number;
use super::super::body;

pub(super) fn add_functions(connection: &Connection) -> Result<(), AnalyticsError> {
    let flags =
        FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_DIRECTONLY;
    connection.create_scalar_function("brokle_has", 2, flags, |context| {
        let needle = context.get_raw(1).as_str()?;
        let text = context.get_raw(0).as_str_or_null()?;
        Ok(text.is_some_and(|text| has(text, needle)))
    })?;
    connection.create_scalar_function("brokle_body_has", 2, flags, |context| {
        let needle = context.get_raw(1).as_str()?;
        let Some(packed) = context.get_raw(0).as_blob_or_null()? else { return Ok(false) };
        let body = body::unpack(packed).map_err(|error| rusqlite::Error::UserFunctionError(error.into()))?;
        Ok(has(&String::from_utf8_lossy(&body), needle))
    })?;
    connection.create_scalar_function("brokle_number", 1, flags, |context| {
        Ok(match context.get_raw(0) {
            ValueRef::Integer(whole) => Some(whole as f64),
            ValueRef::Real(real) => Some(real),
            ValueRef::Text(text) => std::str::from_utf8(text).ok().and_then(number),
            ValueRef::Null | ValueRef::Blob(_) => None,
        })
    })?;
    Ok(())
}

fn has(text: &str, needle: &str) -> bool {
    text.to_lowercase().contains(needle)
}
