//! From an observation to spans.
//!
//! | observation | span |
//! |---|---|
//! | `trace_id`, `span_id`, `parent_span_id`, `name` | the same |
//! | `start_time`, `duration_ms` | start and end |
//! | `type` | kind `CLIENT` for calls to a model, else `INTERNAL`; `brokle.type` |
//! | `status`, `error` | status `ERROR` with the message; `error.type` |
//! | `operation`, `provider`, `model`, `model_served`, `finish_reason` | `gen_ai.operation.name`, `gen_ai.provider.name`, `gen_ai.request.model`, `gen_ai.response.model`, `gen_ai.response.finish_reasons` |
//! | `usage` | `gen_ai.usage.input_tokens`, `.output_tokens`, `.cache_read.input_tokens`, `.cache_creation.input_tokens`; `brokle.usage.reasoning_tokens` |
//! | `cost`, `time_to_first_token_ms`, `streaming`, `request_id`, `environment_id` | `brokle.cost` and so on |
//! | `session`, `user`, `tags`, `status_code` | `gen_ai.conversation.id`, `user.id`, `brokle.tags`, `http.response.status_code` |
//! | `input`, `output` | `brokle.input`, `brokle.output`: the JSON as it was captured |
//! | `attributes` | the same, where none of the above has the name |
//! | `children` | spans of their own |

use brokle_plugin::exporter::Observation;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// OTLP's kinds of spans.
const INTERNAL: u8 = 1;
const CLIENT: u8 = 3;

/// A span, in OTLP's terms.
#[derive(Debug)]
pub(crate) struct Span {
    pub(crate) trace_id: String,
    pub(crate) span_id: String,
    pub(crate) parent_span_id: Option<String>,
    pub(crate) name: String,
    pub(crate) kind: u8,
    pub(crate) start_ns: u64,
    pub(crate) end_ns: u64,
    pub(crate) attributes: Map<String, Value>,
    /// What went wrong; none when nothing did.
    pub(crate) error: Option<String>,
}

/// Adds an observation's span, and those of what happened inside.
pub(crate) fn collect(observation: Observation, content: bool, spans: &mut Vec<Span>) {
    let start_ns = nanoseconds(&observation.start_time).unwrap_or_default();
    let duration_ns = (observation.duration_ms.clamp(0.0, 1e15) * 1e6).round() as u64;
    let is_call = matches!(
        observation.kind.as_str(),
        "generation" | "embedding" | "image" | "audio" | "moderation" | "rerank"
    );
    let failed = observation.status != "ok";
    let message = observation.error.as_ref().and_then(|error| error.message.clone());
    let attributes = attributes(&observation, content);
    let Observation { trace_id, span_id, parent_span_id, name, status, children, .. } = observation;
    spans.push(Span {
        trace_id,
        span_id,
        parent_span_id,
        name,
        kind: if is_call { CLIENT } else { INTERNAL },
        start_ns,
        end_ns: start_ns.saturating_add(duration_ns),
        attributes,
        error: failed.then(|| message.unwrap_or(status)),
    });
    for child in children {
        collect(child, content, spans);
    }
}

fn attributes(observation: &Observation, content: bool) -> Map<String, Value> {
    let mut found = observation.attributes.clone();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value.filter(|value| !value.is_null()) {
            found.insert(name.to_owned(), value);
        }
    };
    let text = |text: &Option<String>| text.clone().map(Value::String);
    let usage = |of: &str| observation.usage.as_ref().and_then(|usage| usage.get(of)).cloned();
    let some_usage = |of: &str| usage(of).filter(|count| count.as_u64() != Some(0));
    let body = |body: &Option<Box<RawValue>>| {
        body.as_ref().filter(|_| content).map(|body| Value::String(body.get().to_owned()))
    };
    put("brokle.type", Some(observation.kind.clone().into()));
    put("gen_ai.operation.name", text(&observation.operation));
    put("gen_ai.provider.name", text(&observation.provider));
    put("gen_ai.request.model", text(&observation.model));
    put("gen_ai.response.model", text(&observation.model_served));
    put(
        "gen_ai.response.finish_reasons",
        observation.finish_reason.clone().map(|reason| vec![reason].into()),
    );
    put("gen_ai.usage.input_tokens", usage("input"));
    put("gen_ai.usage.output_tokens", usage("output"));
    put("gen_ai.usage.cache_read.input_tokens", some_usage("cached_read"));
    put("gen_ai.usage.cache_creation.input_tokens", some_usage("cache_write"));
    put("brokle.usage.reasoning_tokens", some_usage("reasoning"));
    put("brokle.cost", text(&observation.cost));
    put("brokle.time_to_first_token_ms", observation.time_to_first_token_ms.map(Value::from));
    put("brokle.streaming", observation.streaming.then_some(Value::Bool(true)));
    put("brokle.request_id", text(&observation.request_id));
    put("brokle.environment_id", Some(observation.environment_id.clone().into()));
    put("gen_ai.conversation.id", text(&observation.session));
    put("user.id", text(&observation.user));
    put("brokle.tags", Some(observation.tags.clone().into()).filter(|_| !observation.tags.is_empty()));
    put("http.response.status_code", observation.status_code.map(Value::from));
    put("error.type", observation.error.as_ref().and_then(|error| text(&error.class)));
    put("brokle.input", body(&observation.input));
    put("brokle.output", body(&observation.output));
    found
}

/// Nanoseconds since 1970 of `2026-01-31T12:00:00.123456Z`.
fn nanoseconds(time: &str) -> Option<u64> {
    let (date, clock) = time.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.splitn(3, '-').map(|digits| digits.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let mut clock = clock.splitn(3, ':').map(|digits| digits.parse::<i64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let fraction: u64 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    // Days since 1970 by the proleptic Gregorian calendar, in years that begin in March.
    let shifted = if month > 2 { year } else { year - 1 };
    let (era, of_era) = (shifted.div_euclid(400), shifted.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    let seconds = u64::try_from(((days * 24 + hour) * 60 + minute) * 60 + second).ok()?;
    seconds.checked_mul(1_000_000_000)?.checked_add(fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        for (text, seconds, fraction) in [
            ("1970-01-01T00:00:00Z", 0, 0),
            ("2026-01-01T00:00:00.000000Z", 1_767_225_600, 0),
            ("2024-02-29T23:59:59.123456Z", 1_709_251_199, 123_456_000),
            ("2000-03-01T00:00:00.5Z", 951_868_800, 500_000_000),
        ] {
            assert_eq!(nanoseconds(text), Some(seconds * 1_000_000_000 + fraction), "{text}");
        }
        for wrong in ["", "2026-01-01", "2026-01-01T00:00:00+01:00", "1969-12-31T23:59:59Z", "x-y-zT1:2:3Z"] {
            assert_eq!(nanoseconds(wrong), None, "{wrong}");
        }
    }
}
