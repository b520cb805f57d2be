//! Jina AI: embeddings and reranking.
//!
//! Both have the canonical form, so answers are relayed untouched, and only names are edited: `encoding_format` is
//! `embedding_type` here, and `user` isn't known. `dimensions`, `task`, `late_chunking`, `truncate`, `normalized`, and
//! rerank's `query`, `documents`, `top_n` and `return_documents` go through as they came. Source: Jina AI's API
//! reference (embeddings, reranker).

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use brokle_plugin::provider::{
    Body, Call, Edit, ErrorOutcome, NoDecoder, Preparation, Provider, ResponseHead, SetEdit, UpstreamRequest,
};
use brokle_plugin::{Description, Problem};

struct Jina;

impl Provider for Jina {
    type Decoder = NoDecoder;

    fn describe() -> Description {
        Description::provider([
            ("embeddings", &["base64", "dimensions"][..]),
            ("rerank", &["documents"]),
            ("raw", &[]),
        ])
    }

    fn prepare(call: &Call, body: &Body) -> Result<Preparation, Problem> {
        let mut edits = vec![Edit::set("/model", &call.model), Edit::remove("/user")];
        let path = match call.operation.as_str() {
            "embeddings" => {
                if let Some(value) = body.get("/encoding_format") {
                    edits.push(Edit::Set(SetEdit { pointer: "/embedding_type".into(), value }));
                    edits.push(Edit::remove("/encoding_format"));
                }
                "/embeddings"
            }
            "rerank" => "/rerank",
            "raw" => return Ok(UpstreamRequest::raw().into()),
            _ => return Err(Problem::unsupported_operation(call)),
        };
        Ok(UpstreamRequest::post(path).edits(edits).native().into())
    }

    /// `{"detail": "text"}`.
    fn map_error(_call: &Call, head: &ResponseHead, body: Vec<u8>) -> ErrorOutcome {
        #[derive(serde::Deserialize)]
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

brokle_plugin::export!(provider: Jina);
brokle_plugin::no_std!();
