//! Lists as files: NDJSON, CSV and [Parquet](parquet), page after page, so that memory is bounded by a page whatever the list's
//! length.
//!
//! The first page is read before the answer begins, so that what is wrong is a proper error. Should a later one fail, the
//! connection breaks off: a file that ends well is complete.
//!
//! **CSV** is RFC 4180's, with a line of names. Lists and objects are JSON in their cell. A text that a spreadsheet
//! would take for a formula (it begins with `=`, `+`, `-`, `@`, a tab or a carriage return) gets an apostrophe in front.

mod parquet;

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use brokle_core::ids::ProjectId;
use brokle_storage::observations::query::{Query as Question, QueryStore, SortBy};
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use serde_json::{Map, Value};

use self::parquet::Parquet;
use super::{Fields, What, fetch};
use crate::error::ApiError;

/// Rows that are read at once.
const PAGE: u32 = 500;
/// The same with bodies, each of which may be large.
const PAGE_WITH_BODIES: u32 = 20;

/// As the Internet Assigned Numbers Authority has registered it.
const PARQUET: &str = "application/vnd.apache.parquet";

/// How a list is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    NdJson,
    Csv,
    Parquet,
}

impl Format {
    /// `?format=`, else `Accept`, else JSON.
    pub(super) fn of(format: Option<&str>, headers: &HeaderMap) -> Result<Self, ApiError> {
        match format {
            Some("json") => return Ok(Self::Json),
            Some("ndjson") => return Ok(Self::NdJson),
            Some("csv") => return Ok(Self::Csv),
            Some("parquet") => return Ok(Self::Parquet),
            Some(_) => {
                let message = "format: json, ndjson, csv or parquet is expected";
                return Err(ApiError::invalid_request(message).param("format"));
            }
            None => {}
        }
        let accepted = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
        let media =
            |name| accepted.split(',').any(|one| one.split(';').next().is_some_and(|one| one.trim() == name));
        Ok(if media("application/x-ndjson") {
            Self::NdJson
        } else if media("text/csv") {
            Self::Csv
        } else if media(PARQUET) {
            Self::Parquet
        } else {
            Self::Json
        })
    }

    const fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::NdJson => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::Parquet => PARQUET,
        }
    }
}

/// A list that is written out.
pub(super) struct Export {
    pub(super) store: Arc<dyn QueryStore>,
    pub(super) project: ProjectId,
    pub(super) what: What,
    pub(super) question: Question,
    pub(super) fields: Fields,
    pub(super) format: Format,
    /// Rows at most, if somebody said so.
    pub(super) limit: Option<u32>,
}

pub(super) async fn export(mut export: Export) -> Result<Response, ApiError> {
    let is_grouped = matches!(export.what, What::Groups(_));
    if !is_grouped && export.question.sort.by != SortBy::Time {
        // Any other order would read everything again for each page.
        return Err(ApiError::invalid_request("sort: an export is ordered by time").param("sort"));
    }
    export.question.limit = match export.what {
        // They are put together as a whole anyway, and their number is bounded.
        What::Groups(_) => u32::try_from(export.store.limits().groups).unwrap_or(u32::MAX),
        _ if export.question.bodies => PAGE_WITH_BODIES,
        _ => PAGE,
    };
    let media_type = export.format.media_type();
    let parquet = match export.format {
        Format::Parquet => Some(Parquet::new(export.fields.names()).map_err(ApiError::internal)?),
        _ => None,
    };
    let (first, rest) = Part { export, parquet, is_first: true }.write().await?;
    let first = futures_util::stream::iter([Ok::<_, ApiError>(first)]);
    let rest = futures_util::stream::try_unfold(rest, |part| async {
        let Some(part) = part else { return Ok(None) };
        part.write().await.map(Some)
    });
    let body = Body::from_stream(futures_util::StreamExt::chain(first, rest));
    let mut answer = Response::new(body);
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    Ok(answer)
}

/// A page that is to be written, and what comes after it.
struct Part {
    export: Export,
    /// The file, if it is Parquet: rows wait in it for their group.
    parquet: Option<Parquet>,
    is_first: bool,
}

impl Part {
    /// The page as bytes, and what comes after it, if anything does.
    async fn write(mut self) -> Result<(Bytes, Option<Self>), ApiError> {
        let export = &mut self.export;
        let left = export.limit.unwrap_or(u32::MAX);
        export.question.limit = export.question.limit.min(left.max(1));
        let page = fetch(&*export.store, export.project, export.what, export.question.clone()).await?;
        let mut out = Vec::new();
        if self.is_first && export.format == Format::Csv {
            out.extend_from_slice(export.fields.names().join(",").as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        let mut rows = 0;
        for row in page.data.into_iter().take(left as usize) {
            rows += 1;
            match (&mut self.parquet, export.format) {
                (Some(parquet), _) => {
                    out.extend(parquet.add(&row).map_err(ApiError::internal)?.unwrap_or_default());
                }
                (None, Format::Csv) => write_csv(&mut out, export.fields.names(), &row),
                (None, _) => {
                    serde_json::to_writer(&mut out, &export.fields.select(row))
                        .map_err(ApiError::internal)?;
                    out.push(b'\n');
                }
            }
        }
        let left = left - rows.min(left);
        let Some(place) = page.next_cursor.filter(|_| left > 0) else {
            if let Some(parquet) = self.parquet {
                out.extend(parquet.finish().map_err(ApiError::internal)?);
            }
            return Ok((out.into(), None));
        };
        export.limit = export.limit.map(|_| left);
        export.question.after = Some(place);
        Ok((out.into(), Some(Self { is_first: false, ..self })))
    }
}

fn write_csv(out: &mut Vec<u8>, names: &[&str], row: &Map<String, Value>) {
    for (at, name) in names.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        let cell = match row.get(*name) {
            None | Some(Value::Null) => continue,
            Some(Value::String(text)) if text.starts_with(['=', '+', '-', '@', '\t', '\r']) => {
                format!("'{text}")
            }
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        if cell.contains([',', '"', '\r', '\n']) {
            out.extend_from_slice(format!("\"{}\"", cell.replace('"', "\"\"")).as_bytes());
        } else {
            out.extend_from_slice(cell.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_and_no_formula() {
        let row =
            serde_json::json!({"a": "x, \"y\"\n", "b": "=1+1", "c": ["t"], "d": null, "e": -1.5, "f": "-1"});
        let mut out = Vec::new();
        write_csv(&mut out, &["a", "b", "c", "d", "e", "f"], row.as_object().unwrap());
        assert_eq!(String::from_utf8(out).unwrap(), "\"x, \"\"y\"\"\n\",'=1+1,\"[\"\"t\"\"]\",,-1.5,'-1\r\n");
    }
}
