//! Vendors and servers that speak OpenAI's API, each a row of data.
//!
//! `presets.json` has a row for each vendor: where it is, which variable holds its key, and what differs from OpenAI's
//! API, in the words of the connection's options (`plugin.json`). `build.rs` puts the rows into the manifest, where the
//! host finds them: it sets a row's options under the connection's own, so this component only ever sees options, and
//! a server without a row is described by the same ones. Facts of a row are from the vendor's reference, named in
//! `docs`.
//!
//! **Requests** go out as they came, but for edits: the model; `stream_options.include_usage`; the name of the token
//! limit; `developer` at the beginning of a conversation, which most know as `system`; what the server doesn't know
//! (`drop`, `unsupported`). **Answers** stream through untouched, except where the model's thinking has another name:
//! those are decoded, and only what has that name is written anew.
//!
//! Where one instance for each request is a cost, an absent `std` halves it: see the SDK.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

mod answer;
mod error;
mod options;
mod request;

use alloc::format;
use alloc::vec::Vec;

use brokle_plugin::provider::{Body, Call, ErrorOutcome, Preparation, Provider, ResponseHead};
use brokle_plugin::{Description, Problem};

use answer::Rewriting;
use options::Options;

struct OpenAiCompatible;

impl Provider for OpenAiCompatible {
    type Decoder = Rewriting;

    fn describe() -> Description {
        Description::provider([
            (
                "chat.completions",
                &["stream", "tools", "parallel_tool_calls", "vision", "json_schema", "reasoning", "logprobs"]
                    [..],
            ),
            ("completions", &["stream", "logprobs"]),
            ("embeddings", &["base64", "dimensions"]),
            // As far as the connection's option `streams` names them.
            ("images.generations", &["stream"]),
            ("images.edits", &["stream"]),
            ("audio.speech", &["stream"]),
            ("audio.transcriptions", &["stream"]),
            ("audio.translations", &[]),
            ("moderations", &[]),
            ("rerank", &[]),
            ("files", &[]),
            ("batches", &[]),
            ("models", &[]),
            ("raw", &[]),
        ])
    }

    fn self_test() -> Result<(), Problem> {
        let options = Options::parse(br#"{"path_prefix":"/a/{account_id}","account_id":"me"}"#)?;
        match options.path("chat.completions")?.as_deref() {
            Some("/a/me/chat/completions") => Ok(()),
            other => Err(Problem::bad_answer(format!("chat completions are at {other:?}"))),
        }
    }

    fn prepare(call: &Call, body: &Body) -> Result<Preparation, Problem> {
        let get = |pointer: &str| body.get(pointer);
        request::upstream(call, &get, body.form_field("response_format").as_deref()).map(Into::into)
    }

    fn map_error(_call: &Call, head: &ResponseHead, body: Vec<u8>) -> ErrorOutcome {
        ErrorOutcome::Problem(error::from_answer(head, body))
    }
}

brokle_plugin::export!(provider: OpenAiCompatible, manifest = include_str!(concat!(env!("OUT_DIR"), "/plugin.json")));
brokle_plugin::no_std!();
