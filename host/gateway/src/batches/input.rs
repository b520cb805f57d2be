//! A batch's file, line by line: JSON objects with `custom_id`, `method`, `url` and `body`.
//!
//! Lines are read one after the other, and never all at once. A file that is wrong in any line is no batch; the first
//! [`TOLD`] of what is wrong are told, with their lines.

use std::collections::HashSet;
use std::io;

use brokle_storage::blobs::BlobReader;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

/// Errors that are told.
pub(super) const TOLD: usize = 100;
/// The longest line: 16 MiB.
const LONGEST: u64 = 16 << 20;
/// The longest `custom_id`, in characters.
const LONGEST_ID: usize = 512;

/// Reads lines.
pub(super) struct Lines(BufReader<BlobReader>);

/// What stands in a file where a line may be.
pub(super) enum Piece {
    /// A line, without its end.
    Line(Vec<u8>),
    /// One that is too long; nothing behind it is read.
    TooLong,
    /// There are no more.
    End,
}

impl Lines {
    pub(super) fn new(reader: BlobReader) -> Self {
        Self(BufReader::new(reader))
    }

    /// The next line that isn't blank.
    pub(super) async fn next(&mut self) -> io::Result<Piece> {
        loop {
            let mut line = Vec::new();
            let read = (&mut self.0).take(LONGEST + 1).read_until(b'\n', &mut line).await?;
            if read == 0 {
                return Ok(Piece::End);
            }
            if read as u64 > LONGEST {
                return Ok(Piece::TooLong);
            }
            let text = line.trim_ascii_end();
            let length = text.len();
            line.truncate(length);
            if !line.trim_ascii_start().is_empty() {
                return Ok(Piece::Line(line));
            }
        }
    }
}

/// A line, read.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) custom_id: String,
    pub(super) body: Bytes,
}

#[derive(Deserialize)]
struct Written<'a> {
    custom_id: Option<String>,
    method: Option<String>,
    url: Option<String>,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
}

/// Reads a line.
///
/// # Errors
/// What is wrong with it: a code, a message, and the member at fault.
pub(super) fn read(
    line: &[u8],
    endpoint: &str,
) -> Result<Asked, (&'static str, String, Option<&'static str>)> {
    // Checked as every body is: depth, escapes, and that it is text.
    let json = brokle_core::json::scan(line, |_, _| {});
    let written: Result<Written<'_>, _> = serde_json::from_slice(line);
    let (Ok(_), Ok(written)) = (json, written) else {
        return Err(("invalid_json_line", "This line is not parseable as valid JSON.".into(), None));
    };
    let missing = |name: &'static str| {
        ("missing_required_parameter", format!("Missing required parameter: '{name}'."), Some(name))
    };
    let custom_id = written.custom_id.filter(|id| !id.is_empty()).ok_or_else(|| missing("custom_id"))?;
    if custom_id.chars().count() > LONGEST_ID {
        let message = format!("'custom_id' has {LONGEST_ID} characters at most.");
        return Err(("invalid_request", message, Some("custom_id")));
    }
    if written.method.ok_or_else(|| missing("method"))? != "POST" {
        return Err(("invalid_method", "'method' must be 'POST'.".into(), Some("method")));
    }
    if written.url.ok_or_else(|| missing("url"))? != endpoint {
        let message = format!("'url' must be the batch's endpoint, '{endpoint}'.");
        return Err(("mismatched_endpoint", message, Some("url")));
    }
    let body = written.body.ok_or_else(|| missing("body"))?.get();
    if !body.starts_with('{') {
        return Err(("invalid_type", "'body' must be an object.".into(), Some("body")));
    }
    let streams = brokle_core::json::find(body.as_bytes(), "/stream");
    if streams.and_then(|at| body.get(at)) == Some("true") {
        return Err(("invalid_request", "A batch's answers can't be streamed.".into(), Some("body.stream")));
    }
    Ok(Asked { custom_id, body: Bytes::copy_from_slice(body.as_bytes()) })
}

