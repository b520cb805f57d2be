//! Answers that have the caller's dialect already: relayed byte for byte, while the dialect's component reads on the
//! side what the account needs.
//!
//! Events are forwarded whole, so that an error event can follow at any point; an event may have 16 MiB (a Responses
//! stream ends with one that holds the whole response). So are the elements of an array. What is forwarded isn't changed:
//! all of it together is what the vendor sent.
//!
//! A stream that ends before the component has read its last event is cut short, and says so in the dialect's form. When
//! the component fails, the stream ends with the host's own form of an error: an answer that can't be read can't be
//! accounted for.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use brokle_core::tenancy::Tenant;
use brokle_runtime::dialects::{Frame, Reading};
use brokle_runtime::{DialectReader, Framer};
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use hyper::body::Incoming as Upstream;
use tokio::time::Instant;

use super::{Asked, broke, problem_of};
use crate::account::Meter;
use crate::answer::ByteStream;
use crate::attempts::Pieces;
use crate::gateway::Gateway;
use crate::refusal::Refusal;
use crate::stream::{Cut, event_end};

/// The largest event.
const MAX_EVENT: usize = 16 << 20;

/// An answer in the caller's dialect.
pub(crate) struct Native {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Content,
}

pub(crate) enum Content {
    /// All of it, read already.
    Whole(Bytes),
    /// Too large to be read: relayed.
    Relay { head: Vec<Bytes>, body: Upstream },
    /// A stream of events.
    Stream(Box<Reads>),
    /// A stream that is given again.
    Again(Vec<Bytes>),
}

/// What reads a stream.
pub(crate) struct Reads {
    /// Pieces that were read before, last first.
    pub(crate) head: Vec<Bytes>,
    pub(crate) body: Pieces,
    pub(crate) reader: DialectReader,
    pub(crate) asked: Arc<Asked>,
    /// `text/event-stream`, or else a JSON array.
    pub(crate) events: bool,
    pub(crate) owner: Owner,
}

/// Whose an object is that the vendor keeps.
pub(crate) struct Owner {
    pub(crate) kept: super::kept::Kept,
    pub(crate) tenant: Tenant,
    pub(crate) connection: Arc<str>,
}

impl Owner {
    /// Takes what was read into the account.
    pub(crate) fn note(&self, reading: &Reading, meter: &mut Meter) {
        if !reading.usage.is_empty() {
            meter.usage_entries(&reading.usage);
        }
        if let Some(id) = &reading.id {
            self.kept.remember(self.tenant, id, &self.connection);
        }
        meter.note(|observation| {
            if let Some(model) = &reading.model {
                observation.model_served = Some(model.as_str().into());
            }
            if let Some(reason) = &reading.finish_reason {
                observation.finish_reason = Some(reason.clone().into());
            }
        });
    }
}

struct State {
    reads: Reads,
    framer: Option<Framer>,
    cut: Cut,
    meter: Meter,
    /// An event or element whose end hasn't come.
    pending: BytesMut,
    ready: VecDeque<Bytes>,
    begun: bool,
    complete: bool,
    failed: bool,
    ended: bool,
}

/// The vendor's own stream.
pub(crate) fn stream(
    gateway: &Gateway,
    reads: Reads,
    meter: Meter,
    idle: Duration,
    left: Duration,
) -> ByteStream {
    let random = Arc::clone(&gateway.parts.random);
    let deadline = Instant::now() + left;
    let framer = if reads.events { None } else { Framer::new("json-array") };
    let state = Box::new(State {
        reads,
        framer,
        cut: Cut::of(gateway),
        meter,
        pending: BytesMut::new(),
        ready: VecDeque::new(),
        begun: false,
        complete: false,
        failed: false,
        ended: false,
    });
    Box::pin(futures_util::stream::unfold(state, move |mut state| {
        let random = Arc::clone(&random);
        async move {
            loop {
                if let Some(bytes) = state.ready.pop_front() {
                    state.begun = true;
                    return Some((bytes, state));
                }
                if state.ended {
                    let (label, spent) = (state.reads.asked.plugin.label(), state.reads.reader.spent().time);
                    state.meter.plugin(label, "read", None, spent, &*random);
                    return None;
                }
                let next = match state.reads.head.pop() {
                    Some(piece) => Ok(Some(piece)),
                    None => state.cut.or(deadline, state.reads.body.next(idle)).await,
                };
                let taken = match next {
                    Ok(Some(piece)) => state.take(piece).await,
                    Ok(None) => state.end(),
                    Err(_) if state.complete || state.failed => state.end(),
                    Err(refusal) => Err(refusal),
                };
                if let Err(refusal) = taken {
                    state.give_up(&refusal).await;
                }
            }
        }
    }))
}

