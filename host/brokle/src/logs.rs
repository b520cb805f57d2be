//! The log: one line per event on standard error, JSON for machines, pretty for people.
//!
//! JSON lines carry the fields of the request's span (`request_id`, `trace_id`, `organization_id`, …) under `span`. A
//! panic is logged with its place like any other error.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

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
        builder.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init()
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
