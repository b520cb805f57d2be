//! Lists as files: NDJSON and CSV, page after page, so that memory is bounded by a page whatever the list's length.
//!
//! The first page is read before the answer begins, so that what is wrong is a proper error. Should a later one fail, the
//! connection breaks off: a file that ends well is complete.
//!
//! **CSV** is RFC 4180's, with a line of names. Lists and objects are JSON in their cell. A text that a spreadsheet
//! would take for a formula (it begins with `=`, `+`, `-`, `@`, a tab or a carriage return) gets an apostrophe in front.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use brokle_core::ids::ProjectId;
use brokle_storage::observations::query::{Query as Question, QueryStore, SortBy};
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use serde_json::{Map, Value};

use super::{Fields, What, fetch};
use crate::error::ApiError;

/// Rows that are read at once.
const PAGE: u32 = 500;
/// The same with bodies, each of which may be large.
const PAGE_WITH_BODIES: u32 = 20;

/// How a list is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    NdJson,
    Csv,
}

impl Format {
    /// `?format=`, else `Accept`, else JSON.
    pub(super) fn of(format: Option<&str>, headers: &HeaderMap) -> Result<Self, ApiError> {
        match format {
            Some("json") => return Ok(Self::Json),
            Some("ndjson") => return Ok(Self::NdJson),
            Some("csv") => return Ok(Self::Csv),
            Some(_) => {
                return Err(
                    ApiError::invalid_request("format: json, ndjson or csv is expected").param("format")
                );
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
        } else {
            Self::Json
        })
    }

    const fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::NdJson => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8; header=present",
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
    let (first, rest) = export.page(true).await?;
    let first = futures_util::stream::iter([Ok::<_, ApiError>(first)]);
    let rest = futures_util::stream::try_unfold(rest, |export| async {
        let Some(export) = export else { return Ok(None) };
        export.page(false).await.map(Some)
    });
    let body = Body::from_stream(futures_util::StreamExt::chain(first, rest));
    let mut answer = Response::new(body);
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    Ok(answer)
}

impl Export {
    /// A page as text, and what comes after it, if anything does.
    async fn page(mut self, is_first: bool) -> Result<(Bytes, Option<Self>), ApiError> {
        let left = self.limit.unwrap_or(u32::MAX);
        self.question.limit = self.question.limit.min(left.max(1));
        let page = fetch(&*self.store, self.project, self.what, self.question.clone()).await?;
        let mut text = Vec::new();
        if is_first && self.format == Format::Csv {
            text.extend_from_slice(self.fields.names().join(",").as_bytes());
            text.extend_from_slice(b"\r\n");
        }
        let mut rows = 0;
        for row in page.data.into_iter().take(left as usize) {
            rows += 1;
            match self.format {
                Format::Csv => write_csv(&mut text, self.fields.names(), &row),
                _ => {
                    serde_json::to_writer(&mut text, &self.fields.select(row)).map_err(ApiError::internal)?;
                    text.push(b'\n');
                }
            }
        }
        let left = left - rows.min(left);
        let next = page.next_cursor.filter(|_| left > 0).map(|place| {
            self.limit = self.limit.map(|_| left);
            self.question.after = Some(place);
            self
        });
        Ok((text.into(), next))
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
