//! Anthropic's Messages API, as Anthropic and the clouds have it, behind OpenAI's Chat Completions.
//!
//! `request` turns a canonical chat request into a Messages request; `answer` turns the whole or streamed answer back;
//! `error` says what an error means; `model` what a model's name tells. `provider-anthropic/README.md` has the tables.
//! Source: Anthropic's API reference (`anthropic-version: 2023-06-01`).
//!
//! **Bytes that must stay as they are** do: `cache_control`, tools' schemas, the arguments of earlier calls and thinking
//! blocks are carried as raw JSON, since a prompt cache and a signature see every byte.
//!
//! A library of `provider-anthropic`, `provider-vertex` and, as to thinking, `provider-bedrock`; not a component.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

mod answer;
mod error;
mod model;
mod options;
mod request;

pub use answer::{AnswerDecoder, whole};
pub use error::from_answer as problem_of_answer;
pub use model::Model;
pub use options::{Options, ThinkingMode, Unsupported};
pub use request::{
    Destination, Outgoing, OutputConfig, Thinking, ThinkingContext, decide_thinking, translate,
};
