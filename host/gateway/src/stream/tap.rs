//! Reads a canonical stream on its way past: token counts, the model, how it ended. Nothing is copied but an event
//! that came in two reads, and nothing is changed but the usage chunk, taken out when the caller didn't ask for it.

use std::collections::VecDeque;

use brokle_core::json;
use brokle_core::usage::Usage;
use bytes::{Buf, Bytes, BytesMut};
use memchr::memmem;

use super::DONE;
use crate::account::Meter;
use crate::refusal::Refusal;
use crate::start::is_token;

/// What a stream is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Events {
    /// Chunks with choices, and `[DONE]` at the end.
    Chunks {
        /// The chunk with the usage isn't for the caller.
        strip_usage: bool,
    },
    /// Events whose `type` tells them apart: images, transcripts and speech. The one that ends with `.completed` or `.done` is the last
    /// that counts, and has the usage.
    Typed,
}

impl Events {
    /// The largest event, in bytes: 1 MiB for chunks, 32 for pictures.
    const fn max(self) -> usize {
        match self {
            Self::Chunks { .. } => 1 << 20,
            Self::Typed => 32 << 20,
        }
    }
}

/// One stream's tap.
#[derive(Debug)]
pub(super) struct Tap {
    events: Events,
    /// An event whose end hasn't come.
    pending: BytesMut,
    /// `[DONE]` went past.
    done: bool,
    /// A choice has finished, or all of it has.
    finished: bool,
}

impl Tap {
    pub(super) fn new(events: Events) -> Self {
        Self { events, pending: BytesMut::new(), done: false, finished: false }
    }

    /// Whether the stream is complete.
    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// Takes a piece; complete events go to `ready`. True when the stream is complete.
    ///
    /// # Errors
    /// An event too large, or an error event of the provider's, which is the end.
    pub(super) fn feed(
        &mut self,
        piece: Bytes,
        ready: &mut VecDeque<Bytes>,
        meter: &mut Meter,
    ) -> Result<bool, Refusal> {
        let mut piece = piece;
        if !self.pending.is_empty() {
            self.pending.extend_from_slice(&piece);
            // No event ends without a line's end: a large one that comes in many pieces is looked through once.
            if memchr::memchr2(b'\n', b'\r', &piece).is_none() {
                return self.bounded().map(|()| false);
            }
            piece = self.pending.split().freeze();
        }
        // What is forwarded of this piece goes out as slices of it: one, unless an event is taken out.
        let (mut run, mut at) = (0, 0);
        let mut verdict = Ok(());
        while !self.done {
            let rest = piece.get(at..).unwrap_or_default();
            let Some(event) = event_end(rest).and_then(|end| rest.get(..end)) else { break };
            match self.event(event, meter) {
                Ok(true) => at += event.len(),
                Ok(false) => {
                    let skipped = at + event.len();
                    forward(&piece, run..at, ready);
                    (run, at) = (skipped, skipped);
                }
                Err(refusal) => {
                    verdict = Err(refusal);
                    break;
                }
            }
        }
        forward(&piece, run..at, ready);
        verdict?;
        let piece = piece.slice(at..);
        if self.done {
            // What follows the end isn't the caller's business.
            return Ok(true);
        }
        if piece.has_remaining() {
            self.pending.extend_from_slice(&piece);
        }
        self.bounded().map(|()| false)
    }

    fn bounded(&self) -> Result<(), Refusal> {
        let most = self.events.max();
        if self.pending.len() <= most {
            return Ok(());
        }
        let message = format!("An event of the provider's is larger than {} MiB.", most >> 20);
        Err(Refusal::upstream(502, "upstream_error", message))
    }

    /// The upstream has ended.
    ///
    /// # Errors
    /// Too early.
    pub(super) fn end(&mut self, ready: &mut VecDeque<Bytes>) -> Result<(), Refusal> {
        if !self.done && !self.finished {
            return Err(Refusal::upstream(
                502,
                "upstream_disconnected",
                "The provider's stream ended too early.",
            ));
        }
        if !self.done {
            self.done = true;
            if let Events::Chunks { .. } = self.events {
                // Some servers leave it out; clients wait for it.
                ready.push_back(DONE);
            }
        }
        Ok(())
    }

    /// Reads one event; false when it isn't for the caller.
    fn event(&mut self, event: &[u8], meter: &mut Meter) -> Result<bool, Refusal> {
        let Some(data) = data_of(event) else { return Ok(true) };
        if data == b"[DONE]" {
            self.done = true;
            return Ok(true);
        }
        if data.starts_with(b"{\"error\"") {
            return Err(error_of(data));
        }
        let forward = match self.events {
            Events::Chunks { strip_usage } => {
                let seen = read_chunk(data, meter);
                self.finished |= seen.finished;
                !(strip_usage && seen.usage_only)
            }
            Events::Typed => {
                self.finished |= read_typed(data, meter)?;
                true
            }
        };
        if forward {
            meter.output(event);
        }
        Ok(forward)
    }
}

