//! Answers of embeddings and reranking: one document each.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use brokle_plugin::provider::{Call, Output};
use brokle_plugin::{Problem, UsageEntry};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

pub(crate) struct ListDecoder {
    call: Call,
    seen: bool,
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(default)]
    id: Option<String>,
    #[serde(borrow, default)]
    embeddings: BTreeMap<String, Vec<&'a RawValue>>,
    #[serde(borrow, default)]
    results: Vec<&'a RawValue>,
    #[serde(default)]
    meta: Meta,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Meta {
    billed_units: Billed,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Billed {
    input_tokens: Option<f64>,
    search_units: Option<f64>,
}

#[derive(Serialize)]
struct Embedding<'a> {
    object: &'static str,
    index: usize,
    embedding: &'a RawValue,
}

#[derive(Serialize)]
struct Embeddings<'a> {
    object: &'static str,
    data: Vec<Embedding<'a>>,
    model: &'a str,
    usage: serde_json::Value,
}

#[derive(Serialize)]
struct Ranking<'a> {
    id: String,
    object: &'static str,
    model: &'a str,
    results: Vec<&'a RawValue>,
    usage: serde_json::Value,
}

impl ListDecoder {
    pub(crate) fn new(call: Call) -> Self {
        Self { call, seen: false }
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.seen
    }

    pub(crate) fn document(&mut self, data: &[u8], outputs: &mut Vec<Output>) -> Result<(), Problem> {
        self.seen = true;
        let answer: Answer<'_> = serde_json::from_slice(data).map_err(Problem::bad_answer)?;
        let billed = answer.meta.billed_units;
        // The vendor writes whole numbers as `3.0` here and there.
        let tokens = billed.input_tokens.filter(|count| (0.0..1e15).contains(count)).unwrap_or(0.0) as u64;
        if tokens > 0 {
            outputs.push(Output::Usage(vec![UsageEntry { kind: "input".to_string(), amount: tokens }]));
        }
        let model = self.call.model.as_str();
        if self.call.operation == "rerank" {
            let usage = json!({"search_units": billed.search_units.unwrap_or(0.0) as u64});
            let id = answer.id.unwrap_or_else(|| format!("rerank-{}", self.call.request_id));
            outputs.push(Output::json(&Ranking {
                id,
                object: "list",
                model,
                results: answer.results,
                usage,
            }));
            return Ok(());
        }
        let vectors = answer.embeddings.into_values().next().unwrap_or_default();
        let data = vectors.into_iter().enumerate();
        let data =
            data.map(|(index, embedding)| Embedding { object: "embedding", index, embedding }).collect();
        let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens});
        outputs.push(Output::json(&Embeddings { object: "list", data, model, usage }));
        Ok(())
    }
}
