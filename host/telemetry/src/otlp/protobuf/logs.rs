//! `ExportLogsServiceRequest` in its binary form; numbers are those of `logs/v1`.

use super::super::record::Log;
use super::super::span::{Budget, MAX_SPAN_BYTES, reason};
use super::super::wire::{Field, Message};
use super::super::{Broken, VisitLog};
use super::{Refusal, items, key_value, text, value};

/// Hands each record over, or why it can't be decoded.
pub(in super::super) fn decode(body: &[u8], visit: &mut VisitLog<'_>) -> Result<(), Broken> {
    items(body, &mut |origin, bytes| visit(origin, record(bytes)))
}

fn record(bytes: &[u8]) -> Result<Log, Refusal> {
    if bytes.len() > MAX_SPAN_BYTES {
        return Err(reason::TOO_LARGE);
    }
    let (mut log, mut budget) = (Log::default(), Budget::new());
    let mut message = Message::new(bytes);
    while let Some((number, field)) = message.field()? {
        match (number, field) {
            (1, Field::Fixed64(time)) => log.time_ns = time,
            (2, Field::Varint(severity)) => log.severity_number = severity.cast_signed(),
            (3, field) => log.severity_text = text(field)?,
            (5, Field::Bytes(bytes)) => log.body = value(bytes, &mut budget, 0)?,
            (6, Field::Bytes(bytes)) => key_value(bytes, &mut log.attributes, &mut budget, 0)?,
            (9, Field::Bytes(id)) => log.trace_id = id.to_vec(),
            (10, Field::Bytes(id)) => log.span_id = id.to_vec(),
            (11, Field::Fixed64(time)) => log.observed_ns = time,
            (12, field) => log.event_name = text(field)?,
            _ => {}
        }
    }
    Ok(log)
}
