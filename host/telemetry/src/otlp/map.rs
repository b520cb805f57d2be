//! From a span to an [`Observation`]. What is found where is said in [`table`]; here is what is made of it.
//!
//! - **Kind** decides what counts: only calls to models (generation, embedding, image, audio, moderation, rerank) have
//!   tokens and cost. An agent's or chain's span that repeats its children's sums keeps them as attributes.
//! - **What is used moves**: into the observation's fields, out of its attributes. What isn't stays an attribute, up to
//!   [`MAX_ATTRIBUTE_BYTES`]; events, links, the process and the instrumentation too, under `otel.*`.
//! - **Content** (input, output) is kept if the project captures it, up to [`MAX_BODY_BYTES`] each. Otherwise only
//!   attributes stay that are known to hold none.
//! - **Clocks**: a span that began more than [`MAX_PAST`] ago or [`MAX_FUTURE`] ahead is filed under the time of its
//!   arrival, and one that ends before it begins has no duration; `brokle.clock.*` says so.

mod content;
mod keep;
pub(super) mod logs;
pub(super) mod metrics;
mod places;
mod table;
mod usage;

use std::borrow::Cow;
use std::time::Duration;

use brokle_core::observation::{Kind, Observation, SpanId, Status, TraceId};
use brokle_core::tenancy::Capture;
use chrono::DateTime;
use serde_json::Value;

pub use self::content::MAX_BODY_BYTES;
pub use self::keep::MAX_ATTRIBUTE_BYTES;
use self::places::{Places, cut};
use self::table::Moment;
use super::Settings;
use super::span::{Origin, Span, reason};

/// A span may have begun this long ago.
pub const MAX_PAST: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// A span may begin this far ahead: clocks differ, and so do time zones that somebody took for UTC.
pub const MAX_FUTURE: Duration = Duration::from_secs(24 * 60 * 60);

/// Bytes of a name, a user, a session, a model and the like.
const MAX_NAME: usize = 512;
/// Bytes of an error's message.
const MAX_MESSAGE: usize = 4 * 1024;
/// Tags of an observation.
const MAX_TAGS: usize = 50;

/// Makes an observation of a span, or tells why it can't be kept.
pub(super) fn observation(
    mut span: Span,
    origin: &Origin,
    settings: &Settings<'_>,
) -> Result<Observation, &'static str> {
    let trace_id = <[u8; 16]>::try_from(span.trace_id.as_slice()).map_err(|_| reason::TRACE_ID)?;
    let trace_id = TraceId::from_bytes(trace_id).map_err(|_| reason::TRACE_ID)?;
    let span_id = <[u8; 8]>::try_from(span.span_id.as_slice()).map_err(|_| reason::SPAN_ID)?;
    let span_id = SpanId::from_bytes(span_id).map_err(|_| reason::SPAN_ID)?;

    let mut places = Places {
        attributes: std::mem::take(&mut span.attributes),
        resource: &origin.resource,
        events: std::mem::take(&mut span.events),
    };
    let kind = kind(&places);
    let start_us = start(&span, settings, &mut places);
    let mut made = Observation::new(settings.tenant, trace_id, span_id, kind, start_us);
    made.parent_span_id =
        <[u8; 8]>::try_from(span.parent_span_id.as_slice()).ok().and_then(|id| SpanId::from_bytes(id).ok());
    made.key_id = Some(settings.key_id);
    made.duration_us = span.end_ns.saturating_sub(span.start_ns) / 1_000;
    let name = places.text(table::NAME, MAX_NAME).unwrap_or_else(|| cut(&span.name, MAX_NAME).to_owned());
    if !name.is_empty() {
        made.name = Cow::Owned(name);
    }
    made.operation = places.text(table::OPERATION, MAX_NAME).map(Cow::Owned).unwrap_or_default();
    made.streaming = streaming(&mut places);
    made.first_token_us = first_token(&mut places, span.start_ns);
    called(&mut made, &mut places, settings);
    who(&mut made, &mut places);
    outcome(&mut made, &mut places, &span);
    for (name, sources) in table::KEPT_AS {
        if let Some(text) = places.text(sources, MAX_NAME) {
            places.attributes.insert((*name).to_owned(), Value::String(text));
        }
    }
    content::take(&mut made, &mut places, settings.capture);
    if settings.capture == Capture::Off {
        // What the gateway keeps of a call of its own: only what limits and billing need.
        (made.user, made.session, made.error_message) = (None, None, None);
        made.tags.clear();
    } else {
        made.attributes = keep::attributes(places, origin, &span, settings.capture);
    }
    Ok(made)
}

fn kind(places: &Places<'_>) -> Kind {
    let said = table::KIND.iter().find_map(|(attribute, kinds)| {
        let said = places.attributes.get(*attribute)?.as_str()?;
        kinds.iter().find(|(name, _)| name.eq_ignore_ascii_case(said)).map(|(_, kind)| *kind)
    });
    let present = || {
        let any = |names: &[&str]| names.iter().any(|name| places.attributes.contains_key(*name));
        table::KIND_BY_PRESENCE.iter().find(|(names, _)| any(names)).map(|(_, kind)| *kind)
    };
    said.or_else(present).unwrap_or(Kind::Span)
}

