//! Voyage AI: embeddings and reranking.
//!
//! Embeddings are OpenAI's but for names: `dimensions` is `output_dimension`, `encoding_format` knows `base64` and
//! nothing else, `user` isn't known; and answers count `total_tokens` alone. `input_type`, `truncation` and
//! `output_dtype` go through as they came. Rerank takes `top_n` as `top_k` and texts only; its `data` are the `results`.
//! Source: Voyage AI's API reference (embeddings, rerankers).

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use brokle_plugin::provider::{
    Body, Call, Decoder, Edit, Ending, ErrorOutcome, Frame, Output, Preparation, Provider, ResponseHead,
    SetEdit, UpstreamRequest,
};
use brokle_plugin::{Description, Problem, UsageEntry};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

struct Voyage;

impl Provider for Voyage {
    type Decoder = Lists;

    fn describe() -> Description {
        Description::provider([
            ("embeddings", &["base64", "dimensions"][..]),
            ("rerank", &["documents"]),
            ("raw", &[]),
        ])
    }

    fn prepare(call: &Call, body: &Body) -> Result<Preparation, Problem> {
        let get = |pointer: &str| body.get(pointer);
        upstream(call, &get).map(Into::into)
    }

    fn map_error(_call: &Call, head: &ResponseHead, body: Vec<u8>) -> ErrorOutcome {
        #[derive(Deserialize)]
        struct Document {
            detail: String,
        }
        let Ok(Document { detail }) = serde_json::from_slice(&body) else {
            return ErrorOutcome::Problem(Problem::from_openai(head, body));
        };
        let mut problem = Problem::new(Problem::kind_of_status(head.status), detail);
        problem.status = Some(head.status);
        problem.retry_after_ms = head.retry_after_ms();
        ErrorOutcome::Problem(problem)
    }
}

fn upstream(call: &Call, get: &dyn Fn(&str) -> Option<Vec<u8>>) -> Result<UpstreamRequest, Problem> {
    let mut edits = vec![Edit::set("/model", &call.model), Edit::remove("/user")];
    let mut rename = |from: &str, to: &str| {
        if let Some(value) = get(from) {
            edits.push(Edit::Set(SetEdit { pointer: to.to_owned(), value }));
            edits.push(Edit::remove(from));
        }
    };
    let path = match call.operation.as_str() {
        "embeddings" => {
            rename("/dimensions", "/output_dimension");
            if get("/encoding_format").is_some_and(|format| format != br#""base64""#) {
                edits.push(Edit::remove("/encoding_format"));
            }
            "/embeddings"
        }
        "rerank" => {
            rename("/top_n", "/top_k");
            if let Some(texts) = texts(get)? {
                edits.push(Edit::set("/documents", &texts));
            }
            "/rerank"
        }
        "raw" => return Ok(UpstreamRequest::raw()),
        _ => return Err(Problem::unsupported_operation(call)),
    };
    Ok(UpstreamRequest::post(path).edits(edits).decoded("whole"))
}

/// The documents' texts, where any of them is an object.
fn texts(get: &dyn Fn(&str) -> Option<Vec<u8>>) -> Result<Option<Vec<String>>, Problem> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Document {
        Text(String),
        Object { text: String },
    }
    let Some(documents) = get("/documents") else {
        return Err(Problem::invalid("documents", "'documents' is required."));
    };
    let documents: Vec<Document> = serde_json::from_slice(&documents).map_err(|_| {
        Problem::invalid("documents", "'documents' must be a list of texts, or of objects with a 'text'.")
    })?;
    if documents.iter().all(|document| matches!(document, Document::Text(_))) {
        return Ok(None);
    }
    let text = |document| match document {
        Document::Text(text) | Document::Object { text } => text,
    };
    Ok(Some(documents.into_iter().map(text).collect()))
}

/// One answer: a list.
struct Lists {
    call: Call,
    seen: bool,
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    data: &'a RawValue,
    #[serde(default)]
    usage: Counts,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Counts {
    total_tokens: u64,
}

#[derive(Deserialize)]
struct Ranked {
    index: u64,
    relevance_score: Value,
    #[serde(default)]
    document: Option<String>,
}

#[derive(Serialize)]
struct Embeddings<'a> {
    object: &'static str,
    data: &'a RawValue,
    model: &'a str,
    usage: Value,
}

impl Decoder for Lists {
    fn new(call: Call, _head: ResponseHead, _state: Vec<u8>) -> Self {
        Self { call, seen: false }
    }

    fn push(&mut self, frames: Vec<Frame>) -> Result<Vec<Output>, Problem> {
        let mut outputs = Vec::new();
        for frame in frames {
            self.seen = true;
            let answer: Answer<'_> = serde_json::from_slice(&frame.data).map_err(Problem::bad_answer)?;
            let tokens = answer.usage.total_tokens;
            outputs.push(Output::Usage(vec![UsageEntry { kind: "input".into(), amount: tokens }]));
            let model = self.call.model.as_str();
            let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens});
            outputs.push(match self.call.operation.as_str() {
                "rerank" => Output::json(&json!({
                    "id": format!("rerank-{}", self.call.request_id), "object": "list", "model": model,
                    "results": results(answer.data)?, "usage": usage,
                })),
                _ => Output::json(&Embeddings { object: "list", data: answer.data, model, usage }),
            });
        }
        Ok(outputs)
    }

    fn finish(&mut self) -> Result<Ending, Problem> {
        match self.seen {
            true => Ok(Ending { outputs: Vec::new(), next: None }),
            false => Err(Problem::bad_answer("it is empty")),
        }
    }
}

fn results(data: &RawValue) -> Result<Vec<Value>, Problem> {
    let ranked: Vec<Ranked> = serde_json::from_str(data.get()).map_err(Problem::bad_answer)?;
    let result = |one: Ranked| {
        let mut result = json!({"index": one.index, "relevance_score": one.relevance_score});
        if let (Some(members), Some(text)) = (result.as_object_mut(), one.document) {
            members.insert("document".to_owned(), json!({"text": text}));
        }
        result
    };
    Ok(ranked.into_iter().map(result).collect())
}

brokle_plugin::export!(provider: Voyage);
brokle_plugin::no_std!();
