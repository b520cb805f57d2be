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

mod events;
mod link;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use brokle_core::json;
use brokle_core::random::Random;
use brokle_runtime::Body;
use brokle_runtime::guarding;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use self::events::{all_data, framed, merge, placed};
use self::link::{Stop, StreamLink};
use super::call::Chain;
use super::rulings::{Note, respell};
use super::texts::{self, Delta, Strict};
use crate::account::Meter;
use crate::gateway::Gateway;
use crate::refusal::Refusal;
use crate::request::Request;
use crate::stream::event_end;

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
            request: request.body.clone(),
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

fn unreadable() -> Refusal {
    Refusal::upstream(502, "upstream_error", "An event of the provider's stream can't be read.")
}
