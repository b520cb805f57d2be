//! Streams under guardrails.
//!
//! Each text of a stream (a choice's content, its refusal, the arguments of one of its tool calls) passes through the
//! guardrails one after the other. A guardrail is shown what it hasn't released yet and says how much of the end it
//! isn't sure of; that is held back, at most its `hold_back_bytes`, and shown again with what follows. What is released
//! goes on in the event that came with it. What is released when no event of that text is there (its choice has
//! finished, a tool call has begun, the stream has ended) goes in an event of our own, before the one that is there.
//!
//! A text is shown for the last time when its choice finishes or the stream ends; and once before that, when another
//! text of the same choice begins, because clients take the beginning of a tool call for the end of what was before.
//!
//! Events keep their bytes unless a text in them changes. They are never left out: one whose text is all held back goes
//! on with an empty text, so that a client sees that something is coming.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use brokle_core::json;
use brokle_core::random::Random;
use brokle_runtime::guarding::{self, Fragment, Verdict};
use brokle_runtime::{Body, GuardrailInstance};
use bytes::{Bytes, BytesMut};
use serde_json::{Map, Value, json};

use super::call::{Chain, Link};
use super::rulings::{Failed, Note, edited, respell};
use super::texts::{self, Delta, Strict};
use crate::account::Meter;
use crate::gateway::Gateway;
use crate::refusal::Refusal;
use crate::request::Request;
use crate::stream::{data_of, event_end};

/// What a guardrail is told of what it has released, in bytes.
const BEFORE: usize = 256;

/// The guardrails of one stream.
#[derive(Debug)]
pub(crate) struct StreamGuard {
    random: Arc<dyn Random>,
    request: Body,
    facts: guarding::Call,
    links: Vec<StreamLink>,
    /// Every text that has begun, in order.
    begun: Vec<Begun>,
    /// The latest event: what one of our own is made like.
    latest: Value,
    ended: bool,
}

/// A text that has begun.
#[derive(Debug)]
struct Begun {
    choice: u64,
    pointer: String,
    kind: &'static str,
    closed_early: bool,
    /// It was shown for the last time, and nothing has come since.
    over: bool,
}

/// A piece of a text on its way through the guardrails.
#[derive(Debug)]
struct Piece {
    text: usize,
    value: String,
    last: bool,
}

#[derive(Debug)]
struct StreamLink {
    link: Link,
    /// None after it has failed.
    instance: Option<GuardrailInstance>,
    /// By the index of `begun`.
    held: Vec<Held>,
    note: Option<Note>,
    spent: Duration,
}

#[derive(Debug, Default, Clone)]
struct Held {
    before: String,
    value: String,
}

impl StreamGuard {
    /// An instance of each guardrail, for the life of the stream.
    ///
    /// # Errors
    /// One can't be made, and calls don't go on without it.
    pub(crate) async fn open(
        gateway: &Gateway,
        meter: &mut Meter,
        chain: &Chain,
        request: &Request,
    ) -> Result<Self, Refusal> {
        let random = Arc::clone(&gateway.parts.random);
        let mut links = Vec::new();
        for link in chain.links.iter().filter(|link| link.on_response()) {
            let mut note = Note::begin(meter, link, "response", &*random);
            let instance = match link.open(note.parent(meter)).await {
                Ok(instance) => Some(instance),
                Err(failed) => {
                    if let Some(refusal) = note.fails(meter, link, &failed) {
                        note.end(meter, link, Duration::ZERO, "on-chunk", &*random);
                        return Err(refusal);
                    }
                    None
                }
            };
            let (held, spent) = (Vec::new(), Duration::ZERO);
            links.push(StreamLink { link: link.clone(), instance, held, note: Some(note), spent });
        }
        meter.shown_elsewhere();
        Ok(Self {
            random,
            request: Body::json(request.body.clone()),
            facts: chain.facts(request, 0),
            links,
            begun: Vec::new(),
            latest: Value::Null,
            ended: false,
        })
    }

