//! Google's Gemini API (`generateContent`) in front of any provider.
//!
//! `request` turns a request into a canonical one; `answer` turns the whole or streamed canonical answer back; `native` reads
//! answers that are Google's own on their way past; `error` writes errors. All are plain functions over bytes. `README.md`
//! has the tables. Source: the Gemini API reference (`v1beta`).
//!
//! **A stream** is events with `alt=sse`, else an array of answers. Text goes on as it comes; calls, whose arguments this API
//! never splits, come with the finish reason and the counts in the last answer.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

mod answer;
mod error;
mod native;
mod request;
mod stream;

use alloc::borrow::ToOwned;
use alloc::vec::Vec;
use alloc::{format, vec};

use brokle_plugin::dialect::{Body, Call, Dialect, Head, Reading, Translated, estimated_tokens};
use brokle_plugin::{Description, Problem};

struct GenerateContent;

const COUNT: &str = "generate-content.count-tokens";

/// Whether the URL asks for events rather than for an array.
fn asks_for_events(call: &Call) -> bool {
    call.query.iter().any(|(name, value)| name == "alt" && value == "sse")
}

impl Dialect for GenerateContent {
    type Encoder = stream::Encoder;
    type Reader = native::Reader;

    fn describe() -> Description {
        Description::dialect("gemini.generate-content", ["generate-content", COUNT])
    }

    fn self_test() -> Result<(), Problem> {
        let (body, _) = request::translate(br#"{"contents":[{"parts":[{"text":"hi"}]}]}"#, "m", false)?;
        let answer = br#"{"model":"m","choices":[{"message":{"content":"hi"},"finish_reason":"stop"}]}"#;
        match (body.is_empty(), answer::whole("id", &[], answer)?.is_empty()) {
            (false, false) => Ok(()),
            _ => Err(Problem::bad_answer("the sample came to nothing")),
        }
    }

    fn read_head(call: &Call, body: &Body) -> Result<Head, Problem> {
        let counts = call.endpoint == COUNT;
        let mut features = Vec::new();
        if body.get("/tools").is_some_and(|tools| tools != b"[]" && tools != b"null") {
            features.push("tools".to_owned());
        }
        let config = |name: &str| body.get(&format!("/generationConfig/{name}"));
        if config("responseSchema").or_else(|| config("responseJsonSchema")).is_some() {
            features.push("json_schema".to_owned());
        }
        if config("thinkingConfig").is_some() {
            features.push("reasoning".to_owned());
        }
        let events = asks_for_events(call);
        Ok(Head {
            operation: if counts { "count-tokens" } else { "chat.completions" }.to_owned(),
            model: call.model.clone(),
            streaming: call.streaming,
            content_type: if events { "text/event-stream" } else { "application/json; charset=UTF-8" }
                .to_owned(),
            max_output_tokens: body.field("/generationConfig/maxOutputTokens"),
            user: None,
            features,
            previous: None,
        })
    }

    fn to_canonical(call: &Call, body: &Body) -> Result<Translated, Problem> {
        let nested = body.get("/generateContentRequest").filter(|_| call.endpoint == COUNT);
        let bytes = nested.unwrap_or_else(|| body.abridged());
        let (body, thinks) = request::translate(&bytes, &call.model, call.streaming)?;
        Ok(Translated { body, state: if thinks { vec![1] } else { Vec::new() } })
    }

    fn estimate(_call: &Call, body: &Body) -> Result<Vec<u8>, Problem> {
        let parts = ["/contents", "/systemInstruction", "/tools", "/generateContentRequest"];
        let bytes = parts.map(|pointer| body.get(pointer)).iter().flatten().map(Vec::len).sum();
        Ok(format!(r#"{{"totalTokens":{}}}"#, estimated_tokens(bytes)).into_bytes())
    }

    fn write_answer(call: &Call, state: &[u8], answer: &[u8]) -> Result<Vec<u8>, Problem> {
        answer::whole(&call.request_id, state, answer)
    }

    fn write_error(_call: &Call, status: u16, problem: &Problem) -> Vec<u8> {
        error::whole(status, problem)
    }

    fn read_answer(_call: &Call, answer: &[u8]) -> Reading {
        native::whole(answer)
    }
}

brokle_plugin::export!(dialect: GenerateContent);
brokle_plugin::no_std!();
