//! Embeddings: the texts of a request, and the list of an answer.
//!
//! A caller that wants base64 (OpenAI's clients do unless told otherwise) gets 32-bit floats, little-endian. An instance
//! serves one request, and keeps what the caller asked for until the answer comes.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use base64::Engine;
use brokle_plugin::provider::Output;
use brokle_plugin::{Problem, UsageEntry};
use serde_json::{Value, json};

use crate::fields::{Fields, parse};

/// What the caller of this instance's one request wants vectors as.
static BASE64: AtomicBool = AtomicBool::new(false);

/// The texts of `input`, and whether it is a list. Remembers `encoding_format` for [`list`].
///
/// # Errors
/// There are none, or they are tokens, which only OpenAI's models take.
pub fn texts<'a>(fields: &Fields<'a>) -> Result<(Vec<Cow<'a, str>>, bool), Problem> {
    let format = fields.get::<String>("encoding_format")?;
    BASE64.store(format.as_deref() == Some("base64"), Ordering::Relaxed);
    let Some(input) = fields.raw("input") else {
        return Err(Problem::invalid("input", "'input' is required."));
    };
    if input.get().starts_with('"') {
        return Ok((vec![Cow::Owned(parse::<String>(input, "input")?)], false));
    }
    match serde_json::from_str::<Vec<String>>(input.get()) {
        Ok(texts) if !texts.is_empty() => Ok((texts.into_iter().map(Cow::Owned).collect(), true)),
        _ => Err(Problem::unsupported(
            "input",
            "'input' must be a text or a list of texts; tokens can't be embedded here.",
        )),
    }
}

/// The canonical list of these vectors, after the count of the prompt's tokens, where there is one.
pub fn list(model: &str, vectors: Vec<Vec<f32>>, input: Option<u64>) -> Vec<Output> {
    let data: Vec<Value> = vectors
        .into_iter()
        .enumerate()
        .map(|(index, vector)| {
            let vector = match BASE64.load(Ordering::Relaxed) {
                true => encoded(&vector).into(),
                false => Value::from(vector),
            };
            json!({"object": "embedding", "index": index, "embedding": vector})
        })
        .collect();
    let tokens = input.unwrap_or(0);
    let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens});
    let count = input.map(|amount| Output::Usage(vec![UsageEntry { kind: "input".into(), amount }]));
    let list = Output::json(&json!({"object": "list", "data": data, "model": model, "usage": usage}));
    count.into_iter().chain([list]).collect()
}

fn encoded(values: &[f32]) -> String {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