    /// Takes whole events; what may go on is put into `ready`.
    ///
    /// # Errors
    /// The stream ends here: a guardrail blocks it, or has failed.
    pub(crate) async fn feed(
        &mut self,
        mut events: Bytes,
        ready: &mut VecDeque<Bytes>,
        meter: &mut Meter,
    ) -> Result<(), Refusal> {
        while !events.is_empty() {
            let end = event_end(&events).unwrap_or(events.len());
            let event = events.split_to(end);
            let result = self.event(event, ready, meter).await;
            if result.is_err() {
                self.note_end(meter);
            }
            result?;
        }
        Ok(())
    }

    /// The stream has ended, for whatever reason: what is held back is ruled on for the last time.
    ///
    /// # Errors
    /// A guardrail blocks it, or has failed.
    pub(crate) async fn finish(
        &mut self,
        ready: &mut VecDeque<Bytes>,
        meter: &mut Meter,
    ) -> Result<(), Refusal> {
        if self.ended {
            return Ok(());
        }
        self.ended = true;
        let left = self.begun.iter().enumerate().filter(|(_, begun)| !begun.over);
        let pieces = left.map(|(text, _)| Piece { text, value: String::new(), last: true });
        let released = self.pass(pieces.collect(), true, meter).await;
        self.note_end(meter);
        let released = released?;
        if let Some(event) = self.own_event(&released, |_| true) {
            meter.shown(&event);
            ready.push_back(event);
        }
        Ok(())
    }

    fn note_end(&mut self, meter: &mut Meter) {
        for link in &mut self.links {
            if let Some(note) = link.note.take() {
                note.end(meter, &link.link, link.spent, "on-chunk", &*self.random);
            }
        }
    }

    async fn event(
        &mut self,
        event: Bytes,
        ready: &mut VecDeque<Bytes>,
        meter: &mut Meter,
    ) -> Result<(), Refusal> {
        let Some(data) = all_data(&event) else {
            ready.push_back(event);
            return Ok(());
        };
        if data.as_ref() == b"[DONE]" {
            self.finish(ready, meter).await?;
            ready.push_back(event);
            return Ok(());
        }
        let Strict(parsed) = serde_json::from_slice(&data).map_err(|_| unreadable())?;
        if parsed.get("error").is_some_and(|error| !error.is_null()) {
            self.finish(ready, meter).await?;
            ready.push_back(event);
            return Ok(());
        }
        let (deltas, finished) = texts::of_event(&parsed);
        if deltas.is_empty() && finished.is_empty() {
            meter.shown(&event);
            ready.push_back(event);
            return Ok(());
        }
        self.latest = parsed;
        let pieces = self.pieces(&deltas, &finished);
        let released = self.pass(pieces, false, meter).await?;
        let has_delta = |text: usize| {
            let pointer = self.begun.get(text).map(|begun| begun.pointer.as_str());
            deltas.iter().any(|delta| !delta.at.is_empty() && Some(delta.pointer.as_str()) == pointer)
        };
        if let Some(own) = self.own_event(&released, |text| !has_delta(text)) {
            meter.shown(&own);
            ready.push_back(own);
        }
        let event = self.rewritten(event.clone(), &data, &deltas, &released)?;
        meter.shown(&event);
        ready.push_back(event);
        Ok(())
    }

