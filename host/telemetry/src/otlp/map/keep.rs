//! What stays attributes: everything that no field took, within bounds, and without content where none is captured.

use std::collections::BTreeMap;

use brokle_core::observation::{SpanId, TraceId};
use brokle_core::tenancy::Capture;
use chrono::{DateTime, SecondsFormat};
use serde_json::{Map, Value, json};

use super::super::span::{Attributes, Event, Link, Origin, Span};
use super::places::Places;
use super::{content, table};

/// Bytes of an observation's attributes, names included. What doesn't fit is left out, large values first, and
/// `brokle.left_out` says how many there were.
pub const MAX_ATTRIBUTE_BYTES: usize = 64 * 1024;
/// Values up to this size find room before larger ones.
const SMALL: usize = 1024;
/// Bytes of an attribute's name; a longer one is left out.
const MAX_KEY: usize = 256;

const SPAN_KINDS: [&str; 6] = ["unspecified", "internal", "server", "client", "producer", "consumer"];

/// The attributes of an observation.
pub(super) fn attributes(
    places: Places<'_>,
    origin: &Origin,
    span: &Span,
    capture: Capture,
) -> BTreeMap<String, Value> {
    let mut sieve = Sieve { capture, withheld: 0 };
    let mut found = sieve.members(places.attributes);
    if let Some(kind) =
        usize::try_from(span.kind).ok().filter(|kind| *kind > 0).and_then(|at| SPAN_KINDS.get(at))
    {
        found.insert("otel.kind".to_owned(), Value::from(*kind));
    }
    if !span.trace_state.is_empty() {
        found.insert("otel.trace_state".to_owned(), Value::from(span.trace_state.as_str()));
    }
    if !origin.scope_name.is_empty() {
        let scope = json!({ "name": origin.scope_name, "version": origin.scope_version });
        found.insert("otel.scope".to_owned(), scope);
    }
    let resource = sieve.members(origin.resource.clone());
    if !resource.is_empty() {
        found.insert("otel.resource".to_owned(), Value::Object(resource.into_iter().collect()));
    }
    if !span.links.is_empty() {
        let links = span.links.iter().map(|link| sieve.link(link)).collect();
        found.insert("otel.links".to_owned(), links);
    }
    let events: Vec<Value> = places.events.into_iter().filter_map(|event| sieve.event(event)).collect();
    if !events.is_empty() {
        found.insert("otel.events".to_owned(), Value::Array(events));
    }
    if span.dropped > 0 {
        found.insert("otel.dropped".to_owned(), Value::from(span.dropped));
    }
    if sieve.withheld > 0 {
        found.insert("brokle.withheld".to_owned(), Value::from(sieve.withheld));
    }
    bounded(found)
}

/// The attributes of a log record or a point; more of it may have been withheld already.
pub(super) fn plain(attributes: Attributes, capture: Capture, withheld: u64) -> BTreeMap<String, Value> {
    let mut sieve = Sieve { capture, withheld };
    let mut found = sieve.members(attributes);
    if sieve.withheld > 0 {
        found.insert("brokle.withheld".to_owned(), Value::from(sieve.withheld));
    }
    bounded(found)
}

/// Lets through what may be kept.
struct Sieve {
    capture: Capture,
    /// Values that weren't let through because they may be content.
    withheld: u64,
}

impl Sieve {
    fn members(&mut self, attributes: Attributes) -> BTreeMap<String, Value> {
        attributes.into_iter().filter(|(name, value)| self.lets_through(name, value)).collect()
    }

    fn lets_through(&mut self, name: &str, value: &Value) -> bool {
        if self.capture == Capture::Full {
            return true;
        }
        let is_known = || {
            table::METADATA
                .iter()
                .any(|known| name == *known || (known.ends_with('.') && name.starts_with(known)))
        };
        let is_scalar = matches!(value, Value::Null | Value::Bool(_) | Value::Number(_));
        let passes = !content::is_content(name) && (is_scalar || is_known());
        self.withheld += u64::from(!passes);
        passes
    }

    fn event(&mut self, event: Event) -> Option<Value> {
        let mut attributes: Map<String, Value> = Map::new();
        let is_content = content::is_content_event(&event.name);
        if self.capture == Capture::Full || !is_content {
            attributes = self.members(event.attributes).into_iter().collect();
        } else {
            self.withheld += event.attributes.len() as u64;
        }
        if attributes.is_empty() && is_content {
            // All of it is the observation's input or output, or withheld.
            return None;
        }
        Some(json!({ "name": event.name, "time": time(event.time_ns), "attributes": attributes }))
    }

    fn link(&mut self, link: &Link) -> Value {
        let trace =
            <[u8; 16]>::try_from(link.trace_id.as_slice()).ok().and_then(|id| TraceId::from_bytes(id).ok());
        let span =
            <[u8; 8]>::try_from(link.span_id.as_slice()).ok().and_then(|id| SpanId::from_bytes(id).ok());
        json!({ "trace_id": trace, "span_id": span, "attributes": self.members(link.attributes.clone()) })
    }
}

/// RFC 3339 with microseconds, as everywhere else.
fn time(nanos: u64) -> Option<String> {
    let time = DateTime::from_timestamp_micros(i64::try_from(nanos / 1_000).ok()?)?;
    Some(time.to_rfc3339_opts(SecondsFormat::Micros, true))
}

/// As many as fit.
fn bounded(found: BTreeMap<String, Value>) -> BTreeMap<String, Value> {
    let (small, large): (Vec<_>, Vec<_>) = found
        .into_iter()
        .map(|(name, value)| (name.len() + size(&value), name, value))
        .partition(|(size, ..)| *size <= SMALL);
    let (mut kept, mut left_out, mut room) = (BTreeMap::new(), 0_u64, MAX_ATTRIBUTE_BYTES);
    for (size, name, value) in small.into_iter().chain(large) {
        match room.checked_sub(size) {
            Some(rest) if name.len() <= MAX_KEY => {
                room = rest;
                kept.insert(name, value);
            }
            _ => left_out += 1,
        }
    }
    if left_out > 0 {
        kept.insert("brokle.left_out".to_owned(), Value::from(left_out));
    }
    kept
}

/// About what it takes as JSON.
fn size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
        Value::String(text) => 2 + text.len(),
        Value::Array(list) => 2 + list.iter().map(|value| 1 + size(value)).sum::<usize>(),
        Value::Object(members) => {
            2 + members.iter().map(|(name, value)| 4 + name.len() + size(value)).sum::<usize>()
        }
    }
}
