//! `ExportTraceServiceRequest`, and what it has in common with those of logs and metrics, as JSON: read leniently and span by
//! span.
//!
//! What OTLP's JSON form says: ids are hexadecimal in any case, names are lowerCamelCase, 64-bit numbers may be strings,
//! unknown members are ignored. Understood beyond it, since senders do so: `null` for what isn't there, enums by name or
//! as strings, whole numbers written as floats, `"NaN"` and `"Infinity"`.
//!
//! Each span is cut out as text first and parsed alone, so that what is wrong in one stays there. What holds them
//! together must be well-formed JSON.

pub(super) mod logs;
mod loose;
pub(super) mod metrics;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer as _, IgnoredAny, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use self::loose::Loose;
use super::span::{
    Attributes, Budget, Event, Link, MAX_SPAN_BYTES, MAX_VALUE_DEPTH, Origin, Span, Status, reason,
};
use super::wire::Malformed;
use super::{Broken, Visit};

type Raw<'a> = Option<&'a RawValue>;
/// Why a span, or a part of it, is refused.
type Refusal = &'static str;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Resource<'a> {
    #[serde(borrow)]
    attributes: Raw<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Scope<'a> {
    #[serde(borrow)]
    name: Loose<'a>,
    #[serde(borrow)]
    version: Loose<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct JsonSpan<'a> {
    #[serde(borrow)]
    trace_id: Loose<'a>,
    #[serde(borrow)]
    span_id: Loose<'a>,
    #[serde(borrow)]
    parent_span_id: Loose<'a>,
    #[serde(borrow)]
    trace_state: Loose<'a>,
    #[serde(borrow)]
    name: Loose<'a>,
    #[serde(borrow)]
    kind: Loose<'a>,
    #[serde(borrow)]
    start_time_unix_nano: Loose<'a>,
    #[serde(borrow)]
    end_time_unix_nano: Loose<'a>,
    #[serde(borrow)]
    attributes: Raw<'a>,
    #[serde(borrow)]
    events: Raw<'a>,
    #[serde(borrow)]
    links: Raw<'a>,
    #[serde(borrow)]
    status: Raw<'a>,
    #[serde(borrow)]
    dropped_attributes_count: Loose<'a>,
    #[serde(borrow)]
    dropped_events_count: Loose<'a>,
    #[serde(borrow)]
    dropped_links_count: Loose<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct JsonStatus<'a> {
    #[serde(borrow)]
    code: Loose<'a>,
    #[serde(borrow)]
    message: Loose<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct JsonEvent<'a> {
    #[serde(borrow)]
    time_unix_nano: Loose<'a>,
    #[serde(borrow)]
    name: Loose<'a>,
    #[serde(borrow)]
    attributes: Raw<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct JsonLink<'a> {
    #[serde(borrow)]
    trace_id: Loose<'a>,
    #[serde(borrow)]
    span_id: Loose<'a>,
    #[serde(borrow)]
    attributes: Raw<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct KeyValue<'a> {
    #[serde(borrow)]
    key: Loose<'a>,
    #[serde(borrow)]
    value: Raw<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct AnyValue<'a> {
    #[serde(borrow)]
    string_value: Option<Cow<'a, str>>,
    #[serde(borrow)]
    bool_value: Loose<'a>,
    #[serde(borrow)]
    int_value: Loose<'a>,
    #[serde(borrow)]
    double_value: Loose<'a>,
    #[serde(borrow)]
    array_value: Raw<'a>,
    #[serde(borrow)]
    kvlist_value: Raw<'a>,
    #[serde(borrow)]
    bytes_value: Option<Cow<'a, str>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Values<'a> {
    #[serde(borrow)]
    values: Raw<'a>,
}

/// Hands each span over, or why it can't be decoded.
pub(super) fn decode(body: &[u8], visit: &mut Visit<'_>) -> Result<(), Broken> {
    items(body, ["resourceSpans", "scopeSpans", "spans"], &mut |origin, raw| visit(origin, span(raw)))
}

/// The members of an object, still to be understood.
type Members<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

/// Hands the text of each span, log record or metric over: the three requests hold them together in the same way, under
/// names of their own.
fn items(
    body: &[u8],
    [of_resources, of_scopes, of_items]: [&str; 3],
    visit: &mut dyn FnMut(&Origin, &RawValue) -> Result<(), Broken>,
) -> Result<(), Broken> {
    let request: Members<'_> = object(std::str::from_utf8(body).map_err(|_| Malformed::Utf8)?)?;
    each(request.get(of_resources).copied(), &mut |raw| {
        let group: Members<'_> = object(raw.get())?;
        let mut origin = Origin::default();
        if let Some(resource) = present(group.get("resource")) {
            let resource: Resource<'_> = object(resource.get())?;
            origin.resource =
                attributes(resource.attributes, &mut Budget::new(), 0).map_err(Broken::Resource)?;
        }
        each(group.get(of_scopes).copied(), &mut |raw| {
            let group: Members<'_> = object(raw.get())?;
            let scope = present(group.get("scope")).map(|raw| object::<Scope<'_>>(raw.get())).transpose()?;
            let scope = scope.unwrap_or_default();
            (origin.scope_name, origin.scope_version) = (scope.name.text(), scope.version.text());
            each(group.get(of_items).copied(), &mut |raw| visit(&origin, raw))?
        })?
    })?
}

/// A member that is there and says something.
fn present<'a>(member: Option<&&'a RawValue>) -> Raw<'a> {
    member.copied().filter(|raw| raw.get() != "null")
}

