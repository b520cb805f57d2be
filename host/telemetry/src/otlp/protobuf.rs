//! `ExportTraceServiceRequest`, and what it has in common with those of logs and metrics, in binary form. Numbers are those of
//! [opentelemetry-proto](https://github.com/open-telemetry/opentelemetry-proto), `trace/v1`, `common/v1`, `resource/v1`.
//!
//! What holds spans together (the request, a resource's spans, a scope's spans) has to be well formed, or the request is
//! refused: where one span ends and the next begins is unknown then. What is inside a span is that span's affair.

pub(super) mod logs;
pub(super) mod metrics;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::span::{
    Attributes, Budget, Event, Link, MAX_SPAN_BYTES, MAX_VALUE_DEPTH, Origin, Span, Status, double, reason,
};
use super::wire::{Field, Malformed, Message};
use super::{Broken, Visit};

/// Hands each span over, or why it can't be decoded.
pub(super) fn decode(body: &[u8], visit: &mut Visit<'_>) -> Result<(), Broken> {
    items(body, &mut |origin, bytes| visit(origin, span(bytes)))
}

/// Takes the bytes of a span, log record or metric.
type VisitItem<'a> = dyn FnMut(&Origin, &[u8]) -> Result<(), Broken> + 'a;

/// Hands the bytes of each span, log record or metric over: the three requests hold them together in the same way.
fn items(body: &[u8], visit: &mut VisitItem<'_>) -> Result<(), Broken> {
    let mut request = Message::new(body);
    while let Some((number, field)) = request.field()? {
        if let (1, Some(bytes)) = (number, field.bytes()) {
            of_resource(bytes, visit)?;
        }
    }
    Ok(())
}

fn of_resource(bytes: &[u8], visit: &mut VisitItem<'_>) -> Result<(), Broken> {
    // Fields may come in any order: first who speaks, then what is said.
    let mut origin = Origin::default();
    let mut first = Message::new(bytes);
    while let Some((number, field)) = first.field()? {
        if let (1, Some(bytes)) = (number, field.bytes()) {
            origin.resource = resource(bytes)?;
        }
    }
    let mut second = Message::new(bytes);
    while let Some((number, field)) = second.field()? {
        if let (2, Some(bytes)) = (number, field.bytes()) {
            of_scope(bytes, &mut origin, visit)?;
        }
    }
    Ok(())
}

fn of_scope(bytes: &[u8], origin: &mut Origin, visit: &mut VisitItem<'_>) -> Result<(), Broken> {
    (origin.scope_name, origin.scope_version) = Default::default();
    let mut first = Message::new(bytes);
    while let Some((number, field)) = first.field()? {
        if let (1, Some(bytes)) = (number, field.bytes()) {
            let mut scope = Message::new(bytes);
            while let Some((number, field)) = scope.field()? {
                match number {
                    1 => origin.scope_name = field.text()?.unwrap_or_default().to_owned(),
                    2 => origin.scope_version = field.text()?.unwrap_or_default().to_owned(),
                    _ => {}
                }
            }
        }
    }
    let mut second = Message::new(bytes);
    while let Some((number, field)) = second.field()? {
        if let (2, Some(bytes)) = (number, field.bytes()) {
            visit(origin, bytes)?;
        }
    }
    Ok(())
}

fn resource(bytes: &[u8]) -> Result<Attributes, Broken> {
    let (mut attributes, mut budget) = (Attributes::new(), Budget::new());
    let mut message = Message::new(bytes);
    while let Some((number, field)) = message.field()? {
        if let (1, Some(bytes)) = (number, field.bytes()) {
            key_value(bytes, &mut attributes, &mut budget, 0).map_err(Broken::Resource)?;
        }
    }
    Ok(attributes)
}

/// Why a span, or a part of it, is refused.
type Refusal = &'static str;

impl From<Malformed> for Refusal {
    fn from(_: Malformed) -> Self {
        reason::MALFORMED
    }
}

fn span(bytes: &[u8]) -> Result<Span, Refusal> {
    if bytes.len() > MAX_SPAN_BYTES {
        return Err(reason::TOO_LARGE);
    }
    let (mut span, mut budget) = (Span::default(), Budget::new());
    let mut message = Message::new(bytes);
    while let Some((number, field)) = message.field()? {
        match (number, field) {
            (1, Field::Bytes(id)) => span.trace_id = id.to_vec(),
            (2, Field::Bytes(id)) => span.span_id = id.to_vec(),
            (3, field) => span.trace_state = text(field)?,
            (4, Field::Bytes(id)) => span.parent_span_id = id.to_vec(),
            (5, field) => span.name = text(field)?,
            (6, Field::Varint(kind)) => span.kind = kind.cast_signed(),
            (7, Field::Fixed64(time)) => span.start_ns = time,
            (8, Field::Fixed64(time)) => span.end_ns = time,
            (9, Field::Bytes(bytes)) => key_value(bytes, &mut span.attributes, &mut budget, 0)?,
            (10 | 12 | 14, Field::Varint(dropped)) => span.dropped = span.dropped.saturating_add(dropped),
            (11, Field::Bytes(bytes)) => span.events.push(event(bytes, &mut budget)?),
            (13, Field::Bytes(bytes)) => span.links.push(link(bytes, &mut budget)?),
            (15, Field::Bytes(bytes)) => span.status = status(bytes)?,
            _ => {}
        }
    }
    Ok(span)
}

