//! Streams to the caller. Each owns the call's meter: when the caller goes away the stream is dropped, with it the
//! upstream connection, and the account is closed.
//!
//! Whatever happens, a stream of events ends with a verdict: `[DONE]`, after an error event if it was cut short.
//! Events are forwarded whole: a piece of one is held back until the rest has come, so that nothing is ever put into
//! the middle of an event.
//!
//! A server that stops cuts what is still open at the end of its drain ([`Cut`]): the verdict is `server_stopping`, and
//! the upstream is let go.

mod tap;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use brokle_runtime::exchange::Output;
use bytes::{Bytes, BytesMut};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::account::Meter;
use crate::answer::{BrokenOff, ByteStream, RelayedStream};
use crate::attempts::Pieces;
use crate::decoding::Decoding;
use crate::gateway::Gateway;
use crate::guardrails::StreamGuard;
use crate::refusal::Refusal;
use tap::Tap;
pub(crate) use tap::{Events, data_of, error_of, event_end, read_chunk};

/// How long an upstream may take from its `[DONE]` to the end of its answer before its connection is given up.
const TAIL: Duration = Duration::from_millis(50);

const DONE: Bytes = Bytes::from_static(b"data: [DONE]\n\n");

/// An error, as an event of OpenAI's streams.
fn error_event(refusal: &Refusal) -> Bytes {
    let mut event = BytesMut::from(&b"data: "[..]);
    // One line: the vendor's own body may have several.
    match serde_json::from_slice::<serde_json::Value>(&refusal.json()) {
        Ok(json) => event.extend_from_slice(json.to_string().as_bytes()),
        Err(_) => event.extend_from_slice(&refusal.json()),
    }
    event.extend_from_slice(b"\n\ndata: [DONE]\n\n");
    event.freeze()
}

fn too_long() -> Refusal {
    Refusal::upstream(504, "upstream_timeout", "The stream took longer than is allowed.")
}

/// Fires when the server is about to close the connections of streams.
pub(crate) struct Cut(watch::Receiver<bool>);

impl Cut {
    pub(crate) fn of(gateway: &Gateway) -> Self {
        let mut cut = gateway.cutting.subscribe();
        // For a stream that begins after it fired, too.
        let fired = *cut.borrow();
        if fired {
            cut.mark_changed();
        }
        Self(cut)
    }

    /// Waits until it fires.
    pub(crate) async fn fired(&mut self) -> Refusal {
        if self.0.changed().await.is_err() {
            // Nobody is left who could fire it.
            std::future::pending::<()>().await;
        }
        stopping()
    }

