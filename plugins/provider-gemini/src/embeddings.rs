//! Embeddings: `embedContent` for one text, `batchEmbedContents` for a list.
//!
//! The API counts no tokens here, so the answer's counts are 0.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use brokle_plugin::Problem;
use brokle_plugin::provider::{Frame, Output};
use serde::{Deserialize, Serialize};
use serde_json::json;
use shared_canonical::{Fields, embeddings};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EmbedRequest<'a> {
    model: &'a str,
    content: Content<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    task_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_dimensionality: Option<u32>,
}

#[derive(Serialize)]
struct Content<'a> {
    parts: [Part<'a>; 1],
}

#[derive(Serialize)]
struct Part<'a> {
    text: &'a str,
}

/// Method and body for a canonical embeddings request.
pub(crate) fn request(body: &[u8], model: &str) -> Result<(&'static str, Vec<u8>), Problem> {
    let fields = Fields::parse(body)?;
    let (texts, is_list) = embeddings::texts(&fields)?;
    let task_type = fields.get::<String>("task_type")?;
    let output_dimensionality = fields.get("dimensions")?;
    let model = match model.contains('/') {
        true => model.to_owned(),
        false => format!("models/{model}"),
    };
    let requests: Vec<_> = texts
        .iter()
        .map(|text| EmbedRequest {
            model: &model,
            content: Content { parts: [Part { text }] },
            task_type: task_type.as_deref(),
            output_dimensionality,
        })
        .collect();
    let (method, data) = match (!is_list, requests.first()) {
        (true, Some(request)) => ("embedContent", serde_json::to_vec(request)),
        _ => ("batchEmbedContents", serde_json::to_vec(&json!({ "requests": requests }))),
    };
    let data =
        data.map_err(|error| Problem::invalid("", format!("The request can't be written: {error}.")))?;
    Ok((method, data))
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    embedding: Option<Embedding>,
    #[serde(default)]
    embeddings: Vec<Embedding>,
}

#[derive(Deserialize)]
struct Embedding {
    values: Vec<f32>,
}

pub(crate) struct EmbeddingsDecoder {
    model: String,
    seen: bool,
}

impl EmbeddingsDecoder {
    pub(crate) fn new(model: String) -> Self {
        Self { model, seen: false }
    }

    pub(crate) fn push(&mut self, frames: &[Frame]) -> Result<Vec<Output>, Problem> {
        let mut outputs = Vec::new();
        for frame in frames {
            self.seen = true;
            let answer: Answer = serde_json::from_slice(&frame.data).map_err(Problem::bad_answer)?;
            let vectors = answer.embedding.into_iter().chain(answer.embeddings);
            outputs.extend(embeddings::list(&self.model, vectors.map(|one| one.values).collect(), None));
        }
        Ok(outputs)
    }

    pub(crate) fn finish(&mut self) -> Result<Vec<Output>, Problem> {
        match self.seen {
            true => Ok(Vec::new()),
            false => Err(Problem::bad_answer("it is empty")),
        }
    }
}
