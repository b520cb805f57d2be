//! The start of a stream, which is held until its first real token: what fails before is no answer, and the next candidate
//! is asked as after any other failure.
//!
//! **No token yet**: comments, the chunk that names the role, chunks without choices. **A token**: any other member of a
//! delta that isn't empty (text, reasoning, a refusal, a tool call), a text, or the end of a choice, since an answer may be
//! empty. A chunk of an unknown shape counts as one.
//!
//! **A failure**: an error event, the end or `[DONE]` before a token, a broken connection, silence for as long as between any
//! two pieces, and no token within the route's `first_token_ms`, if it has one.
//!
//! **Bounds**: 64 KiB are held. A vendor that says for more than 30 s that it is still at work is let through, so that the
//! caller's connection lives. In a dialect whose bytes are relayed as they are, only the first event is looked at: whether it
//! is an error.

use std::time::Duration;

use brokle_core::json;
use brokle_runtime::exchange::Output;
use bytes::{Bytes, BytesMut};
use hyper::body::Incoming as Upstream;
use tokio::time::{Instant, timeout_at};

use crate::attempts::next_piece;
use crate::decoding::Decoding;
use crate::gateway::{Gateway, Timeouts};
use crate::refusal::Refusal;
use crate::stream::{data_of, error_of, event_end};

/// What is held at most, in bytes.
const HELD: usize = 64 << 10;
/// For how long a stream is held that says something, but no token.
const PATIENCE: Duration = Duration::from_secs(30);

/// How far a stream may go before its first token.
struct Bounds {
    begun: Instant,
    deadline: Option<Instant>,
    held: usize,
}

impl Bounds {
    fn new(timeouts: &Timeouts) -> Self {
        let begun = Instant::now();
        Self { begun, deadline: timeouts.first_token.map(|first| begun + first), held: 0 }
    }

    async fn within<T>(&self, next: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
        match self.deadline {
            None => next.await,
            Some(deadline) => timeout_at(deadline, next).await.unwrap_or_else(|_| {
                Err(Refusal::upstream(504, "upstream_timeout", "The provider's first token took too long."))
            }),
        }
    }

    /// It has said so much more, none of it a token. True: it isn't held any longer.
    fn are_reached(&mut self, more: usize) -> bool {
        self.held += more;
        self.held > HELD || (self.deadline.is_none() && self.begun.elapsed() > PATIENCE)
    }
}

fn empty() -> Refusal {
    Refusal::upstream(502, "upstream_disconnected", "The provider's stream ended before its first token.")
}

/// The pieces of a canonical stream up to its first token.
///
/// # Errors
/// It failed before.
pub(crate) async fn of_events(body: &mut Upstream, timeouts: &Timeouts) -> Result<Vec<Bytes>, Refusal> {
    let (mut bounds, mut held, mut events) = (Bounds::new(timeouts), Vec::new(), Events::default());
    loop {
        let piece = bounds.within(next_piece(body, timeouts.idle)).await?.ok_or_else(empty)?;
        let has_begun = events.have_begun(&piece)?;
        let size = piece.len();
        held.push(piece);
        if has_begun || bounds.are_reached(size) {
            return Ok(held);
        }
    }
}

/// What a decoder makes of its vendor's stream up to the first token.
///
/// # Errors
/// It failed before.
pub(crate) async fn of_outputs(
    decoding: &mut Decoding,
    gateway: &Gateway,
    timeouts: &Timeouts,
) -> Result<Vec<Output>, Refusal> {
    let (mut bounds, mut held) = (Bounds::new(timeouts), Vec::new());
    loop {
        let outputs = bounds.within(decoding.next(gateway)).await?.ok_or_else(empty)?;
        let mut size = 0;
        for output in outputs {
            let has_begun = match &output {
                Output::Chunk(chunk) => {
                    size += chunk.len();
                    is_token(chunk)
                }
                Output::Bytes(_) => true,
                Output::Usage(_) => false,
                Output::Failure(problem) if bounds.held < usize::MAX => {
                    return Err(Refusal::from_problem(problem.clone()));
                }
                Output::Failure(_) => false,
            };
            if has_begun {
                // What follows in the same batch is the stream's affair, its failure too.
                bounds.held = usize::MAX;
            }
            held.push(output);
        }
        if bounds.held == usize::MAX || bounds.are_reached(size) {
            return Ok(held);
        }
    }
}