    /// What comes next, unless the stream is cut or its time is over.
    pub(crate) async fn or<T>(
        &mut self,
        deadline: Instant,
        next: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<T, Refusal> {
        // An upstream that always has something ready doesn't keep it from being heard.
        if self.0.has_changed().unwrap_or(false) {
            return Err(stopping());
        }
        tokio::select! {
            biased;
            next = tokio::time::timeout_at(deadline, next) => next.unwrap_or_else(|_| Err(too_long())),
            _ = self.0.changed() => Err(stopping()),
        }
    }
}

pub(crate) fn stopping() -> Refusal {
    let message = "The server is stopping, and the call took longer than it waits. Try again.";
    Refusal { fault: crate::Fault::Internal, ..Refusal::client(503, "server_stopping", message) }
}

/// The provider's own events, untouched but for the usage chunk that the caller didn't ask for.
pub(crate) fn native(
    (mut head, body): (Vec<Bytes>, Pieces),
    meter: Meter,
    guard: Option<Box<StreamGuard>>,
    events: Events,
    idle: Duration,
    left: Duration,
    cut: Cut,
) -> ByteStream {
    struct State {
        /// Pieces that were read before, last first.
        head: Vec<Bytes>,
        body: Pieces,
        cut: Cut,
        meter: Meter,
        tap: Tap,
        guard: Option<Box<StreamGuard>>,
        ready: VecDeque<Bytes>,
        ended: bool,
    }
    let deadline = Instant::now() + left;
    let (tap, ready) = (Tap::new(events), VecDeque::new());
    head.reverse();
    // In a box: each event would move it otherwise, in and out.
    let state = Box::new(State { head, body, cut, meter, tap, guard, ready, ended: false });
    Box::pin(futures_util::stream::unfold(state, move |mut state| async move {
        loop {
            if let Some(bytes) = state.ready.pop_front() {
                return Some((bytes, state));
            }
            if state.ended {
                // The end of the answer's framing, most often in the same read as `[DONE]`: once it is read, the
                // connection can serve another call.
                let _ = tokio::time::timeout(TAIL, state.body.next(idle)).await;
                return None;
            }
            let next = match state.head.pop() {
                Some(piece) => Ok(Some(piece)),
                None => state.cut.or(deadline, state.body.next(idle)).await,
            };
            let verdict = match next {
                Ok(Some(piece)) => state.tap.feed(piece, &mut state.ready, &mut state.meter),
                Ok(None) => state.tap.end(&mut state.ready).map(|()| true),
                Err(refusal) if state.tap.is_done() => {
                    tracing::debug!(code = %refusal.code, "the upstream broke off after its stream was complete");
                    Ok(true)
                }
                Err(refusal) => Err(refusal),
            };
            let verdict = match &mut state.guard {
                Some(guard) => guarded(guard, &mut state.ready, &mut state.meter, verdict).await,
                None => verdict,
            };
            match verdict {
                Ok(false) => {}
                Ok(true) => {
                    state.ended = true;
                    state.meter.complete();
                }
                Err(refusal) => {
                    state.ended = true;
                    state.meter.refuse(&refusal, Some(200));
                    state.ready.push_back(error_event(&refusal));
                }
            }
        }
    }))
}

/// Shows events to the guardrails; what they let go on takes their place.
async fn guarded(
    guard: &mut StreamGuard,
    ready: &mut VecDeque<Bytes>,
    meter: &mut Meter,
    verdict: Result<bool, Refusal>,
) -> Result<bool, Refusal> {
    for events in std::mem::take(ready) {
        guard.feed(events, ready, meter).await?;
    }
    if verdict.is_err() {
        guard.finish(ready, meter).await?;
    }
    verdict
}

/// Bytes as they come, for what isn't read on the way.
pub(crate) fn relay(
    head: Vec<Bytes>,
    body: Pieces,
    meter: Meter,
    idle: Duration,
    left: Duration,
    cut: Cut,
) -> RelayedStream {
    let deadline = Instant::now() + left;
    let state = Some(Box::new((VecDeque::from(head), body, meter, cut)));
    Box::pin(futures_util::stream::unfold(state, move |state| async move {
        let mut state = state?;
        let (head, body, meter, cut) = &mut *state;
        meter.first_token();
        if let Some(bytes) = head.pop_front() {
            return Some((Ok(bytes), Some(state)));
        }
        match cut.or(deadline, body.next(idle)).await {
            Ok(Some(bytes)) => Some((Ok(bytes), Some(state))),
            Ok(None) => {
                meter.complete();
                None
            }
            Err(refusal) => {
                meter.refuse(&refusal, Some(200));
                Some((Err(BrokenOff), None))
            }
        }
    }))
}

/// What a plugin makes of its vendor's events.
pub(crate) fn decoded(
    gateway: Arc<Gateway>,
    head: Vec<Output>,
    decoding: Decoding,
    meter: Meter,
    guard: Option<Box<StreamGuard>>,
    include_usage: bool,
    left: Duration,
) -> ByteStream {
    let deadline = Instant::now() + left;
    let written = Written::new(meter, guard, include_usage);
    let state = Box::new((Cut::of(&gateway), gateway, head, decoding, written));
    Box::pin(futures_util::stream::unfold(state, move |mut state| async move {
        let (cut, gateway, head, decoding, written) = &mut *state;
        while !written.ended {
            let next = match head.is_empty() {
                false => Ok(Some(std::mem::take(head))),
                true => cut.or(deadline, decoding.next(gateway)).await,
            };
            match next {
                Ok(Some(outputs)) => written.take(outputs),
                Ok(None) => written.done(),
                Err(refusal) => {
                    if refusal.fault == crate::Fault::Plugin {
                        written.meter.trap(decoding.candidate.connection.plugin.label());
                    }
                    written.fail(&refusal);
                }
            }
            written.guarded().await;
            if written.ended {
                let plugin = decoding.candidate.connection.plugin.label().clone();
                let spent = decoding.instance.spent().time;
                written.meter.plugin(&plugin, "decode", None, spent, &*gateway.parts.random);
            }
            if !written.bytes.is_empty() {
                break;
            }
        }
        let bytes = written.bytes.split().freeze();
        (!bytes.is_empty()).then_some((bytes, state))
    }))
}

/// An answer that needed no vendor: one event at a time, as a vendor's would come.
pub(crate) fn local(
    outputs: Vec<Output>,
    meter: Meter,
    guard: Option<Box<StreamGuard>>,
    include_usage: bool,
) -> ByteStream {
    let state = (VecDeque::from(outputs), Written::new(meter, guard, include_usage));
    Box::pin(futures_util::stream::unfold(state, |(mut outputs, mut written)| async move {
        while written.bytes.is_empty() && !written.ended {
            match outputs.pop_front() {
                Some(output) => written.take(vec![output]),
                None => written.done(),
            }
            written.guarded().await;
        }
        let bytes = written.bytes.split().freeze();
        (!bytes.is_empty()).then_some((bytes, (outputs, written)))
    }))
}

/// Outputs, written as events.
struct Written {
    meter: Meter,
    guard: Option<Box<StreamGuard>>,
    include_usage: bool,
    bytes: BytesMut,
    ended: bool,
}

impl Written {
    fn new(meter: Meter, guard: Option<Box<StreamGuard>>, include_usage: bool) -> Self {
        Self { meter, guard, include_usage, bytes: BytesMut::new(), ended: false }
    }

