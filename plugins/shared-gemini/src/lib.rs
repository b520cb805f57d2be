//! `generateContent`, as the Gemini API and Vertex AI have it, behind OpenAI's Chat Completions.
//!
//! `request` turns a canonical chat request into a `GenerateContentRequest`; `answer` turns the whole or streamed answer
//! back (a whole answer is the deltas of a stream, joined: the two can't differ); `error` says what an error means.
//! `provider-gemini/README.md` has the tables. Source: the Gemini API reference (`v1beta`), its pages on function
//! calling, thinking, thought signatures, and compatibility with OpenAI.
//!
//! A library of `provider-gemini` and `provider-vertex`, not a component.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

mod answer;
mod error;
mod options;
mod request;

pub use answer::{AnswerDecoder, whole};
pub use error::{from_answer as problem_of_answer, from_status as problem_of_status};
pub use options::{Options, ThinkingMode, Unsupported};
pub use request::translate;
