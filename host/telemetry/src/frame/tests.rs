use brokle_core::clock::SystemClock;
use brokle_core::ids::{EnvironmentId, OrganizationId, ProjectId};
use brokle_core::observation::{Kind, SpanId, TraceId};
use brokle_core::random::SystemRandom as Random;
use brokle_core::signal::{LogRecord, MetricPoint};
use brokle_core::tenancy::Tenant;

use super::*;

fn encode(batch: &[Observation]) -> Result<Vec<u8>, EncodeError> {
    super::encode(batch.iter().map(Row::Observation))
}

/// The observations of a batch that has nothing else.
fn decode(body: &[u8]) -> (Vec<Observation>, Vec<Dead>) {
    let (rows, dead) = super::decode(body);
    assert_eq!(rows.len(), rows.observations.len());
    (rows.observations, dead)
}

fn observation(name: &str) -> Observation {
    let tenant = Tenant {
        organization: OrganizationId::generate(&SystemClock, &Random),
        project: ProjectId::generate(&SystemClock, &Random),
        environment: EnvironmentId::generate(&SystemClock, &Random),
    };
    let trace_id = TraceId::generate(&Random);
    let new = Observation::new(tenant, trace_id, SpanId::generate(&Random), Kind::Span, 5);
    Observation { name: name.to_owned().into(), ..new }
}

#[test]
fn bodies_are_kept_byte_for_byte_and_none_is_not_empty() {
    let mut batch = vec![observation("a"), observation("nul \0 \u{1f980}"), observation("c")];
    batch[1].input = Some((&b"\0\xff{\"a\": \"\\ud800\"}"[..]).into());
    batch[1].output = Some((&b""[..]).into());
    let (rows, unreadable) = decode(&encode(&batch).unwrap());
    assert_eq!(rows, batch);
    assert_eq!(unreadable, []);
}

#[test]
fn a_row_that_cannot_be_read_leaves_its_neighbors() {
    let batch = [observation("first"), observation("poison"), observation("last")];
    let mut body = encode(&batch).unwrap();
    let at = body.windows(6).position(|window| window == b"poison").unwrap();
    body[at] = 0xff;
    let (rows, unreadable) = decode(&body);
    assert_eq!(rows, [batch[0].clone(), batch[2].clone()]);
    assert_eq!(unreadable.len(), 1);
    // What is kept of it is a batch again: mended, it can be read.
    let mut alone = unreadable[0].body.clone();
    let at = alone.iter().position(|byte| *byte == 0xff).unwrap();
    alone[at] = b'p';
    assert_eq!(decode(&alone).0, [batch[1].clone()]);
}

#[test]
fn no_damage_is_silent() {
    let batch = [observation("first"), observation("second")];
    let body = encode(&batch).unwrap();
    for end in (2..body.len()).filter(|end| *end != encode(&batch[..1]).unwrap().len()) {
        let (rows, unreadable) = decode(&body[..end]);
        assert!(rows.len() < 2 && unreadable.len() == 1, "cut at {end}");
    }
    for bad in [&b""[..], b"\x02", b"\x00abc"] {
        assert_eq!(decode(bad).1.len(), 1);
    }
}

#[test]
fn the_collector_compresses_and_damage_of_that_is_not_silent_either() {
    let batch: Vec<_> = (0..50).map(|_| observation("alike")).collect();
    let body = Encoder::new().encode(batch.iter().map(Row::Observation)).unwrap();
    assert!(body.len() < encode(&batch).unwrap().len() / 2);
    assert_eq!(decode(&body).0, batch);

    let claims_4_gib = [&[COMPRESSED][..], &[0xff; 4], &body[5..]].concat();
    for bad in [&body[..body.len() - 1], &body[..3], &claims_4_gib] {
        let (rows, unreadable) = decode(bad);
        assert_eq!((rows.len(), unreadable.len()), (0, 1));
        assert_eq!(unreadable[0].body, bad, "kept as it is");
    }
}

#[test]
fn what_an_earlier_version_wrote_is_read() {
    let mut row = observation("old");
    row.output = Some((&b"{}"[..]).into());
    let json = serde_json::to_vec(&row).unwrap();
    let lengths = [u32::try_from(json.len()).unwrap(), 0, 3];
    let mut body = vec![JSON];
    body.extend(lengths.iter().flat_map(|length| length.to_le_bytes()));
    body.extend_from_slice(&json);
    body.extend_from_slice(b"{}");
    assert_eq!(decode(&body), (vec![row], Vec::new()));
}

#[test]
fn rows_of_every_kind_come_back_and_damage_of_one_costs_one() {
    let call = observation("call");
    let log: LogRecord = serde_json::from_value(serde_json::json!({
        "id": 7, "tenant": call.tenant, "time_us": 5, "observed_us": 6, "body": "poison", "attributes": {"a": [1, null]}
    }))
    .unwrap();
    let point: MetricPoint = serde_json::from_value(serde_json::json!({
        "tenant": call.tenant, "name": "load", "kind": "gauge", "series": 3, "time_us": 5, "value": 0.1
    }))
    .unwrap();
    let rows = Rows { observations: vec![call], logs: vec![log], points: vec![point] };
    for mut body in [super::encode(rows.iter()).unwrap(), Encoder::new().encode(rows.iter()).unwrap()] {
        assert_eq!(super::decode(&body), (rows.clone(), Vec::new()));
        if let Some(at) = body.windows(6).position(|window| window == b"poison") {
            body[at] = 0xff;
            let (left, dead) = super::decode(&body);
            assert_eq!((left.len(), left.logs.len(), dead.len()), (2, 0, 1));
            let mut alone = dead[0].body.clone();
            // The last one: a length may have such a byte too.
            let at = alone.iter().rposition(|byte| *byte == 0xff).unwrap();
            alone[at] = b'p';
            assert_eq!(super::decode(&alone).0.logs, rows.logs);
        }
    }
}