/// Checks a whole file: how many lines it has, or what is wrong with it.
pub(super) async fn check(lines: &mut Lines, endpoint: &str, most: u64) -> io::Result<Result<i64, Value>> {
    let (mut ids, mut errors, mut count) = (HashSet::new(), Vec::new(), 0_i64);
    let error = |code: &str, message: &str, param: Option<&str>, line: Option<i64>| json!({"code": code, "message": message, "param": param, "line": line});
    loop {
        let line = match lines.next().await? {
            Piece::Line(line) => line,
            Piece::TooLong => {
                let message = format!("A line may have {LONGEST} bytes at most.");
                errors.push(error("line_too_large", &message, None, Some(count + 1)));
                break;
            }
            Piece::End => break,
        };
        count += 1;
        if count.unsigned_abs() > most {
            let message = format!("A batch may have {most} lines at most.");
            errors.push(error("too_many_lines", &message, None, None));
            break;
        }
        match read(&line, endpoint) {
            Ok(asked) => {
                if !ids.insert(asked.custom_id) {
                    let message = "Another line has this 'custom_id' already.";
                    errors.push(error("duplicate_custom_id", message, Some("custom_id"), Some(count)));
                }
            }
            Err((code, message, param)) => errors.push(error(code, &message, param, Some(count))),
        }
        if errors.len() >= TOLD {
            break;
        }
    }
    if count == 0 && errors.is_empty() {
        errors.push(error("empty_file", "The file has no lines.", None, None));
    }
    Ok(if errors.is_empty() { Ok(count) } else { Err(Value::Array(errors)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "/v1/chat/completions";

    fn lines(text: &'static str) -> Lines {
        Lines::new(Box::pin(text.as_bytes()))
    }

    async fn wrong(text: &'static str) -> Vec<(String, i64)> {
        let checked = check(&mut lines(text), URL, 3).await.unwrap();
        let errors = checked.unwrap_err();
        let told = |error: &Value| {
            (error["code"].as_str().unwrap().to_owned(), error["line"].as_i64().unwrap_or(-1))
        };
        errors.as_array().unwrap().iter().map(told).collect()
    }

    #[tokio::test]
    async fn each_wrong_line_is_told() {
        let text = concat!(
            "\u{feff}{}\n",
            r#"{"custom_id":"a","method":"GET","url":"/v1/chat/completions","body":{}}"#,
            "\n\r\n",
            r#"{"custom_id":"a","method":"POST","url":"/v1/embeddings","body":{}}"#,
        );
        let is = |code: &str, line| (code.to_owned(), line);
        assert_eq!(
            wrong(text).await,
            [is("invalid_json_line", 1), is("invalid_method", 2), is("mismatched_endpoint", 3)]
        );
        assert_eq!(wrong(" \n\n").await, [is("empty_file", -1)]);
        let text = r#"{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"stream":true}}
            {"method":"POST","url":"/v1/chat/completions","body":{}}
            {"custom_id":"b","method":"POST","url":"/v1/chat/completions","body":[]}
            {"custom_id":"c","method":"POST","url":"/v1/chat/completions","body":{}}"#;
        assert_eq!(
            wrong(text).await,
            [
                is("invalid_request", 1),
                is("missing_required_parameter", 2),
                is("invalid_type", 3),
                is("too_many_lines", -1)
            ]
        );
        let twice = r#"{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{}}
            {"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{}}"#;
        assert_eq!(wrong(twice).await, [is("duplicate_custom_id", 2)]);
    }

    #[tokio::test]
    async fn a_body_is_kept_as_it_is_written() {
        let line = br#"{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"n" : 1.0, "x":"\u00e9"}}"#;
        let asked = read(line, URL).unwrap();
        assert_eq!((asked.custom_id.as_str(), &asked.body[..]), ("a", &br#"{"n" : 1.0, "x":"\u00e9"}"#[..]));
        let long: &'static str = Box::leak(format!("{{\"a\":\"{}\"}}", "x".repeat(LONGEST as usize)).into());
        assert_eq!(wrong(long).await, [("line_too_large".to_owned(), 1)]);
    }
}
