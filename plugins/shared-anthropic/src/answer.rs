//! From Anthropic's answer to the canonical one, whole and streamed.
//!
//! Beside the text and the calls, a message (or the delta before the last chunk) carries what a
//! caller must be able to give back or look at, in the vendor's words: `thinking_blocks` (with
//! signatures, redacted ones too), `citations` (those of all text blocks, in order) and
//! `anthropic_blocks` (server tools' calls and results). `reasoning_content` is the thinking's
//! text. In a stream these lists come once and whole: clients' libraries can't join lists of
//! objects that have no `index`.

use alloc::boxed::Box;
use alloc::vec::Vec;

mod canonical;
mod event;
mod stream;
mod usage;
mod whole;

use brokle_plugin::Problem;
use brokle_plugin::provider::{Call, Decoder, Ending, Frame, Output, ResponseHead};

use stream::Stream;
pub use whole::whole;

/// One answer: the whole document, or the events of a stream.
#[derive(Debug)]
pub struct AnswerDecoder(State);

#[derive(Debug)]
enum State {
    Whole { created: u64, seen: bool },
    Streamed(Box<Stream>),
}

impl Decoder for AnswerDecoder {
    fn new(call: Call, _head: ResponseHead, _state: Vec<u8>) -> Self {
        match call.streaming {
            true => Self(State::Streamed(Box::new(Stream::new(call.created)))),
            false => Self(State::Whole { created: call.created, seen: false }),
        }
    }

    fn push(&mut self, frames: Vec<Frame>) -> Result<Vec<Output>, Problem> {
        let mut outputs = Vec::with_capacity(frames.len());
        for frame in frames {
            match &mut self.0 {
                State::Whole { created, seen } => {
                    *seen = true;
                    outputs.extend(whole(&frame.data, *created)?);
                }
                State::Streamed(stream) => stream.event(&frame.data, &mut outputs)?,
            }
        }
        Ok(outputs)
    }

    fn finish(&mut self) -> Result<Ending, Problem> {
        let complete = match &self.0 {
            State::Whole { seen, .. } => *seen,
            State::Streamed(stream) => stream.is_complete(),
        };
        match complete {
            true => Ok(Ending { outputs: Vec::new(), next: None }),
            false => Err(Problem::bad_answer("it ended before the message did")),
        }
    }
}

/// OpenAI's finish reason for the vendor's stop reason; the vendor's own goes along as
/// `native_finish_reason`.
fn finish_reason(stop_reason: &str) -> &'static str {
    match stop_reason {
        "max_tokens" | "model_context_window_exceeded" => "length",
        "tool_use" => "tool_calls",
        "refusal" => "content_filter",
        // end_turn, stop_sequence, pause_turn, and what may come.
        _ => "stop",
    }
}

#[cfg(test)]
mod tests;
