//! Embeddings. A caller that wants base64 (OpenAI's clients do unless told otherwise) gets 32-bit floats,
//! little-endian. An instance serves one request, and keeps what the caller asked for until the answer comes.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use base64::Engine;
use brokle_plugin::provider::Output;
use brokle_plugin::{Problem, UsageEntry};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::options::Options;
use crate::request::Object;
use shared_canonical::Fields;

/// What the caller of this instance's one request wants vectors as.
static BASE64: AtomicBool = AtomicBool::new(false);

/// The body of `POST /api/embed`.
pub(crate) fn request(body: &[u8], model: &str, options: &Options) -> Result<Vec<u8>, Problem> {
    let fields = Fields::parse(body)?;
    let format = fields.get::<Cow<'_, str>>("encoding_format")?;
    BASE64.store(format.as_deref() == Some("base64"), Ordering::Relaxed);
    let Some(input) = fields.raw("input") else {
        return Err(Problem::invalid("input", "'input' is required."));
    };
    let is_text =
        input.get().starts_with('"') || serde_json::from_str::<Vec<Cow<'_, str>>>(input.get()).is_ok();
    if !is_text {
        return Err(Problem::unsupported("input", "Ollama embeds texts, not tokens."));
    }
    let mut request = Object::default();
    request.set("model", &model);
    request.set_raw("input", Some(input));
    request.set_raw("dimensions", fields.raw("dimensions"));
    request.set_raw("truncate", fields.raw("truncate"));
    options.fill(&fields, &mut request);
    request.into_bytes()
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    model: Option<String>,
    embeddings: Vec<Vec<f32>>,
    #[serde(default)]
    prompt_eval_count: u64,
}

pub(crate) struct EmbeddingsDecoder {
    model: String,
    seen: bool,
}

impl EmbeddingsDecoder {
    pub(crate) fn new(model: String) -> Self {
        Self { model, seen: false }
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.seen
    }

    pub(crate) fn document(&mut self, data: &[u8], outputs: &mut Vec<Output>) -> Result<(), Problem> {
        self.seen = true;
        let answer: Answer = serde_json::from_slice(data).map_err(Problem::bad_answer)?;
        let vector = |values: Vec<f32>| match BASE64.load(Ordering::Relaxed) {
            true => encoded(&values).into(),
            false => Value::from(values),
        };
        let embeddings = answer.embeddings.into_iter().enumerate();
        let data: Vec<Value> = embeddings
            .map(
                |(index, values)| json!({"object": "embedding", "index": index, "embedding": vector(values)}),
            )
            .collect();
        let tokens = answer.prompt_eval_count;
        outputs.push(Output::Usage(vec![UsageEntry { kind: "input".into(), amount: tokens }]));
        outputs.push(Output::json(&json!({
            "object": "list", "data": data, "model": answer.model.as_deref().unwrap_or(&self.model),
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        })));
        Ok(())
    }
}

fn encoded(values: &[f32]) -> String {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