    /// What an event brings, and what it ends.
    fn pieces(&mut self, deltas: &[Delta], finished: &[u64]) -> Vec<Piece> {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut closing: Vec<u64> = Vec::new();
        for delta in deltas {
            let known = self.begun.iter().position(|begun| begun.pointer == delta.pointer);
            let text = known.unwrap_or(self.begun.len());
            if known.is_none() {
                closing.push(delta.choice);
                let pointer = delta.pointer.clone();
                self.begun.push(Begun {
                    choice: delta.choice,
                    pointer,
                    kind: delta.kind,
                    closed_early: false,
                    over: false,
                });
            }
            match pieces.iter_mut().find(|piece| piece.text == text) {
                Some(piece) => piece.value.push_str(&delta.value),
                None => pieces.push(Piece { text, value: delta.value.clone(), last: false }),
            }
        }
        for (text, begun) in self.begun.iter_mut().enumerate() {
            let here = pieces.iter_mut().find(|piece| piece.text == text);
            let ends = finished.contains(&begun.choice);
            let early = closing.contains(&begun.choice) && here.is_none() && !begun.closed_early;
            begun.closed_early |= early;
            match here {
                Some(piece) => {
                    piece.last = ends;
                    begun.over = ends;
                }
                None if (ends || early) && !begun.over => {
                    begun.over = true;
                    pieces.push(Piece { text, value: String::new(), last: true });
                }
                None => {}
            }
        }
        pieces
    }

    /// Through all guardrails, in order.
    async fn pass(
        &mut self,
        mut pieces: Vec<Piece>,
        finish: bool,
        meter: &mut Meter,
    ) -> Result<Vec<Piece>, Refusal> {
        for link in &mut self.links {
            let shown = link.link.guardrail.enforces();
            let released = link.pass(&self.begun, &self.request, &self.facts, &pieces, finish).await;
            let released = match released {
                Ok(released) => released,
                Err(Stop::Blocks(refusal)) if shown => return Err(*refusal),
                // It has ruled, for what that is worth in shadow mode.
                Err(Stop::Blocks(_)) => {
                    link.instance = None;
                    continue;
                }
                Err(Stop::Fails(failed)) => {
                    let refusal = link.note.as_mut().and_then(|note| note.fails(meter, &link.link, &failed));
                    if let Some(refusal) = refusal {
                        return Err(refusal);
                    }
                    link.instance = None;
                    if !shown {
                        continue;
                    }
                    link.release(std::mem::take(&mut pieces))
                }
            };
            // In shadow mode what came goes on, whatever was released.
            if shown {
                pieces = released;
            }
        }
        Ok(pieces)
    }

    /// The event with its texts as they were released.
    fn rewritten(
        &self,
        event: Bytes,
        data: &[u8],
        deltas: &[Delta],
        released: &[Piece],
    ) -> Result<Bytes, Refusal> {
        let mut given: Vec<usize> = Vec::new();
        let mut changes = Vec::new();
        for delta in deltas.iter().filter(|delta| !delta.at.is_empty()) {
            let text = self.begun.iter().position(|begun| begun.pointer == delta.pointer);
            let piece = released.iter().find(|piece| Some(piece.text) == text);
            // A text that an event has twice is released in the first place.
            let value = piece.filter(|piece| !given.contains(&piece.text)).map_or("", |piece| &piece.value);
            given.extend(text);
            if value != delta.value {
                changes.push((delta.at.clone(), value.to_owned()));
            }
        }
        let choices = self.latest.get("choices").and_then(Value::as_array).map_or(0, Vec::len);
        let nulls: Vec<String> = (0..choices)
            .filter(|_| self.links.iter().any(|link| link.link.guardrail.enforces()))
            .map(|position| format!("/choices/{position}/logprobs"))
            .filter(|pointer| {
                json::find(data, pointer).is_some_and(|range| data.get(range) != Some(b"null".as_slice()))
            })
            .collect();
        if changes.is_empty() && nulls.is_empty() {
            return Ok(event);
        }
        let json = respell(data, changes, nulls).map_err(|failed| {
            tracing::error!("a changed event can't be written: {failed:?}");
            unreadable()
        })?;
        Ok(framed(&json))
    }

