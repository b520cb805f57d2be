//! What real instrumentations send, and what becomes of it.
//!
//! `fixtures/NAME-VERSION.pb` (or `.json`) is the body that this version of the library sent to `/v1/traces` for the same
//! four calls of OpenAI's client against a mock: plain, with a tool, streamed, an embedding. `NAME-VERSION.txt` is what we
//! make of it; when the mapping changes on purpose, `BROKLE_UPDATE=1` writes it anew.

use std::fmt::Write as _;

use brokle_core::observation::Observation;
use brokle_core::tenancy::Capture;

use super::super::{Encoding, Signal, decode};
use super::harness::settings;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/otlp/tests/fixtures");

/// Every field that isn't empty, a line each; ids are left out, since they differ from capture to capture.
fn shown(observation: &Observation) -> String {
    let mut text = format!("{} {:?}\n", observation.kind, observation.name);
    let mut line = |name: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            let _ = writeln!(text, "  {name}: {value}");
        }
    };
    line("operation", Some(observation.operation.to_string()));
    line("provider", observation.provider.as_deref().map(str::to_owned));
    line("model", observation.model_requested.as_deref().map(str::to_owned));
    line("served", observation.model_served.as_deref().map(str::to_owned));
    line(
        "usage",
        observation.usage.map(|usage| {
            let counts = usage.counts().into_iter().filter(|(_, count)| *count > 0);
            counts.map(|(kind, count)| format!("{kind}={count}")).collect::<Vec<_>>().join(" ")
        }),
    );
    line("cost", observation.cost.map(|cost| cost.to_string()));
    line("first token", observation.first_token_us.map(|_| "known".to_owned()));
    line("streaming", observation.streaming.then(|| "yes".to_owned()));
    line("finish", observation.finish_reason.as_deref().map(str::to_owned));
    line("status", (observation.status.as_str() != "ok").then(|| observation.status.to_string()));
    line("session", observation.session.as_deref().map(str::to_owned));
    line("user", observation.user.as_deref().map(str::to_owned));
    line("tags", Some(observation.tags.join(" ")));
    let body =
        |body: &Option<bytes::Bytes>| body.as_ref().map(|body| String::from_utf8_lossy(body).into_owned());
    line("input", body(&observation.input));
    line("output", body(&observation.output));
    for (name, value) in &observation.attributes {
        // The events' times differ.
        let value = if name == "otel.events" { "…".to_owned() } else { value.to_string() };
        line(name, Some(value));
    }
    text
}

#[test]
fn every_captured_body_becomes_what_is_written_beside_it() {
    let mut seen = 0;
    for entry in std::fs::read_dir(FIXTURES).unwrap() {
        let path = entry.unwrap().path();
        let encoding = match path.extension().and_then(|extension| extension.to_str()) {
            Some("pb") => Encoding::Protobuf,
            Some("json") => Encoding::Json,
            _ => continue,
        };
        seen += 1;
        let body = std::fs::read(&path).unwrap();
        let decoded = decode(Signal::Traces, encoding, &body, &settings(Capture::Full)).unwrap();
        assert_eq!(
            decoded.rejected.count(),
            0,
            "{}: {}",
            path.display(),
            decoded.rejected.message(Signal::Traces)
        );
        let mut spans = decoded.rows.observations;
        spans.sort_by_key(|span| (span.start_us, span.parent_span_id.is_some()));
        let text: String = spans.iter().map(shown).collect();
        let expected = path.with_extension("txt");
        if std::env::var_os("BROKLE_UPDATE").is_some() {
            std::fs::write(&expected, &text).unwrap();
        }
        let expected = std::fs::read_to_string(&expected).unwrap_or_default();
        assert!(text == expected, "{} becomes something else:\n{text}", path.display());

        let without = decode(Signal::Traces, encoding, &body, &settings(Capture::Metadata)).unwrap();
        for observation in without.rows.observations {
            let text = serde_json::to_string(&observation).unwrap();
            for content in ["sunny", "Be brief", "Paris", "Weather?", "0.1,0.2"] {
                assert!(!text.contains(content), "{}: {content} in {text}", path.display());
            }
            assert!(observation.input.is_none() && observation.output.is_none());
        }
    }
    assert!(seen >= 4, "the fixtures are there");
}
