//! JSON as senders write it, and spans that are wrong among spans that are right.

use brokle_core::observation::Observation;
use serde_json::{Value, json};

use super::super::wire::Writer;
use super::super::{DecodeError, Decoded, Encoding, Signal};
use super::harness::{START_NS, read, request, span};

fn json(body: &str) -> Result<Decoded, DecodeError> {
    read(Encoding::Json, body.as_bytes())
}

fn names(decoded: &Decoded) -> Vec<&str> {
    decoded.rows.observations.iter().map(|observation| &*observation.name).collect()
}

#[test]
fn an_empty_request_is_a_request() {
    for body in [
        "",
        "{}",
        "{\"resourceSpans\":null}",
        "{\"resourceSpans\":[]}",
        "{\"resourceSpans\":[{}]}",
        "{\"resourceSpans\":[{\"resource\":null,\"scopeSpans\":null}]}",
        "{\"later\":[1]}",
    ] {
        let decoded = json(body).unwrap();
        assert!(decoded.rows.observations.is_empty() && decoded.rejected.count() == 0, "{body}");
    }
    assert!(read(Encoding::Protobuf, b"").unwrap().rows.observations.is_empty());
}

#[test]
fn what_senders_write_is_understood() {
    let body = json!({ "resourceSpans": [{ "scopeSpans": [
        { "spans": [
            {
                "traceId": "5b8efff798038103d269b633813fc60c", "spanId": "EEE19B7EC3C1B174", "parentSpanId": "",
                "name": "numbers", "kind": "SPAN_KIND_SERVER", "startTimeUnixNano": START_NS,
                "endTimeUnixNano": (START_NS + 1_000_000) as f64, "flags": 257, "unknown": {"deep": [1]},
                "attributes": [
                    {"key": "int", "value": {"intValue": 3}}, {"key": "text", "value": {"intValue": "4"}},
                    {"key": "nan", "value": {"doubleValue": "NaN"}}, {"key": "inf", "value": {"doubleValue": "-Infinity"}},
                    {"key": "float", "value": {"doubleValue": 1}}, {"key": "none", "value": null}, {"key": "nothing"},
                    {"key": "later", "value": {"laterValue": 1}}, {"key": "bytes", "value": {"bytesValue": "aGk="}},
                    {"key": "list", "value": {"arrayValue": {"values": [{"stringValue": "x"}, {"boolValue": true}]}}},
                    {"key": "map", "value": {"kvlistValue": {"values": [{"key": "k", "value": {"stringValue": "v"}}]}}},
                    {"key": "empty", "value": {"arrayValue": {}}},
                ],
                "events": null, "links": null, "status": null, "droppedAttributesCount": "2", "droppedEventsCount": 1,
            },
        ]},
        { "scope": null, "spans": null },
    ]}]});
    let decoded = json(&body.to_string()).unwrap();
    assert_eq!((names(&decoded), decoded.rejected.message(Signal::Traces).as_str()), (vec!["numbers"], ""));
    let Observation { attributes, parent_span_id, duration_us, .. } = &decoded.rows.observations[0];
    assert_eq!((*parent_span_id, *duration_us), (None, 999));
    for (name, value) in [
        ("int", json!(3)),
        ("text", json!(4)),
        ("nan", json!("NaN")),
        ("inf", json!("-Infinity")),
        ("float", json!(1)),
        ("none", Value::Null),
        ("nothing", Value::Null),
        ("later", Value::Null),
        ("bytes", json!("aGk=")),
        ("list", json!(["x", true])),
        ("map", json!({"k": "v"})),
        ("empty", json!([])),
        ("otel.kind", json!("server")),
        ("otel.dropped", json!(3)),
    ] {
        assert_eq!(attributes[name], value, "{name}");
    }
}

#[test]
fn a_bad_span_costs_only_itself() {
    let good = |name: &str, id: &str| span(json!({"name": name, "spanId": id}));
    let bad = [
        json!({"traceId": "00000000000000000000000000000000"}),
        json!({"traceId": "abc"}),
        json!({"traceId": "zz8efff798038103d269b633813fc60c"}),
        json!({"traceId": null}),
        json!({"spanId": "é1234567890abcd"}),
        json!({"spanId": 7}),
        json!({"name": {"not": "a name"}}),
        json!({"attributes": "none"}),
        json!({"attributes": [7]}),
        json!({"attributes": [{"key": "a", "value": {"arrayValue": {"values": 7}}}]}),
        json!({"status": [1]}),
    ];
    let mut spans = vec![good("first", "0000000000000001")];
    spans.extend(bad.iter().map(|bad| span(bad.clone())));
    spans.extend([json!(7), json!(null), json!("x"), good("last", "0000000000000002")]);
    let decoded = read(Encoding::Json, &request(&spans)).unwrap();
    assert_eq!(names(&decoded), ["first", "last"]);
    assert_eq!(decoded.rejected.count(), bad.len() as u64 + 3);
    let message = decoded.rejected.message(Signal::Traces);
    assert!(message.contains("traceId must be 16 bytes, not all of them 0 (4 spans)"), "{message}");
}

#[test]
fn a_body_that_is_no_request_is_refused_without_a_word_of_it() {
    for body in [
        "{",
        "[]",
        "7",
        "nonsense",
        "{\"resourceSpans\":7}",
        "{\"resourceSpans\":[\"SECRET\"]}",
        "{\"resourceSpans\":[{\"scopeSpans\":{\"SECRET\":1}}]}",
        "{} trailing",
        "\u{feff}{}",
    ] {
        let error = json(body).map(|_| ()).unwrap_err();
        assert!(
            matches!(error, DecodeError::Malformed(_)) && !error.to_string().contains("SECRET"),
            "{body}: {error}"
        );
    }
    for body in [&b"{\"resourceSpans\":[]}"[..], b"\x0a\xff", b"\x0b", b"\xff\xff\xff\xff\xff\xff"] {
        assert!(matches!(read(Encoding::Protobuf, body), Err(DecodeError::Malformed(_))), "{body:?}");
    }
    assert!(matches!(read(Encoding::Json, b"\xff\xfe"), Err(DecodeError::Malformed(_))));
}

/// A span's bytes, with its name.
fn binary(name: &[u8], trace_id: &[u8]) -> Vec<u8> {
    Writer::default().bytes(1, trace_id).bytes(2, &[7; 8]).bytes(5, name).finish()
}

#[test]
fn a_bad_span_in_protobuf_costs_only_itself() {
    let spans = [
        binary(b"first", &[1; 16]),
        binary(b"\xff\xfe", &[2; 16]),
        binary(b"short id", &[3; 15]),
        vec![0x0a, 0x7f, 1],
        Writer::default().bytes(9, &[0x12, 0x09, 1]).finish(),
        binary(b"last", &[4; 16]),
    ];
    let scope = spans.iter().fold(Writer::default(), |scope, span| scope.bytes(2, span));
    // The scope after its spans: fields may come in any order.
    let scope = scope.bytes(1, &Writer::default().bytes(1, b"lib").finish()).finish();
    let body = Writer::default().bytes(1, &Writer::default().bytes(2, &scope).finish()).finish();
    let decoded = read(Encoding::Protobuf, &body).unwrap();
    assert_eq!((names(&decoded), decoded.rejected.count()), (vec!["first", "last"], 4));
    assert_eq!(decoded.rows.observations[0].attributes["otel.scope"]["name"], "lib");
}
