//! The log: one line per event on standard error, JSON for machines, pretty for people.
//!
//! JSON lines carry the fields of the request's span (`request_id`, `trace_id`, `organization_id`, …) under `span`. A
//! panic is logged with its place like any other error.

use std::fmt;
use std::io::{self, IsTerminal};
use std::mem;

use serde::{Serialize, Serializer};
use tracing::field::{Field, Visit};
use tracing::span::Record;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FormatFields, FormattedFields};

use crate::config::{LogFormat, Logs};

/// For a request's fields, in bytes.
const ROOM: usize = 256;

/// Starts the log.
///
/// # Errors
/// When `logs.level` can't be read, in words that name it.
pub(crate) fn start(logs: &Logs) -> Result<(), String> {
    let filter = EnvFilter::builder().parse(&logs.level).map_err(|error| format!("logs.level: {error}"))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let is_pretty = match logs.format {
        LogFormat::Json => false,
        LogFormat::Pretty => true,
        LogFormat::Auto => io::stderr().is_terminal(),
    };
    let started = if is_pretty {
        builder.with_ansi(io::stderr().is_terminal()).try_init()
    } else {
        let builder = builder.json().flatten_event(true).with_current_span(true).with_span_list(false);
        builder.fmt_fields(SpanFields).try_init()
    };
    started.map_err(|error| format!("the log can't be started: {error}"))?;
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        tracing::error!(place, panic = text, "panicked");
    }));
    Ok(())
}

/// A span's fields as the JSON log reads them again for a line: one object. Most requests cause no line, so they are written with
/// nothing between; `JsonFields` makes a tree first, and anew for each field that is recorded later.
#[derive(Debug)]
struct SpanFields;

impl<'writer> FormatFields<'writer> for SpanFields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, fields: R) -> fmt::Result {
        writer.write_str(&Members::of(String::new()).with(fields)?)
    }

    fn add_fields(&self, current: &'writer mut FormattedFields<Self>, fields: &Record<'_>) -> fmt::Result {
        current.fields = Members::of(mem::take(&mut current.fields)).with(fields)?;
        Ok(())
    }
}

/// An object's members, in the order in which they were recorded. Who reads it takes the last one of a name.
struct Members {
    json: Vec<u8>,
    failed: bool,
}

impl Members {
    /// Those of an object, or none.
    fn of(object: String) -> Self {
        let mut json = object.into_bytes();
        if json.pop().is_none() {
            json.reserve(ROOM);
            json.push(b'{');
        }
        Self { json, failed: false }
    }

    /// The object with these, too.
    fn with(mut self, fields: impl RecordFields) -> Result<String, fmt::Error> {
        fields.record(&mut self);
        self.json.push(b'}');
        match String::from_utf8(self.json) {
            Ok(object) if !self.failed => Ok(object),
            _ => Err(fmt::Error),
        }
    }

    fn member(&mut self, field: &Field, value: impl Serialize) {
        if self.json.len() > 1 {
            self.json.push(b',');
        }
        let mut write = || {
            serde_json::to_writer(&mut self.json, field.name())?;
            self.json.push(b':');
            serde_json::to_writer(&mut self.json, &value)
        };
        self.failed |= write().is_err();
    }
}

impl Visit for Members {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.member(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.member(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.member(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.member(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.member(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.member(field, Shown(value));
    }
}

/// Its text, as a string.
struct Shown<'a>(&'a dyn fmt::Debug);

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:?}", self.0))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn fields_that_are_recorded_later_stand_beside_the_others() {
        let lines = Lines::default();
        let writer = lines.clone();
        let builder =
            tracing_subscriber::fmt().with_writer(move || writer.clone()).json().flatten_event(true);
        let builder = builder.with_current_span(true).with_span_list(false).fmt_fields(SpanFields);
        tracing::subscriber::with_default(builder.finish(), || {
            use tracing::field::Empty;
            let full =
                tracing::info_span!("request", request_id = "a\"}", n = 7, project = Empty, key = Empty);
            full.record("project", "p{\"");
            tracing::record_all!(full, key = ?"k", project = "last");
            full.in_scope(|| tracing::info!("one"));
            let bare = tracing::info_span!("request", project = Empty);
            bare.in_scope(|| tracing::info!("two"));
            bare.record("project", "p");
            bare.in_scope(|| tracing::info!("three"));
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let spans: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["span"].take())
            .collect();
        let expected = [
            serde_json::json!({ "name": "request", "request_id": "a\"}", "n": 7, "project": "last", "key": "\"k\"" }),
            serde_json::json!({ "name": "request" }),
            serde_json::json!({ "name": "request", "project": "p" }),
        ];
        assert_eq!(spans, expected);
    }
}