    /// An event of our own for what was released and has no place in the one that is there.
    fn own_event(&self, released: &[Piece], wanted: impl Fn(usize) -> bool) -> Option<Bytes> {
        let mut choices: Vec<(u64, Value)> = Vec::new();
        for piece in released.iter().filter(|piece| !piece.value.is_empty() && wanted(piece.text)) {
            let begun = self.begun.get(piece.text)?;
            let rest = begun.pointer.strip_prefix("/choices/")?.split_once('/')?.1;
            let made = match rest.split_once('/') {
                Some((_, path)) => json!({"delta": placed(path, &piece.value)}),
                None => json!({ rest: piece.value }),
            };
            match choices.iter_mut().find(|(index, _)| *index == begun.choice) {
                Some((_, choice)) => merge(choice, made),
                None => choices.push((begun.choice, made)),
            }
        }
        if choices.is_empty() {
            return None;
        }
        let mut event = Map::new();
        for name in ["id", "object", "created", "model", "system_fingerprint"] {
            if let Some(value) = self.latest.get(name) {
                event.insert(name.to_owned(), value.clone());
            }
        }
        let choices = choices.into_iter().map(|(index, mut choice)| {
            merge(&mut choice, json!({"index": index, "finish_reason": null}));
            choice
        });
        event.insert("choices".into(), choices.collect());
        Some(framed(Value::Object(event).to_string().as_bytes()))
    }
}

/// Why a guardrail doesn't let a stream go on.
#[derive(Debug)]
enum Stop {
    Blocks(Box<Refusal>),
    Fails(Failed),
}

impl<T: Into<Failed>> From<T> for Stop {
    fn from(failed: T) -> Self {
        Self::Fails(failed.into())
    }
}

impl StreamLink {
    /// Shows what there is, and takes what is released.
    async fn pass(
        &mut self,
        begun: &[Begun],
        request: &Body,
        facts: &guarding::Call,
        pieces: &[Piece],
        finish: bool,
    ) -> Result<Vec<Piece>, Stop> {
        self.held.resize(begun.len(), Held::default());
        let Some(instance) = &mut self.instance else {
            return Ok(pieces
                .iter()
                .map(|piece| Piece { text: piece.text, value: piece.value.clone(), last: piece.last })
                .collect());
        };
        let fragments: Vec<Fragment> = pieces
            .iter()
            .filter_map(|piece| {
                let (begun, held) = (begun.get(piece.text)?, self.held.get(piece.text)?);
                Some(Fragment {
                    pointer: begun.pointer.clone(),
                    kind: begun.kind.into(),
                    before: held.before.clone(),
                    value: format!("{}{}", held.value, piece.value),
                    last: piece.last,
                })
            })
            .collect();
        if fragments.is_empty() && !finish {
            return Ok(Vec::new());
        }
        let call = guarding::Call { state: self.link.state.clone(), ..facts.clone() };
        let asked = instance.on_chunk(&call, request.clone(), &fragments, finish).await;
        self.spent = instance.spent().time;
        let ruling = asked??;
        let note = self.note.as_mut();
        let mut edits = Vec::new();
        if let Some(note) = note {
            note.annotate(ruling.ruling.annotations);
            match ruling.ruling.verdict {
                Verdict::Allow => {}
                Verdict::Change(wanted) => {
                    note.changes(wanted.len());
                    edits = wanted;
                }
                Verdict::Block(refusal) => {
                    return Err(Stop::Blocks(Box::new(note.blocks(&self.link, &refusal))));
                }
                Verdict::Retry(_) => return Err(Failed::ruling("a stream can't be asked for again").into()),
            }
        }
        let mut ends = Vec::with_capacity(fragments.len());
        for (index, fragment) in fragments.iter().enumerate() {
            let hold = ruling.hold.get(index).copied().unwrap_or(0) as usize;
            let window = if fragment.last { 0 } else { self.link.guardrail.hold_back };
            let end =
                fragment.value.len().checked_sub(hold).filter(|end| fragment.value.is_char_boundary(*end));
            let Some(end) = end.filter(|_| hold <= window) else {
                let detail =
                    format!("{hold} bytes held back of {}; {window} are the most", fragment.value.len());
                return Err(Failed::ruling(detail).into());
            };
            ends.push(end);
        }
        let values: Vec<&str> = fragments.iter().map(|fragment| fragment.value.as_str()).collect();
        let changed = edited(&values, &ends, &edits)?;
        let mut released = Vec::with_capacity(pieces.len());
        for (((piece, fragment), end), changed) in pieces.iter().zip(&fragments).zip(ends).zip(changed) {
            let (free, kept) = fragment.value.split_at(end);
            if let Some(held) = self.held.get_mut(piece.text) {
                held.before = tail(&fragment.before, free);
                held.value = kept.to_owned();
            }
            let value = changed.unwrap_or_else(|| free.to_owned());
            released.push(Piece { text: piece.text, value, last: piece.last });
        }
        Ok(released)
    }