/// When it began, in microseconds, as far as its clock can be believed.
fn start(span: &Span, settings: &Settings<'_>, places: &mut Places<'_>) -> i64 {
    if span.end_ns < span.start_ns {
        places.attributes.insert("brokle.clock.end_before_start".to_owned(), Value::Bool(true));
    }
    if let Some(start_us) = credible(span.start_ns, settings.now_us) {
        return start_us;
    }
    let said = Value::String(span.start_ns.to_string());
    places.attributes.insert("brokle.clock.start_time_unix_nano".to_owned(), said);
    settings.now_us
}

/// A time in microseconds, if a clock can be right that says so now.
pub(super) fn credible(nanos: u64, now_us: i64) -> Option<i64> {
    let time_us = i64::try_from(nanos / 1_000).unwrap_or(i64::MAX);
    let micros = |duration: Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    let (past, future) = (now_us.saturating_sub(micros(MAX_PAST)), now_us.saturating_add(micros(MAX_FUTURE)));
    (past..=future).contains(&time_us).then_some(time_us)
}

fn streaming(places: &mut Places<'_>) -> bool {
    let operation = places.attributes.get("ai.operationId").and_then(Value::as_str);
    if operation.is_some_and(|id| id.starts_with("ai.stream")) {
        return true;
    }
    let flag = places.take(table::STREAMING, |value| match value {
        Value::Bool(flag) => Some(*flag),
        Value::String(text) if text.eq_ignore_ascii_case("true") => Some(true),
        Value::String(text) if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    });
    flag.unwrap_or(false)
}

/// From the beginning to the first token, in microseconds; the attribute that said it moves.
fn first_token(places: &mut Places<'_>, start_ns: u64) -> Option<u64> {
    let since = |time_ns: u64| time_ns.checked_sub(start_ns).map(|nanos| nanos / 1_000);
    let scaled = |value: &Value, micros: f64| {
        let micros = number(value)? * micros;
        // Up to a year: anything else is a mistake of units.
        (0.0..=3.2e13).contains(&micros).then_some(micros.round() as u64)
    };
    table::FIRST_TOKEN.iter().find_map(|moment| match *moment {
        Moment::Seconds(name) => places.take(&[name], |value| scaled(value, 1e6)),
        Moment::Milliseconds(name) => places.take(&[name], |value| scaled(value, 1e3)),
        Moment::Time(name) => places.take(&[name], |value| {
            let time = DateTime::parse_from_rfc3339(value.as_str()?.trim_matches('"')).ok()?;
            since(u64::try_from(time.timestamp_nanos_opt()?).ok()?)
        }),
        Moment::Event(name) => {
            places.events.iter().find(|event| event.name == name).and_then(|event| since(event.time_ns))
        }
    })
}

/// A number, also where it is written as a text.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok().filter(|number: &f64| number.is_finite()),
        _ => None,
    }
}

/// Provider, models, tokens, cost.
fn called(made: &mut Observation, places: &mut Places<'_>, settings: &Settings<'_>) {
    made.provider = places.kept_text(table::PROVIDER, MAX_NAME).map(|said| {
        let known = table::PROVIDERS.iter().find(|(name, _)| name.eq_ignore_ascii_case(&said));
        // Vercel's names have the API behind a dot: `openai.chat`.
        let bare = said.split('.').next().unwrap_or_default().to_ascii_lowercase();
        known.map_or_else(|| bare.as_str().into(), |(_, ours)| (*ours).into())
    });
    made.model_requested = places.text(table::MODEL_REQUESTED, MAX_NAME).map(Into::into);
    made.model_served = places.text(table::MODEL_SERVED, MAX_NAME).map(Into::into);
    made.finish_reason = places.first(table::FINISH_REASON, MAX_NAME).map(Cow::Owned);
    if matches!(
        made.kind,
        Kind::Generation | Kind::Embedding | Kind::Image | Kind::Audio | Kind::Moderation | Kind::Rerank
    ) {
        made.usage = usage::tokens(places);
        made.cost = usage::cost(places, made, settings.catalogue);
    }
}

fn who(made: &mut Observation, places: &mut Places<'_>) {
    made.user = places.text(table::USER, MAX_NAME).map(Into::into);
    made.session = places.text(table::SESSION, MAX_NAME).map(Into::into);
    made.tags = places.list(table::TAGS).iter().take(MAX_TAGS).map(|tag| cut(tag, MAX_NAME).into()).collect();
}

fn outcome(made: &mut Observation, places: &mut Places<'_>, span: &Span) {
    made.http_status = places.take(table::HTTP_STATUS, |value| {
        let status = u16::try_from(number(value)? as i64).ok()?;
        (100..=999).contains(&status).then_some(status)
    });
    let level = |name: &str| places.attributes.get(name).and_then(Value::as_str);
    let is_level_error = ["brokle.level", "langfuse.observation.level"]
        .into_iter()
        .find_map(level)
        .is_some_and(|level| level.eq_ignore_ascii_case("error"));
    if span.status.code != 2 && !is_level_error {
        return;
    }
    let class = places.text(table::ERROR_CLASS, MAX_NAME);
    let says = |word: &str| class.as_ref().is_some_and(|class| class.to_ascii_lowercase().contains(word));
    made.status = if says("timeout") {
        Status::Timeout
    } else if says("cancel") || says("abort") {
        Status::Aborted
    } else {
        Status::Error
    };
    made.error_class = class.map(Cow::Owned);
    let message = cut(&span.status.message, MAX_MESSAGE);
    made.error_message = if message.is_empty() {
        places.text(table::ERROR_MESSAGE, MAX_MESSAGE).map(Into::into)
    } else {
        Some(message.into())
    };
}
