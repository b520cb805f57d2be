//! Reading a fixture's folder.

use std::collections::BTreeMap;
use std::path::Path;

use brokle_runtime::exchange::{Call, ResponseHead};
use brokle_runtime::{Body, Header};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Error;

/// `case.json`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// `chat.completions`, …
    pub operation: String,
    /// The model as the vendor names it.
    pub model: String,
    /// Whether the caller wants a stream.
    #[serde(default)]
    pub streaming: bool,
    /// The fields of a form, in order, instead of `request.json`; a value `@NAME` is a file of that name, whose content
    /// is the same in each test.
    #[serde(default)]
    pub form: Option<serde_json::Map<String, Value>>,
    /// The connection's options.
    #[serde(default = "empty")]
    pub options: Value,
    /// The call's attributes.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
    /// The name of an unstreamed fixture whose answer the joined chunks must equal.
    #[serde(default)]
    pub same_as: Option<String>,
}

fn empty() -> Value {
    Value::Object(serde_json::Map::new())
}

/// `response-head.json`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    status: u16,
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

impl Case {
    /// The call that the host would make of it. Id and time are always the same.
    pub(crate) fn call(&self) -> Call {
        Call {
            operation: self.operation.clone(),
            model: self.model.clone(),
            streaming: self.streaming,
            format: "canonical".into(),
            content_type: if self.form.is_some() { "multipart/form-data" } else { "application/json" }.into(),
            request_id: "01JTESTKIT0000000000000000".into(),
            created: 1_700_000_000,
            options: self.options.to_string().into_bytes(),
            attributes: self.attributes.clone().into_iter().collect(),
        }
    }
}

/// Between the parts of a form, and of its content type.
const BOUNDARY: &str = "a-boundary-of-the-test-kit";

/// What the caller sends: the form that the case tells, or `request.json`.
pub(crate) fn request(case: &Case, folder: &Path) -> Result<Body, Error> {
    let Some(fields) = &case.form else {
        return Ok(Body::json(bytes(&folder.join("request.json"))?.into()));
    };
    let mut text = String::new();
    for (name, value) in fields {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let head = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"");
        text.push_str(&match value.strip_prefix('@') {
            Some(file) => format!(
                "{head}; filename=\"{file}\"\r\nContent-Type: application/octet-stream\r\n\r\na file\r\n"
            ),
            None => format!("{head}\r\n\r\n{value}\r\n"),
        });
    }
    text.push_str(&format!("--{BOUNDARY}--\r\n"));
    let form = Body::form(&format!("multipart/form-data; boundary={BOUNDARY}"), text.into());
    form.map_err(|error| Error::File { path: folder.join("case.json"), detail: error.to_string() })
}

/// The vendor's answer in a folder, when it has one.
pub(crate) fn response(folder: &Path) -> Result<Option<(ResponseHead, Vec<u8>)>, Error> {
    let names = ["response.json", "response.sse", "response.ndjson", "response.txt", "response.eventstream"];
    let Some(path) = names.iter().map(|name| folder.join(name)).find(|path| path.exists()) else {
        return Ok(None);
    };
    Ok(Some((head(&folder.join("response-head.json"))?, bytes(&path)?)))
}

/// The answers to further requests: `response-2.json` and so on, in order, with heads of their own.
pub(crate) fn further(folder: &Path) -> Result<Vec<(ResponseHead, Vec<u8>)>, Error> {
    let mut answers = Vec::new();
    for number in 2.. {
        let path = folder.join(format!("response-{number}.json"));
        if !path.exists() {
            break;
        }
        answers.push((head(&folder.join(format!("response-head-{number}.json")))?, bytes(&path)?));
    }
    Ok(answers)
}

fn head(path: &Path) -> Result<ResponseHead, Error> {
    Ok(match optional::<Head>(path)? {
        Some(Head { status, headers }) => ResponseHead {
            status,
            headers: headers.into_iter().map(|(name, value)| Header { name, value }).collect(),
        },
        None => ResponseHead { status: 200, headers: Vec::new() },
    })
}

pub(crate) fn bytes(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|error| Error::File { path: path.to_owned(), detail: error.to_string() })
}

pub(crate) fn required<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    serde_json::from_slice(&bytes(path)?)
        .map_err(|error| Error::File { path: path.to_owned(), detail: error.to_string() })
}

pub(crate) fn optional<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    if path.exists() { required(path).map(Some) } else { Ok(None) }
}
