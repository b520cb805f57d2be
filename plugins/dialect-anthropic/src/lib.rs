//! Anthropic's Messages API in front of any provider.
//!
//! `request` turns a Messages request into a canonical one; `answer` turns the whole or streamed canonical answer back;
//! `native` reads answers that are Anthropic's own on their way past; `error` writes errors. All are plain functions over
//! bytes. `README.md` has the tables. Source: Anthropic's API reference (`anthropic-version: 2023-06-01`).
//!
//! **A stream** is `message_start`, `ping`, then for each block `content_block_start`, `content_block_delta`…,
//! `content_block_stop`, then `message_delta` with the stop reason and the counts, `message_stop`. The counts come last,
//! since the canonical form has them last: `message_start` says 0.
//!
//! **Thinking** of a model whose thinking isn't signed is shown, without a signature, to callers who asked for thinking;
//! such blocks are left out when they come back. Signed blocks come and go byte for byte.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

mod answer;
mod error;
mod native;
mod request;
mod stream;

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use alloc::{format, vec};

use brokle_plugin::dialect::{Body, Call, Dialect, Head, Reading, Translated, estimated_tokens};
use brokle_plugin::{Description, Problem};

struct Messages;

const COUNT: &str = "messages.count-tokens";

impl Dialect for Messages {
    type Encoder = stream::Encoder;
    type Reader = native::Reader;

    fn describe() -> Description {
        Description::dialect("anthropic.messages", ["messages", COUNT])
    }

    fn self_test() -> Result<(), Problem> {
        let sample = br#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"hi"}]}"#;
        let (body, _) = request::translate(sample, true)?;
        let answer = br#"{"model":"m","choices":[{"message":{"content":"hi"},"finish_reason":"stop"}]}"#;
        match (body.is_empty(), answer::whole("id", &[], answer)?.is_empty()) {
            (false, false) => Ok(()),
            _ => Err(Problem::bad_answer("the sample came to nothing")),
        }
    }

    fn read_head(call: &Call, body: &Body) -> Result<Head, Problem> {
        let counts = call.endpoint == COUNT;
        let model = body.field::<String>("/model");
        let model = model.ok_or_else(|| Problem::invalid("model", "model: Field required"))?;
        let mut features = Vec::new();
        if body.get("/tools").is_some_and(|tools| tools != b"[]" && tools != b"null") {
            features.push("tools".to_owned());
        }
        if body.field::<String>("/thinking/type").is_some_and(|kind| kind != "disabled") {
            features.push("reasoning".to_owned());
        }
        if body.get("/output_config/format").is_some() {
            features.push("json_schema".to_owned());
        }
        Ok(Head {
            operation: if counts { "count-tokens" } else { "chat.completions" }.to_owned(),
            model,
            streaming: !counts && body.field("/stream") == Some(true),
            content_type: "text/event-stream; charset=utf-8".to_owned(),
            max_output_tokens: body.field("/max_tokens"),
            user: body.field("/metadata/user_id"),
            features,
            previous: None,
        })
    }

    fn to_canonical(call: &Call, body: &Body) -> Result<Translated, Problem> {
        let (body, thinks) = request::translate(&body.abridged(), call.endpoint != COUNT)?;
        Ok(Translated { body, state: if thinks { vec![1] } else { Vec::new() } })
    }

    fn estimate(_call: &Call, body: &Body) -> Result<Vec<u8>, Problem> {
        // What a model reads of it: text is nearly all of a request without images.
        let parts = ["/system", "/messages", "/tools"].map(|pointer| body.get(pointer));
        let bytes = parts.iter().flatten().map(Vec::len).sum();
        Ok(format!(r#"{{"input_tokens":{}}}"#, estimated_tokens(bytes)).into_bytes())
    }

    fn write_answer(call: &Call, state: &[u8], answer: &[u8]) -> Result<Vec<u8>, Problem> {
        answer::whole(&call.request_id, state, answer)
    }

    fn write_error(call: &Call, status: u16, problem: &Problem) -> Vec<u8> {
        error::whole(status, problem, &call.request_id)
    }

    fn read_answer(_call: &Call, answer: &[u8]) -> Reading {
        native::whole(answer)
    }
}

brokle_plugin::export!(dialect: Messages);
brokle_plugin::no_std!();
