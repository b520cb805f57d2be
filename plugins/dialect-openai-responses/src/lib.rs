//! OpenAI's Responses API in front of any provider.
//!
//! `request` turns a request into a canonical one; `answer` turns the whole canonical answer back, `stream` the streamed one;
//! `native` reads answers that have this form already on their way past; `error` writes errors. All are plain functions over
//! bytes. `README.md` has the tables. Source: OpenAI's API description, the responses section.
//!
//! **State.** The API keeps responses, so that a request can go on from an earlier one; a provider that is translated for
//! keeps nothing. What needs it (`previous_response_id`, `store: true`, `background`, `conversation`, references to items) is
//! refused by name, and a response says `store: false`.
//!
//! **A stream** is `response.created`, `response.in_progress`, then for each item `response.output_item.added`, its parts and
//! deltas with their `.done`, `response.output_item.done`, then `response.completed` or `response.incomplete`. Each event has
//! the next `sequence_number`.

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

use brokle_plugin::dialect::{Body, Call, Dialect, Head, Reading, Translated};
use brokle_plugin::{Description, Problem};

struct Responses;

impl Dialect for Responses {
    type Encoder = stream::Encoder;
    type Reader = native::Reader;

    fn describe() -> Description {
        Description::dialect("openai.responses", ["responses"])
    }

    fn self_test() -> Result<(), Problem> {
        let (body, state) = request::translate(br#"{"model":"m","input":"hi"}"#)?;
        let answer = br#"{"model":"m","choices":[{"message":{"content":"hi"},"finish_reason":"stop"}]}"#;
        match (body.is_empty(), answer::whole("id", 0, &state, answer)?.is_empty()) {
            (false, false) => Ok(()),
            _ => Err(Problem::bad_answer("the sample came to nothing")),
        }
    }

    fn read_head(_call: &Call, body: &Body) -> Result<Head, Problem> {
        let model = body.field::<String>("/model");
        let model = model.ok_or_else(|| Problem::invalid("model", "Missing required parameter: 'model'."))?;
        if body.get("/conversation").is_some_and(|conversation| conversation != b"null") {
            let message = "'conversation' isn't supported: this gateway keeps no conversations. Send the earlier turns in 'input'.";
            return Err(Problem::unsupported("conversation", message));
        }
        let mut features = Vec::new();
        if body.get("/tools").is_some_and(|tools| tools != b"[]" && tools != b"null") {
            features.push("tools".to_owned());
        }
        if body.field::<String>("/text/format/type").as_deref() == Some("json_schema") {
            features.push("json_schema".to_owned());
        }
        if body.field::<String>("/reasoning/effort").is_some_and(|effort| effort != "none") {
            features.push("reasoning".to_owned());
        }
        Ok(Head {
            operation: "chat.completions".to_owned(),
            model,
            streaming: body.field("/stream") == Some(true),
            content_type: "text/event-stream; charset=utf-8".to_owned(),
            max_output_tokens: body.field("/max_output_tokens"),
            user: body.field("/safety_identifier").or_else(|| body.field("/user")),
            features,
            previous: body.field("/previous_response_id"),
        })
    }

    fn to_canonical(_call: &Call, body: &Body) -> Result<Translated, Problem> {
        let (body, state) = request::translate(&body.abridged())?;
        Ok(Translated { body, state })
    }

    fn write_answer(call: &Call, state: &[u8], answer: &[u8]) -> Result<Vec<u8>, Problem> {
        answer::whole(&call.request_id, call.created, state, answer)
    }

    fn write_error(_call: &Call, status: u16, problem: &Problem) -> Vec<u8> {
        error::whole(status, problem)
    }

    fn read_answer(_call: &Call, answer: &[u8]) -> Reading {
        native::whole(answer)
    }
}

brokle_plugin::export!(dialect: Responses);
brokle_plugin::no_std!();
