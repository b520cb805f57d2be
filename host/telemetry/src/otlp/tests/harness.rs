//! A tenant, a price list, and requests in JSON.

use std::sync::LazyLock;

use brokle_core::catalogue::Catalogue;
use brokle_core::ids::{ApiKeyId, EnvironmentId, OrganizationId, ProjectId};
use brokle_core::observation::Observation;
use brokle_core::tenancy::{Capture, Tenant};
use serde_json::{Value, json};

use super::super::{DecodeError, Decoded, Encoding, Settings, Signal, decode};

static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| Catalogue::builtin().unwrap());

/// 2026-11-21T12:00:00Z, some time after the fixtures were captured.
pub(super) const NOW_US: i64 = 1_795_262_400_000_000;
/// When spans of [`span`] began: an hour before.
pub(super) const START_NS: u64 = 1_795_258_800_000_000_000;

pub(super) fn settings(capture: Capture) -> Settings<'static> {
    Settings {
        tenant: Tenant {
            organization: OrganizationId::from_u128(1),
            project: ProjectId::from_u128(2),
            environment: EnvironmentId::from_u128(3),
        },
        key_id: ApiKeyId::from_u128(4),
        capture,
        catalogue: &CATALOGUE,
        now_us: NOW_US,
        max_weight: 64 << 20,
    }
}

pub(super) fn read(encoding: Encoding, body: &[u8]) -> Result<Decoded, DecodeError> {
    decode(Signal::Traces, encoding, body, &settings(Capture::Full))
}

/// A span of two seconds with these members on top.
pub(super) fn span(more: Value) -> Value {
    let mut span = json!({
        "traceId": "5B8EFFF798038103D269B633813FC60C", "spanId": "eee19b7ec3c1b174", "name": "a span", "kind": 3,
        "startTimeUnixNano": START_NS.to_string(), "endTimeUnixNano": (START_NS + 2_000_000_000).to_string(),
    });
    let Value::Object(more) = more else { panic!("members are expected: {more}") };
    span.as_object_mut().unwrap().extend(more);
    span
}

pub(super) fn request(spans: &[Value]) -> Vec<u8> {
    let body = json!({ "resourceSpans": [{
        "resource": { "attributes": attributes(json!({"service.name": "shop", "service.version": "1.2.3"})) },
        "scopeSpans": [{ "scope": { "name": "lib", "version": "1" }, "spans": spans }],
    }]});
    body.to_string().into_bytes()
}

/// An object as a list of attributes.
pub(super) fn attributes(object: Value) -> Value {
    let Value::Object(members) = object else { panic!("an object is expected: {object}") };
    members.into_iter().map(|(key, held)| json!({ "key": key, "value": any(held) })).collect()
}

fn any(value: Value) -> Value {
    match value {
        Value::String(text) => json!({ "stringValue": text }),
        Value::Bool(flag) => json!({ "boolValue": flag }),
        Value::Number(number) if number.is_f64() => json!({ "doubleValue": number }),
        Value::Number(number) => json!({ "intValue": number.to_string() }),
        Value::Array(list) => {
            json!({ "arrayValue": { "values": list.into_iter().map(any).collect::<Value>() } })
        }
        object @ Value::Object(_) => json!({ "kvlistValue": { "values": attributes(object) } }),
        Value::Null => json!({}),
    }
}

/// What one span with these attributes becomes.
pub(super) fn observed(capture: Capture, given: Value) -> Observation {
    observed_span(capture, span(json!({ "attributes": attributes(given) })))
}

pub(super) fn observed_span(capture: Capture, span: Value) -> Observation {
    let decoded = decode(Signal::Traces, Encoding::Json, &request(&[span]), &settings(capture)).unwrap();
    assert_eq!(decoded.rejected.count(), 0, "{}", decoded.rejected.message(Signal::Traces));
    decoded.rows.observations.into_iter().next().unwrap()
}