fn event(bytes: &[u8], budget: &mut Budget) -> Result<Event, Refusal> {
    spend(budget)?;
    let mut event = Event::default();
    let mut message = Message::new(bytes);
    while let Some((number, field)) = message.field()? {
        match number {
            1 => event.time_ns = field.fixed64().unwrap_or_default(),
            2 => event.name = text(field)?,
            3 => key_value(field.bytes().unwrap_or_default(), &mut event.attributes, budget, 0)?,
            _ => {}
        }
    }
    Ok(event)
}

fn link(bytes: &[u8], budget: &mut Budget) -> Result<Link, Refusal> {
    spend(budget)?;
    let mut link = Link::default();
    let mut message = Message::new(bytes);
    while let Some((number, field)) = message.field()? {
        let Some(bytes) = field.bytes() else { continue };
        match number {
            1 => link.trace_id = bytes.to_vec(),
            2 => link.span_id = bytes.to_vec(),
            4 => key_value(bytes, &mut link.attributes, budget, 0)?,
            _ => {}
        }
    }
    Ok(link)
}

fn status(bytes: &[u8]) -> Result<Status, Refusal> {
    let mut status = Status::default();
    let mut message = Message::new(bytes);
    while let Some((number, field)) = message.field()? {
        match number {
            2 => status.message = text(field)?,
            3 => status.code = field.varint().unwrap_or_default().cast_signed(),
            _ => {}
        }
    }
    Ok(status)
}

fn text(field: Field<'_>) -> Result<String, Refusal> {
    Ok(field.text()?.unwrap_or_default().to_owned())
}

const fn spend(budget: &mut Budget) -> Result<(), Refusal> {
    if budget.take() { Ok(()) } else { Err(reason::TOO_MANY_VALUES) }
}

fn key_value(bytes: &[u8], into: &mut Attributes, budget: &mut Budget, depth: usize) -> Result<(), Refusal> {
    let (mut key, mut held) = (String::new(), Value::Null);
    let mut message = Message::new(bytes);
    while let Some((number, field)) = message.field()? {
        match number {
            1 => key = text(field)?,
            2 => held = value(field.bytes().unwrap_or_default(), budget, depth)?,
            _ => {}
        }
    }
    spend(budget)?;
    into.insert(key, held);
    Ok(())
}

/// An `AnyValue`; null when it says nothing, or something of a later version.
fn value(bytes: &[u8], budget: &mut Budget, depth: usize) -> Result<Value, Refusal> {
    if depth > MAX_VALUE_DEPTH {
        return Err(reason::TOO_DEEP);
    }
    let mut value = Value::Null;
    let mut message = Message::new(bytes);
    while let Some((number, field)) = message.field()? {
        value = match (number, field) {
            (1, field) => Value::String(text(field)?),
            (2, Field::Varint(flag)) => Value::Bool(flag != 0),
            (3, Field::Varint(number)) => Value::from(number.cast_signed()),
            (4, Field::Fixed64(bits)) => double(f64::from_bits(bits)),
            (5, Field::Bytes(bytes)) => list(bytes, budget, depth)?,
            (6, Field::Bytes(bytes)) => map(bytes, budget, depth)?,
            (7, Field::Bytes(bytes)) => Value::String(STANDARD.encode(bytes)),
            _ => value,
        };
    }
    Ok(value)
}

fn list(bytes: &[u8], budget: &mut Budget, depth: usize) -> Result<Value, Refusal> {
    let mut values = Vec::new();
    let mut message = Message::new(bytes);
    while let Some((number, field)) = message.field()? {
        if let (1, Some(bytes)) = (number, field.bytes()) {
            spend(budget)?;
            values.push(value(bytes, budget, depth + 1)?);
        }
    }
    Ok(Value::Array(values))
}

fn map(bytes: &[u8], budget: &mut Budget, depth: usize) -> Result<Value, Refusal> {
    let mut members = Attributes::new();
    let mut message = Message::new(bytes);
    while let Some((number, field)) = message.field()? {
        if let (1, Some(bytes)) = (number, field.bytes()) {
            key_value(bytes, &mut members, budget, depth + 1)?;
        }
    }
    Ok(Value::Object(members.into_iter().collect()))
}