/// A vendor's stream, as it came.
pub(crate) fn again(pieces: Vec<Bytes>, meter: Meter) -> ByteStream {
    let state = (pieces.into_iter(), meter);
    Box::pin(futures_util::stream::unfold(state, |(mut pieces, mut meter)| async move {
        meter.first_token();
        let Some(piece) = pieces.next() else {
            meter.complete();
            return None;
        };
        meter.output(&piece);
        Some((piece, (pieces, meter)))
    }))
}

impl State {
    async fn take(&mut self, piece: Bytes) -> Result<(), Refusal> {
        let unreadable = |error: brokle_runtime::FrameError| {
            Refusal::upstream(502, "upstream_error", format!("The provider's stream can't be read: {error}."))
        };
        self.pending.extend_from_slice(&piece);
        let (whole, frames) = match &mut self.framer {
            Some(framer) => {
                let frames = framer.push(&piece).map_err(unreadable)?;
                let frames = frames.into_iter().map(|frame| Frame { event: frame.event, data: frame.data });
                (self.pending.len().saturating_sub(framer.unfinished()), frames.collect())
            }
            None => self.events(),
        };
        let forwarded = self.pending.split_to(whole).freeze();
        if self.pending.len() > MAX_EVENT {
            let message = "An event of the provider's is larger than 16 MiB.";
            return Err(Refusal::upstream(502, "upstream_error", message));
        }
        if forwarded.is_empty() {
            return Ok(());
        }
        if !frames.is_empty() {
            self.meter.first_token();
        }
        self.meter.output(&forwarded);
        self.meter.keep_chunk(&forwarded);
        self.ready.push_back(forwarded);
        if frames.is_empty() {
            return Ok(());
        }
        let reading = self.reads.reader.push(&frames).await.map_err(|error| {
            self.meter.trap(&error.plugin);
            broke(error)
        })?;
        self.reads.owner.note(&reading, &mut self.meter);
        self.complete |= reading.complete;
        if let Some(message) = reading.failure
            && !std::mem::replace(&mut self.failed, true)
        {
            // The caller has the vendor's own words.
            self.meter.refuse(&Refusal::upstream(502, "upstream_error", message), Some(200));
        }
        Ok(())
    }

    /// Whole events: how many bytes they have, and their frames.
    fn events(&self) -> (usize, Vec<Frame>) {
        let (mut at, mut frames) = (0, Vec::new());
        while let Some(event) = self.pending.get(at..).and_then(|rest| rest.get(..event_end(rest)?)) {
            at += event.len();
            frames.extend(frame(event));
        }
        (at, frames)
    }

    fn end(&mut self) -> Result<(), Refusal> {
        if !self.complete && !self.failed {
            let message = "The provider's stream ended too early.";
            return Err(Refusal::upstream(502, "upstream_disconnected", message));
        }
        self.ended = true;
        if !self.failed {
            self.meter.complete();
        }
        Ok(())
    }

    async fn give_up(&mut self, refusal: &Refusal) {
        self.ended = true;
        self.meter.refuse(refusal, Some(200));
        let begun = self.begun || !self.ready.is_empty();
        let said = match refusal.fault {
            crate::Fault::Plugin => None,
            _ => self.reads.reader.failed(refusal.status, &problem_of(refusal)).await.ok(),
        };
        let asked = &self.reads.asked;
        self.ready.push_back(match said {
            Some(bytes) => bytes.into(),
            None => asked.dialect.error_event(refusal, &asked.content_type, begun),
        });
    }
}

/// An event's name and data; none for one without data, a comment for instance.
fn frame(event: &[u8]) -> Option<Frame> {
    let event = event.strip_prefix(b"\xef\xbb\xbf").unwrap_or(event);
    let (mut name, mut data) = (String::new(), None::<Vec<u8>>);
    for line in event.split(|&byte| byte == b'\n' || byte == b'\r') {
        let value = |prefix: &[u8]| {
            let value = line.strip_prefix(prefix)?;
            Some(value.strip_prefix(b" ").unwrap_or(value))
        };
        if let Some(value) = value(b"event:") {
            name = String::from_utf8_lossy(value).into_owned();
        } else if let Some(value) = value(b"data:") {
            match &mut data {
                Some(data) => {
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
                None => data = Some(value.to_vec()),
            }
        }
    }
    data.map(|data| Frame { event: name, data })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_become_frames() {
        let one = frame(b"event: ping\r\ndata: {\"a\":\r\ndata: 1}\r\n\r\n").unwrap();
        assert_eq!((one.event.as_str(), one.data.as_slice()), ("ping", &b"{\"a\":\n1}"[..]));
        assert!(frame(b": comment\n\n").is_none());
    }
}
