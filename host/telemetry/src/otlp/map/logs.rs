//! From OTLP's log record to ours.
//!
//! - **The same record sent again is the same**: its id is a hash of what was sent, and of how many like it came before it
//!   in its request.
//! - **Content**: without capture the body is withheld, and of the attributes what may be content, as with spans. A project
//!   whose capture is `off` keeps no logs.
//! - **Clocks**: a record without a time has the one at which it was noticed; one whose clock can't be right, that of its
//!   arrival.

use std::collections::HashMap;

use brokle_core::observation::{SpanId, TraceId};
use brokle_core::signal::LogRecord;
use brokle_core::tenancy::Capture;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::super::Settings;
use super::super::record::Log;
use super::super::span::{Attributes, Origin, reason};
use super::places::cut;
use super::{MAX_BODY_BYTES, MAX_NAME, credible, keep};

/// How many of each were in the request so far.
#[derive(Debug, Default)]
pub(in super::super) struct Seen(HashMap<[u8; 32], u32>);

/// Makes a record of ours, or tells why it can't be kept.
pub(in super::super) fn record(
    log: Log,
    origin: &Origin,
    settings: &Settings<'_>,
    seen: &mut Seen,
) -> Result<LogRecord, &'static str> {
    if settings.capture == Capture::Off {
        return Err(reason::NO_LOGS);
    }
    let id = id(&log, origin, seen);
    let observed_us = credible(log.observed_ns, settings.now_us).unwrap_or(settings.now_us);
    let time_us = if log.time_ns == 0 { Some(observed_us) } else { credible(log.time_ns, settings.now_us) };
    let mut attributes = log.attributes;
    if time_us.is_none() {
        attributes.insert("brokle.clock.time_unix_nano".to_owned(), Value::String(log.time_ns.to_string()));
    }
    let (body, withheld) = match log.body {
        Value::Null => (String::new(), 0),
        _ if settings.capture != Capture::Full => (String::new(), 1),
        Value::String(text) => (cut(&text, MAX_BODY_BYTES).to_owned(), 0),
        other => (cut(&other.to_string(), MAX_BODY_BYTES).to_owned(), 0),
    };
    Ok(LogRecord {
        id,
        tenant: settings.tenant,
        time_us: time_us.unwrap_or(settings.now_us),
        observed_us,
        trace_id: log.trace_id.try_into().ok().and_then(|id| TraceId::from_bytes(id).ok()),
        span_id: log.span_id.try_into().ok().and_then(|id| SpanId::from_bytes(id).ok()),
        severity_number: u8::try_from(log.severity_number).ok().filter(|number| *number <= 24).unwrap_or(0),
        severity_text: cut(&log.severity_text, MAX_NAME).to_owned(),
        event_name: cut(&log.event_name, MAX_NAME).to_owned(),
        body,
        service: service(&origin.resource),
        attributes: keep::plain(attributes, settings.capture, withheld),
        resource: keep::plain(origin.resource.clone(), settings.capture, 0),
        scope: cut(&origin.scope_name, MAX_NAME).to_owned(),
    })
}

fn service(resource: &Attributes) -> String {
    let name = resource.get("service.name").and_then(Value::as_str).unwrap_or_default();
    cut(name, MAX_NAME).to_owned()
}

fn id(log: &Log, origin: &Origin, seen: &mut Seen) -> u128 {
    let numbers = (log.time_ns, log.observed_ns, log.severity_number, &log.trace_id, &log.span_id);
    let texts = (&log.severity_text, &log.event_name, &log.body, &log.attributes);
    let origin = (&origin.resource, &origin.scope_name, &origin.scope_version);
    // Values of these types are always JSON.
    let what = serde_json::to_vec(&(numbers, texts, origin)).unwrap_or_default();
    let hash: [u8; 32] = Sha256::digest(&what).into();
    let before = seen.0.entry(hash).or_default();
    let mut full = Sha256::new();
    full.update(hash);
    full.update(before.to_le_bytes());
    *before += 1;
    let full: [u8; 32] = full.finalize().into();
    full.first_chunk().map_or(0, |bytes| u128::from_be_bytes(*bytes))
}
