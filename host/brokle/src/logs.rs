//! The log: one line per event on standard error, JSON for machines, pretty for people.
//!
//! JSON lines carry the fields of the request's span (`request_id`, `trace_id`, `organization_id`, …) under `span`. A
//! panic is logged with its place like any other error.

use std::fmt;
use std::io::{self, IsTerminal};

use tracing::span::Record;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::{FormatFields, FormattedFields};

use crate::config::{LogFormat, Logs};

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
        builder.fmt_fields(SpanFields::default()).try_init()
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

/// A span's fields as [`JsonFields`] writes them. A field that is recorded later is written behind those that are there, which
/// [`JsonFields`] reads and writes anew for each: a request has four such, and most cause no line.
#[derive(Debug, Default)]
struct SpanFields(JsonFields);

impl<'writer> FormatFields<'writer> for SpanFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        self.0.format_fields(writer, fields)
    }

    fn add_fields(&self, current: &'writer mut FormattedFields<Self>, fields: &Record<'_>) -> fmt::Result {
        let mut later = String::new();
        self.0.format_fields(Writer::new(&mut later), fields)?;
        let Some(members) = later.strip_prefix('{').filter(|members| *members != "}") else { return Ok(()) };
        if current.fields.pop().is_none() {
            current.fields = later;
            return Ok(());
        }
        if current.fields != "{" {
            current.fields.push(',');
        }
        current.fields.push_str(members);
        Ok(())
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
        let builder = builder.with_current_span(true).with_span_list(false).fmt_fields(SpanFields::default());
        tracing::subscriber::with_default(builder.finish(), || {
            use tracing::field::Empty;
            let full =
                tracing::info_span!("request", request_id = "a\"}", n = 7, project = Empty, key = Empty);
            full.record("project", "p{\"");
            full.record("key", tracing::field::display("k"));
            full.record("project", "last");
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
            serde_json::json!({ "name": "request", "request_id": "a\"}", "n": 7, "project": "last", "key": "k" }),
            serde_json::json!({ "name": "request" }),
            serde_json::json!({ "name": "request", "project": "p" }),
        ];
        assert_eq!(spans, expected);
    }
}