/// Reads an event with a type for the account. True: it is the last that counts.
fn read_typed(data: &[u8], meter: &mut Meter) -> Result<bool, Refusal> {
    let kind = json::find(data, "/type").and_then(|at| data.get(at)).unwrap_or_default();
    if kind == b"\"error\"" {
        return Err(error_of(data));
    }
    meter.first_token();
    if let Some(mut usage) = usage_of(data) {
        if kind == b"\"speech.audio.done\"" {
            // It doesn't say so, but sound is all that comes out.
            usage.audio_output = usage.output;
        }
        meter.usage(&usage);
    }
    Ok(kind.ends_with(b".completed\"") || kind.ends_with(b".done\""))
}

/// What an error event of a provider's says.
pub(crate) fn error_of(data: &[u8]) -> Refusal {
    let found = json::find(data, "/error/message").and_then(|range| data.get(range));
    let message = found.and_then(|text| serde_json::from_slice::<String>(text).ok());
    let message = message.unwrap_or_else(|| "The provider reported an error in its stream.".into());
    let body = json::scan(data, |_, _| {}).is_ok().then(|| Bytes::copy_from_slice(data));
    Refusal { body, ..Refusal::upstream(502, "upstream_error", message) }
}

/// Hands a part of a piece on, if there is anything in it.
fn forward(piece: &Bytes, part: std::ops::Range<usize>, ready: &mut VecDeque<Bytes>) {
    if !part.is_empty() {
        ready.push_back(piece.slice(part));
    }
}

/// What a chunk told.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Seen {
    /// It carries usage and nothing else.
    pub(crate) usage_only: bool,
    /// It ends a choice.
    pub(crate) finished: bool,
}

/// Reads one canonical chunk for the account.
pub(crate) fn read_chunk(data: &[u8], meter: &mut Meter) -> Seen {
    let mut seen = Seen::default();
    meter.keep_chunk(data);
    if let Some(usage) = usage_of(data) {
        meter.usage(&usage);
        let choices = json::find(data, "/choices").and_then(|range| data.get(range));
        seen.usage_only = choices.is_some_and(|choices| json::elements(choices).is_empty());
    }
    if !seen.usage_only && meter.awaits_token() {
        // Azure's first chunk is about the prompt, and names no model.
        let model = json::find(data, "/model").and_then(|at| data.get(at));
        let model = model.and_then(|model| serde_json::from_slice::<String>(model).ok());
        if let Some(model) = model.filter(|model| !model.is_empty()) {
            meter.note(|observation| observation.model_served = Some(model.into()));
        }
        if is_token(data) {
            meter.first_token();
        }
    }
    if let Some(reason) = finish_of(data) {
        seen.finished = true;
        meter.note(|observation| {
            observation.finish_reason.get_or_insert(reason.into());
        });
    }
    seen
}

fn usage_of(data: &[u8]) -> Option<Usage> {
    memmem::find(data, b"\"usage\"")?;
    let range = json::find(data, "/usage")?;
    Usage::from_openai(data.get(range)?)
}

fn finish_of(data: &[u8]) -> Option<String> {
    let name = b"\"finish_reason\"";
    let at = memmem::find(data, name)?;
    let value = data.get(at + name.len()..)?.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
    // Null is by far the most frequent.
    if !value.starts_with(b"\"") {
        return None;
    }
    let end = value.iter().skip(1).position(|&byte| byte == b'"')?;
    serde_json::from_slice(value.get(..end + 2)?).ok()
}

/// Where the first event ends, its blank line included. Any of the three line ends (WHATWG HTML).
pub(crate) fn event_end(bytes: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + memchr::memchr2(b'\n', b'\r', bytes.get(from..)?)?;
        let rest = bytes.get(at..)?;
        let end = match rest {
            [b'\r', b'\n', b'\r', b'\n', ..] => 4,
            // A lone return before the end may be half of a line end.
            [b'\r', b'\n', b'\n', ..] | [b'\n', b'\r', b'\n', ..] => 3,
            [b'\n', b'\n', ..] | [b'\r', b'\r', ..] => 2,
            [b'\r', b'\n', ..] => {
                from = at + 2;
                continue;
            }
            _ => {
                from = at + 1;
                continue;
            }
        };
        return Some(at + end);
    }
}

/// The data of an event with one data line, which is how chunks come.
pub(crate) fn data_of(event: &[u8]) -> Option<&[u8]> {
    let event = event.strip_prefix(b"\xef\xbb\xbf").unwrap_or(event);
    let line =
        event.split(|&byte| byte == b'\n' || byte == b'\r').find_map(|line| line.strip_prefix(b"data:"))?;
    Some(line.trim_ascii())
}
