//! Bounds, and bytes that nobody means.

use brokle_core::tenancy::Capture;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::{Coding, DecodeError, Encoding, MAX_SPANS, Signal, decode, inflate};
use super::harness::{attributes, read, request, settings, span};

#[test]
fn a_request_is_bounded_in_spans_and_in_memory() {
    let spans: Vec<Value> =
        (0..=MAX_SPANS).map(|n| span(json!({"spanId": format!("{:016x}", n + 1)}))).collect();
    assert_eq!(
        read(Encoding::Json, &request(&spans[..MAX_SPANS])).unwrap().rows.observations.len(),
        MAX_SPANS
    );
    assert!(matches!(read(Encoding::Json, &request(&spans)), Err(DecodeError::TooMuch(_))));
    let heavy = request(&spans[..100]);
    let settings = super::super::Settings { max_weight: 10_000, ..settings(Capture::Full) };
    assert!(matches!(
        decode(Signal::Traces, Encoding::Json, &heavy, &settings),
        Err(DecodeError::TooMuch(_))
    ));
}

#[test]
fn a_span_is_bounded_in_size_values_and_depth() {
    let mut deep = json!({"stringValue": "x"});
    for _ in 0..17 {
        deep = json!({"arrayValue": {"values": [deep]}});
    }
    let deepest = deep["arrayValue"]["values"][0].clone();
    let spans = [
        span(json!({"name": "large", "attributes": attributes(json!({"a": "x".repeat(8 << 20)}))})),
        span(
            json!({"name": "many", "attributes": [{"key": "a", "value": {"arrayValue": {"values": vec![json!({}); 50_001]}}}]}),
        ),
        span(json!({"name": "events", "events": vec![json!({}); 50_001]})),
        span(json!({"name": "deep", "attributes": [{"key": "a", "value": deep}]})),
        span(json!({"name": "fits", "attributes": [{"key": "a", "value": deepest}]})),
    ];
    let decoded = read(Encoding::Json, &request(&spans)).unwrap();
    let names: Vec<_> = decoded.rows.observations.iter().map(|observation| &*observation.name).collect();
    assert_eq!(names, ["fits"]);
    assert_eq!(
        decoded.rejected.message(Signal::Traces),
        "a value is nested deeper than 16 levels (1 span); it has more than 50000 values (2 spans); \
         it is larger than 8 MiB (1 span)"
    );
}

/// Bytes around what a sender sends: a good body with some bytes changed, cut or added.
fn nearly(body: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8);
    (changes, any::<prop::sample::Index>(), any::<bool>()).prop_map(move |(changes, at, cut)| {
        let mut body = body.clone();
        for (index, byte) in changes {
            let index = index.index(body.len());
            body[index] = byte;
        }
        if cut {
            body.truncate(at.index(body.len()));
        }
        body
    })
}

fn protobuf() -> Vec<u8> {
    include_bytes!("fixtures/opentelemetry-instrumentation-openai-0.62.4.pb").to_vec()
}

fn any_body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..2_000),
        nearly(protobuf()),
        nearly(include_bytes!("fixtures/ai-6.0.326.json").to_vec()),
        nearly(super::signals::logs()),
        nearly(super::signals::metrics()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_give_an_answer(body in any_body()) {
        for encoding in [Encoding::Protobuf, Encoding::Json] {
            if let Ok(decoded) = read(encoding, &body) {
                prop_assert!(decoded.rows.observations.len() as u64 + decoded.rejected.count() <= body.len() as u64);
                for observation in &decoded.rows.observations {
                    // What is stored can be read again: nothing is nested deeper than readers go.
                    let text = serde_json::to_string(observation).unwrap();
                    prop_assert!(serde_json::from_str::<Value>(&text).is_ok());
                }
            }
        }
        for signal in [Signal::Logs, Signal::Metrics] {
            for encoding in [Encoding::Protobuf, Encoding::Json] {
                let _ = decode(signal, encoding, &body, &settings(Capture::Full));
            }
        }
        for coding in [Coding::Gzip, Coding::Deflate, Coding::Zstd] {
            let _ = inflate(coding, &body, 1 << 20, &mut |_| true);
        }
    }

    #[test]
    fn the_same_body_is_the_same_observations(body in nearly(protobuf())) {
        if let (Ok(one), Ok(other)) = (read(Encoding::Protobuf, &body), read(Encoding::Protobuf, &body)) {
            prop_assert_eq!(one.rows, other.rows);
        }
    }
}