/// The pieces of a stream in a dialect of its own up to its first event.
///
/// # Errors
/// It failed before, or the event is an error.
pub(crate) async fn of_dialect(body: &mut Upstream, timeouts: &Timeouts) -> Result<Vec<Bytes>, Refusal> {
    let (mut bounds, mut held, mut seen) = (Bounds::new(timeouts), Vec::new(), BytesMut::new());
    loop {
        let piece = bounds.within(next_piece(body, timeouts.idle)).await?.ok_or_else(empty)?;
        seen.extend_from_slice(&piece);
        let size = piece.len();
        held.push(piece);
        while let Some(end) = event_end(&seen) {
            let event = seen.split_to(end);
            let Some(data) = data_of(&event) else { continue };
            let kind = json::find(data, "/type").and_then(|at| data.get(at));
            if kind == Some(b"\"error\"") || data.starts_with(b"{\"error\"") {
                return Err(error_of(data));
            }
            return Ok(held);
        }
        if bounds.are_reached(size) {
            return Ok(held);
        }
    }
}

/// Reads events that may come in pieces.
#[derive(Debug, Default)]
struct Events {
    /// An event whose end hasn't come.
    pending: BytesMut,
}

impl Events {
    fn have_begun(&mut self, piece: &[u8]) -> Result<bool, Refusal> {
        if self.pending.is_empty() {
            let (begun, read) = read(piece)?;
            self.pending.extend_from_slice(piece.get(read..).unwrap_or_default());
            return Ok(begun);
        }
        self.pending.extend_from_slice(piece);
        let (begun, read) = read(&self.pending)?;
        let _ = self.pending.split_to(read);
        Ok(begun)
    }
}

/// Whether there is a token among these events, and how far they go.
fn read(bytes: &[u8]) -> Result<(bool, usize), Refusal> {
    let mut at = 0;
    while let Some(event) = bytes.get(at..).and_then(|rest| rest.get(..event_end(rest)?)) {
        at += event.len();
        match data_of(event) {
            None => {}
            Some(b"[DONE]") => return Err(empty()),
            Some(data) if data.starts_with(b"{\"error\"") => return Err(error_of(data)),
            Some(data) if is_token(data) => return Ok((true, at)),
            Some(_) => {}
        }
    }
    Ok((false, at))
}

/// Whether a canonical chunk says more than that an answer is to come.
pub(crate) fn is_token(chunk: &[u8]) -> bool {
    let Some(choices) = json::find(chunk, "/choices").and_then(|at| chunk.get(at)) else { return true };
    json::elements(choices).into_iter().filter_map(|at| choices.get(at)).any(|choice| {
        let member = |pointer| json::find(choice, pointer).and_then(|at| choice.get(at));
        if member("/finish_reason").is_some_and(|reason| reason != b"null") {
            return true;
        }
        let Some(delta) = member("/delta") else {
            // Azure's notes on what was said have neither.
            let is_note = member("/content_filter_results").is_some();
            return member("/text").map_or(!is_note, |text| !is_empty(text));
        };
        let mut says = false;
        let read = json::scan(delta, |key, at| {
            says |= key != b"role" && !delta.get(at).is_none_or(is_empty);
        });
        says || read.is_err()
    })
}

fn is_empty(value: &[u8]) -> bool {
    matches!(value, b"\"\"" | b"null" | b"[]" | b"{}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_what_says_something() {
        for (chunk, is) in [
            (r#"{"choices":[{"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#, false),
            (r#"{"choices":[{"delta":{"role":"assistant","content":null,"refusal":null}}]}"#, false),
            (r#"{"choices":[],"prompt_filter_results":[{}]}"#, false),
            (r#"{"choices":[{"content_filter_results":{},"finish_reason":null}]}"#, false),
            (r#"{"choices":[{"text":"","index":0}]}"#, false),
            (r#"{"choices":[{"delta":{"content":"a"}}]}"#, true),
            (r#"{"choices":[{"delta":{"reasoning_content":"hm"}}]}"#, true),
            (r#"{"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}"#, true),
            (r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#, true),
            (r#"{"choices":[{"delta":{"role":"assistant"}},{"delta":{"content":"b"}}]}"#, true),
            (r#"{"choices":[{"text":"a"}]}"#, true),
            (r#"{"unknown":1}"#, true),
        ] {
            assert_eq!(is_token(chunk.as_bytes()), is, "{chunk}");
        }
    }

    #[test]
    fn the_first_token_is_found_however_the_bytes_are_split() {
        let stream = concat!(
            ": hello\n\ndata: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n",
            "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\r\n\r\n"
        )
        .as_bytes();
        for size in 1..stream.len() {
            let mut events = Events::default();
            let found = stream.chunks(size).position(|piece| events.have_begun(piece).unwrap());
            // The last line end is whole one byte early only where it is cut there.
            assert!(found.is_some_and(|at| at + 1 == stream.len().div_ceil(size)), "{size}");
        }
        let failed = |text: &str| Events::default().have_begun(text.as_bytes()).unwrap_err().code;
        assert_eq!(failed("data: [DONE]\n\n"), "upstream_disconnected");
        assert_eq!(failed("data: {\"error\":{\"message\":\"no\"}}\n\n"), "upstream_error");
    }
}
