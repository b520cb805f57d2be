//! Embeddings: `embedContent` for one text, `batchEmbedContents` for a list.
//!
//! The API counts no tokens here, so the answer's counts are 0. A caller that wants base64 (OpenAI's clients do unless
//! told otherwise) gets 32-bit floats, little-endian. An instance serves one request, and keeps what the caller asked
//! for until the answer comes.

use alloc::borrow::{Cow, ToOwned};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use base64::Engine;
use brokle_plugin::Problem;
use brokle_plugin::provider::{Frame, Output};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::fields::{Fields, parse};
use crate::options::Options;

/// What the caller of this instance's one request wants vectors as.
static BASE64: AtomicBool = AtomicBool::new(false);

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
pub(crate) fn request(
    body: &[u8],
    model: &str,
    options: &Options,
) -> Result<(&'static str, Vec<u8>), Problem> {
    let fields = Fields::parse(body)?;
    let format = fields.get::<Cow<'_, str>>("encoding_format")?;
    BASE64.store(format.as_deref() == Some("base64"), Ordering::Relaxed);
    let Some(input) = fields.raw("input") else {
        return Err(Problem::invalid("input", "'input' is required."));
    };
    let (one, texts) = match input.get().as_bytes().first() {
        Some(b'"') => (true, vec![parse::<Cow<'_, str>>(input, "input")?]),
        _ => match serde_json::from_str::<Vec<Cow<'_, str>>>(input.get()) {
            Ok(texts) => (false, texts),
            Err(_) => {
                options.lacks("input", "Gemini embeds texts, not tokens.")?;
                return Err(Problem::invalid("input", "'input' must be a text or a list of texts."));
            }
        },
    };
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
    let (method, data) = match (one, requests.first()) {
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
        frames.iter().map(|frame| self.document(&frame.data)).collect()
    }

    fn document(&mut self, data: &[u8]) -> Result<Output, Problem> {
        self.seen = true;
        let answer: Answer = serde_json::from_slice(data).map_err(Problem::bad_answer)?;
        let embeddings = answer.embedding.into_iter().chain(answer.embeddings);
        let data: Vec<Value> = embeddings
            .enumerate()
            .map(|(index, embedding)| {
                let vector = match BASE64.load(Ordering::Relaxed) {
                    true => encoded(&embedding.values).into(),
                    false => Value::from(embedding.values),
                };
                json!({"object": "embedding", "index": index, "embedding": vector})
            })
            .collect();
        let usage = json!({"prompt_tokens": 0, "total_tokens": 0});
        Ok(Output::json(&json!({"object": "list", "data": data, "model": self.model, "usage": usage})))
    }

    pub(crate) fn finish(&mut self) -> Result<Vec<Output>, Problem> {
        match self.seen {
            true => Ok(Vec::new()),
            false => Err(Problem::bad_answer("it is empty")),
        }
    }
}

fn encoded(values: &[f32]) -> String {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