    /// After a failure: everything goes on as it came.
    fn release(&mut self, pieces: Vec<Piece>) -> Vec<Piece> {
        let held = &mut self.held;
        let mut released: Vec<Piece> = pieces
            .into_iter()
            .map(|piece| {
                let before = held.get_mut(piece.text).map(|held| std::mem::take(&mut held.value));
                Piece { value: format!("{}{}", before.unwrap_or_default(), piece.value), ..piece }
            })
            .collect();
        for (text, held) in held.iter_mut().enumerate().filter(|(_, held)| !held.value.is_empty()) {
            released.push(Piece { text, value: std::mem::take(&mut held.value), last: false });
        }
        released
    }
}

/// The end of what was released, on a character's border.
fn tail(before: &str, released: &str) -> String {
    let whole = format!("{before}{released}");
    let mut start = whole.len().saturating_sub(BEFORE);
    while !whole.is_char_boundary(start) {
        start += 1;
    }
    whole.get(start..).unwrap_or_default().to_owned()
}

/// All data lines of an event, joined as the standard says (WHATWG HTML, server-sent events); none when it has none.
fn all_data(event: &[u8]) -> Option<std::borrow::Cow<'_, [u8]>> {
    let lines = || {
        let event = event.strip_prefix(b"\xef\xbb\xbf").unwrap_or(event);
        event.split(|&byte| byte == b'\n' || byte == b'\r').filter_map(|line| line.strip_prefix(b"data:"))
    };
    match lines().count() {
        0 => None,
        1 => data_of(event).map(Into::into),
        _ => Some(lines().map(<[u8]>::trim_ascii).collect::<Vec<_>>().join(&b'\n').into()),
    }
}

fn framed(json: &[u8]) -> Bytes {
    let mut event = BytesMut::with_capacity(json.len() + 8);
    event.extend_from_slice(b"data: ");
    event.extend_from_slice(json);
    event.extend_from_slice(b"\n\n");
    event.freeze()
}

/// A text at its place in a delta.
fn placed(path: &str, text: &str) -> Value {
    let (name, rest) = path.split_once('/').unwrap_or((path, ""));
    let name = name.replace("~1", "/").replace("~0", "~");
    if rest.is_empty() {
        return json!({ name: text });
    }
    let (next, below) = rest.split_once('/').unwrap_or((rest, ""));
    match next.parse::<u64>() {
        Ok(index) if name == "tool_calls" => {
            let mut call = placed(below, text);
            merge(&mut call, json!({"index": index}));
            json!({ name: [call] })
        }
        Ok(_) if below.is_empty() => json!({ name: [text] }),
        Ok(_) => json!({ name: [placed(below, text)] }),
        Err(_) => json!({ name: placed(rest, text) }),
    }
}

/// Puts members into others: objects are joined, arrays appended.
fn merge(into: &mut Value, more: Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (name, value) in more {
                match into.get_mut(&name) {
                    Some(known) => merge(known, value),
                    None => drop(into.insert(name, value)),
                }
            }
        }
        (Value::Array(into), Value::Array(more)) => into.extend(more),
        (into, more) => *into = more,
    }
}

fn unreadable() -> Refusal {
    Refusal::upstream(502, "upstream_error", "An event of the provider's stream can't be read.")
}