/// Calls `with` for each element, until it fails. Nothing is collected: a list of many small things stays text.
fn each<'a, E>(
    list: Raw<'a>,
    with: &mut dyn FnMut(&'a RawValue) -> Result<(), E>,
) -> serde_json::Result<Result<(), E>> {
    struct Elements<'f, 'a, E>(&'f mut dyn FnMut(&'a RawValue) -> Result<(), E>);
    impl<'a, E> Visitor<'a> for Elements<'_, 'a, E> {
        type Value = Result<(), E>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("a list")
        }

        fn visit_unit<D>(self) -> Result<Self::Value, D> {
            Ok(Ok(()))
        }

        fn visit_seq<A: SeqAccess<'a>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            while let Some(element) = list.next_element()? {
                if let Err(error) = (self.0)(element) {
                    while list.next_element::<IgnoredAny>()?.is_some() {}
                    return Ok(Err(error));
                }
            }
            Ok(Ok(()))
        }
    }
    match list {
        Some(list) => list.deserialize_any(Elements(with)),
        None => Ok(Ok(())),
    }
}

/// The same within a span, where everything that is wrong is a refusal.
fn elements<'a>(
    list: Raw<'a>,
    with: &mut dyn FnMut(&'a RawValue) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    each(list, with).map_err(|_| reason::MALFORMED)?
}

/// Reads an object. A list isn't one, although serde would take its elements for the members in their order.
fn object<'a, T: Deserialize<'a>>(text: &'a str) -> serde_json::Result<T> {
    if text.trim_start().starts_with('[') {
        return Err(de::Error::custom("an object is expected"));
    }
    serde_json::from_str(text)
}

/// The same within a span.
fn parse<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Result<T, Refusal> {
    object(raw.get()).map_err(|_| reason::MALFORMED)
}

/// The same for what needn't be there.
fn optional<'a, T: Deserialize<'a> + Default>(raw: Raw<'a>) -> Result<T, Refusal> {
    raw.map(parse).transpose().map(Option::unwrap_or_default)
}

