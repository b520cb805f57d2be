//! `ExportTraceServiceRequest`, in OTLP's two encodings.
//!
//! Protobuf is written by hand: five messages of which a few fields are needed. Field numbers are those of
//! `opentelemetry/proto/trace/v1/trace.proto` and `common/v1/common.proto`.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::span::Span;

/// The scope's name.
const SCOPE: &str = "brokle";
/// `STATUS_CODE_ERROR`
const ERROR: u64 = 2;

/// How a request is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Encoding {
    #[default]
    Protobuf,
    Json,
}

impl Encoding {
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::Protobuf => "application/x-protobuf",
            Self::Json => "application/json",
        }
    }
}

/// All spans of one resource.
pub(crate) fn request(encoding: Encoding, resource: &Map<String, Value>, spans: &[Span]) -> Vec<u8> {
    match encoding {
        Encoding::Json => as_json(resource, spans).to_string().into_bytes(),
        Encoding::Protobuf => {
            let mut request = Message::default();
            request.message(1, |resource_spans| {
                resource_spans.message(1, |written| written.attributes(1, resource));
                resource_spans.message(2, |scope_spans| {
                    scope_spans.message(1, |scope| {
                        scope.bytes(1, SCOPE.as_bytes());
                        scope.bytes(2, env!("CARGO_PKG_VERSION").as_bytes());
                    });
                    for span in spans {
                        scope_spans.message(2, |written| written.span(span));
                    }
                });
            });
            request.0
        }
    }
}

fn as_json(resource: &Map<String, Value>, spans: &[Span]) -> Value {
    let spans: Vec<Value> = spans
        .iter()
        .map(|span| {
            let mut written = json!({
                "traceId": span.trace_id, "spanId": span.span_id, "name": span.name, "kind": span.kind,
                // Numbers of 64 bits are strings, as JSON of protobuf has them.
                "startTimeUnixNano": span.start_ns.to_string(), "endTimeUnixNano": span.end_ns.to_string(),
                "attributes": key_values(&span.attributes),
            });
            if let (Some(members), Some(parent)) = (written.as_object_mut(), &span.parent_span_id) {
                members.insert("parentSpanId".into(), parent.as_str().into());
            }
            if let (Some(members), Some(error)) = (written.as_object_mut(), &span.error) {
                members.insert("status".into(), json!({"code": ERROR, "message": error}));
            }
            written
        })
        .collect();
    let scope = json!({"name": SCOPE, "version": env!("CARGO_PKG_VERSION")});
    json!({"resourceSpans": [{
        "resource": {"attributes": key_values(resource)},
        "scopeSpans": [{"scope": scope, "spans": spans}],
    }]})
}

fn key_values(attributes: &Map<String, Value>) -> Value {
    attributes.iter().map(|(key, value)| json!({"key": key, "value": any_value(value)})).collect()
}

fn any_value(value: &Value) -> Value {
    match value {
        Value::Null => json!({}),
        Value::Bool(flag) => json!({"boolValue": flag}),
        Value::String(text) => json!({"stringValue": text}),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => json!({"intValue": whole.to_string()}),
            None => json!({"doubleValue": number}),
        },
        Value::Array(values) => {
            json!({"arrayValue": {"values": values.iter().map(any_value).collect::<Vec<_>>()}})
        }
        Value::Object(members) => json!({"kvlistValue": {"values": key_values(members)}}),
    }
}

/// A protobuf message in the making.
#[derive(Debug, Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut number: u64) {
        while number > 0x7f {
            self.0.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn tag(&mut self, field: u64, wire_type: u64) {
        self.varint(field << 3 | wire_type);
    }

    fn number(&mut self, field: u64, number: u64) {
        self.tag(field, 0);
        self.varint(number);
    }

    fn fixed64(&mut self, field: u64, bits: u64) {
        self.tag(field, 1);
        self.0.extend_from_slice(&bits.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.tag(field, 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn message(&mut self, field: u64, write: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        write(&mut inner);
        self.bytes(field, &inner.0);
    }

    fn attributes(&mut self, field: u64, attributes: &Map<String, Value>) {
        for (key, value) in attributes {
            self.message(field, |pair| {
                pair.bytes(1, key.as_bytes());
                pair.message(2, |written| written.any_value(value));
            });
        }
    }

    fn any_value(&mut self, value: &Value) {
        match value {
            Value::Null => {}
            Value::String(text) => self.bytes(1, text.as_bytes()),
            Value::Bool(flag) => self.number(2, u64::from(*flag)),
            Value::Number(number) => match number.as_i64() {
                Some(whole) => self.number(3, whole.cast_unsigned()),
                None => self.fixed64(4, number.as_f64().unwrap_or_default().to_bits()),
            },
            Value::Array(values) => self.message(5, |list| {
                for value in values {
                    list.message(1, |written| written.any_value(value));
                }
            }),
            Value::Object(members) => self.message(6, |list| list.attributes(1, members)),
        }
    }

    fn span(&mut self, span: &Span) {
        self.bytes(1, &hex(&span.trace_id));
        self.bytes(2, &hex(&span.span_id));
        if let Some(parent) = &span.parent_span_id {
            self.bytes(4, &hex(parent));
        }
        self.bytes(5, span.name.as_bytes());
        self.number(6, u64::from(span.kind));
        self.fixed64(7, span.start_ns);
        self.fixed64(8, span.end_ns);
        self.attributes(9, &span.attributes);
        if let Some(error) = &span.error {
            self.message(15, |status| {
                status.bytes(2, error.as_bytes());
                status.number(3, ERROR);
            });
        }
    }
}

fn hex(digits: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or_default() as u8;
    digits
        .as_bytes()
        .chunks_exact(2)
        .map(|pair| pair.iter().fold(0, |sum, byte| sum << 4 | digit(*byte)))
        .collect()
}
