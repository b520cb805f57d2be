//! `ExportLogsServiceRequest` as JSON.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::record::Log;
use super::super::span::{Budget, MAX_SPAN_BYTES, reason};
use super::super::{Broken, VisitLog};
use super::{Loose, Raw, Refusal, attributes, hex, items, parse, value};

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct JsonLog<'a> {
    #[serde(borrow)]
    time_unix_nano: Loose<'a>,
    #[serde(borrow)]
    observed_time_unix_nano: Loose<'a>,
    #[serde(borrow)]
    severity_number: Loose<'a>,
    #[serde(borrow)]
    severity_text: Loose<'a>,
    #[serde(borrow)]
    body: Raw<'a>,
    #[serde(borrow)]
    attributes: Raw<'a>,
    #[serde(borrow)]
    trace_id: Loose<'a>,
    #[serde(borrow)]
    span_id: Loose<'a>,
    #[serde(borrow)]
    event_name: Loose<'a>,
}

/// Hands each record over, or why it can't be decoded.
pub(in super::super) fn decode(body: &[u8], visit: &mut VisitLog<'_>) -> Result<(), Broken> {
    items(body, ["resourceLogs", "scopeLogs", "logRecords"], &mut |origin, raw| visit(origin, record(raw)))
}

fn record(raw: &RawValue) -> Result<Log, Refusal> {
    if raw.get().len() > MAX_SPAN_BYTES {
        return Err(reason::TOO_LARGE);
    }
    let json: JsonLog<'_> = parse(raw)?;
    let mut budget = Budget::new();
    Ok(Log {
        time_ns: json.time_unix_nano.number(),
        observed_ns: json.observed_time_unix_nano.number(),
        severity_number: severity(&json.severity_number),
        severity_text: json.severity_text.text(),
        body: value(json.body, &mut budget, 0)?,
        attributes: attributes(json.attributes, &mut budget, 0)?,
        // A record without its trace is worth more than no record.
        trace_id: hex(&json.trace_id).unwrap_or_default(),
        span_id: hex(&json.span_id).unwrap_or_default(),
        event_name: json.event_name.text(),
    })
}

/// A number, or a name such as `SEVERITY_NUMBER_WARN2`.
fn severity(said: &Loose<'_>) -> i64 {
    const LEVELS: [&str; 6] = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"];
    let text = said.text();
    let Some(name) = text.strip_prefix("SEVERITY_NUMBER_") else { return said.name_of(&[]) };
    let (level, step) = match name.split_at_checked(name.len().saturating_sub(1)) {
        Some((level, step @ ("2" | "3" | "4"))) => (level, step.parse().unwrap_or(1)),
        _ => (name, 1),
    };
    let at = LEVELS.iter().position(|known| *known == level).and_then(|at| i64::try_from(at).ok());
    at.map_or(0, |at| at * 4 + step)
}