fn span(raw: &RawValue) -> Result<Span, Refusal> {
    if raw.get().len() > MAX_SPAN_BYTES {
        return Err(reason::TOO_LARGE);
    }
    let json: JsonSpan<'_> = parse(raw)?;
    let mut budget = Budget::new();
    let status: JsonStatus<'_> = optional(json.status)?;
    let mut span = Span {
        trace_id: hex(&json.trace_id).ok_or(reason::TRACE_ID)?,
        span_id: hex(&json.span_id).ok_or(reason::SPAN_ID)?,
        // A span without its parent is worth more than no span.
        parent_span_id: hex(&json.parent_span_id).unwrap_or_default(),
        trace_state: json.trace_state.text(),
        name: json.name.text(),
        kind: json.kind.name_of(&KINDS),
        start_ns: json.start_time_unix_nano.number(),
        end_ns: json.end_time_unix_nano.number(),
        attributes: attributes(json.attributes, &mut budget, 0)?,
        events: Vec::new(),
        links: Vec::new(),
        status: Status { code: status.code.name_of(&STATUSES), message: status.message.text() },
        dropped: [json.dropped_attributes_count, json.dropped_events_count, json.dropped_links_count]
            .iter()
            .fold(0, |sum: u64, count| sum.saturating_add(count.number())),
    };
    elements(json.events, &mut |raw| {
        spend(&mut budget)?;
        let event: JsonEvent<'_> = parse(raw)?;
        span.events.push(Event {
            time_ns: event.time_unix_nano.number(),
            name: event.name.text(),
            attributes: attributes(event.attributes, &mut budget, 0)?,
        });
        Ok(())
    })?;
    elements(json.links, &mut |raw| {
        spend(&mut budget)?;
        let link: JsonLink<'_> = parse(raw)?;
        span.links.push(Link {
            trace_id: hex(&link.trace_id).unwrap_or_default(),
            span_id: hex(&link.span_id).unwrap_or_default(),
            attributes: attributes(link.attributes, &mut budget, 0)?,
        });
        Ok(())
    })?;
    Ok(span)
}

const KINDS: [&str; 6] = [
    "SPAN_KIND_UNSPECIFIED",
    "SPAN_KIND_INTERNAL",
    "SPAN_KIND_SERVER",
    "SPAN_KIND_CLIENT",
    "SPAN_KIND_PRODUCER",
    "SPAN_KIND_CONSUMER",
];
const STATUSES: [&str; 3] = ["STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR"];

const fn spend(budget: &mut Budget) -> Result<(), Refusal> {
    if budget.take() { Ok(()) } else { Err(reason::TOO_MANY_VALUES) }
}

fn attributes(list: Raw<'_>, budget: &mut Budget, depth: usize) -> Result<Attributes, Refusal> {
    let mut attributes = Attributes::new();
    elements(list, &mut |raw| {
        spend(budget)?;
        let pair: KeyValue<'_> = parse(raw)?;
        attributes.insert(pair.key.text(), value(pair.value, budget, depth)?);
        Ok(())
    })?;
    Ok(attributes)
}

fn value(raw: Raw<'_>, budget: &mut Budget, depth: usize) -> Result<Value, Refusal> {
    if depth > MAX_VALUE_DEPTH {
        return Err(reason::TOO_DEEP);
    }
    let Some(raw) = raw else { return Ok(Value::Null) };
    let any: AnyValue<'_> = parse(raw)?;
    if let Some(text) = any.string_value.or(any.bytes_value) {
        return Ok(Value::String(text.into_owned()));
    }
    if let Some(raw) = any.array_value {
        let list: Values<'_> = parse(raw)?;
        let mut values = Vec::new();
        elements(list.values, &mut |raw| {
            spend(budget)?;
            values.push(value(Some(raw), budget, depth + 1)?);
            Ok(())
        })?;
        return Ok(Value::Array(values));
    }
    if let Some(raw) = any.kvlist_value {
        let list: Values<'_> = parse(raw)?;
        let members = attributes(list.values, budget, depth + 1)?;
        return Ok(Value::Object(members.into_iter().collect()));
    }
    Ok(match (&any.bool_value, &any.int_value, &any.double_value) {
        (Loose::Flag(flag), _, _) => Value::Bool(*flag),
        (_, Loose::Nothing, Loose::Nothing) => Value::Null,
        (_, Loose::Nothing, number) => number.double(),
        (_, number, _) => number.integer().map_or_else(|| number.double(), Value::from),
    })
}

/// The id's bytes: none at all for no id, `None` for what isn't hexadecimal.
fn hex(id: &Loose<'_>) -> Option<Vec<u8>> {
    let text = id.text();
    // No id is longer; what is refused needn't be decoded.
    if text.len() % 2 == 1 || text.len() > 64 {
        return None;
    }
    let digit = |digit: u8| char::from(digit).to_digit(16);
    let byte = |pair: &[u8]| match pair {
        [high, low] => u8::try_from(digit(*high)? << 4 | digit(*low)?).ok(),
        _ => None,
    };
    text.as_bytes().chunks(2).map(byte).collect()
}