    /// Shows what was written to the guardrails; what they let go on takes its place.
    async fn guarded(&mut self) {
        let Some(guard) = &mut self.guard else { return };
        let mut ready = VecDeque::new();
        let fed = guard.feed(self.bytes.split().freeze(), &mut ready, &mut self.meter).await;
        for bytes in ready {
            self.bytes.extend_from_slice(&bytes);
        }
        if let Err(refusal) = fed {
            self.fail(&refusal);
        }
    }

    fn take(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Chunk(json) => self.chunk(&json),
                Output::Bytes(bytes) => self.bytes.extend_from_slice(&bytes),
                Output::Usage(entries) => self.meter.usage_entries(&entries),
                Output::Failure(problem) => {
                    self.fail(&Refusal::from_problem(problem));
                    return;
                }
            }
        }
    }

    fn chunk(&mut self, json: &[u8]) {
        let seen = tap::read_chunk(json, &mut self.meter);
        if seen.usage_only && !self.include_usage {
            return;
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(b"data: ");
        self.bytes.extend_from_slice(json);
        self.bytes.extend_from_slice(b"\n\n");
        let written = self.bytes.get(start..).unwrap_or_default();
        self.meter.output(written);
    }

    fn done(&mut self) {
        self.ended = true;
        self.meter.complete();
        self.bytes.extend_from_slice(&DONE);
    }

    fn fail(&mut self, refusal: &Refusal) {
        self.ended = true;
        self.meter.refuse(refusal, Some(200));
        self.bytes.extend_from_slice(&error_event(refusal));
    }
}
