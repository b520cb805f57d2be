use serde_json::json;

use super::*;
use crate::clock::SystemClock;
use crate::ids::{EnvironmentId, OrganizationId, ProjectId};
use crate::random::SeededRandom;

fn observation() -> Observation {
    let random = SeededRandom::new(1);
    let tenant = Tenant {
        organization: OrganizationId::generate(&SystemClock, &random),
        project: ProjectId::generate(&SystemClock, &random),
        environment: EnvironmentId::generate(&SystemClock, &random),
    };
    let trace_id = TraceId::generate(&random);
    Observation::new(tenant, trace_id, SpanId::generate(&random), Kind::Generation, 1_772_359_200_000_001)
}

fn full() -> Observation {
    let random = SeededRandom::new(2);
    Observation {
        usage: Some(Usage { input: 7, output: 3, cached_read: 2, ..Usage::default() }),
        cost: Some("0.000345".parse().unwrap()),
        error_message: Some("nul \0, snowman ☃, \u{1f980}".into()),
        tags: vec!["a".into()],
        attributes: BTreeMap::from([("brokle.cache".into(), json!({"hit": false, "keys": [1, "x"]}))]),
        steps: vec![Step {
            span_id: SpanId::generate(&random),
            parent_span_id: None,
            kind: Kind::Attempt,
            name: "openai/gpt-4o".into(),
            offset_us: 12,
            duration_us: 40,
            status: Status::Timeout,
            http_status: None,
            provider: Some("openai".into()),
            connection: None,
            model: Some("gpt-4o".into()),
            error_class: Some("upstream_timeout".into()),
            error_message: None,
            attributes: BTreeMap::new(),
        }],
        ..observation()
    }
}

#[test]
fn what_is_written_is_read_again() {
    for observation in [observation(), full()] {
        let json = serde_json::to_vec(&observation).unwrap();
        assert_eq!(serde_json::from_slice::<Observation>(&json).unwrap(), observation);
    }
}

#[test]
fn absent_fields_cost_nothing_in_the_queue() {
    let value = serde_json::to_value(observation()).unwrap();
    let names: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
    let always =
        ["duration_us", "kind", "name", "span_id", "start_us", "status", "streaming", "tenant", "trace_id"];
    assert_eq!(names, always);
}

#[test]
fn every_name_is_read_back_and_is_the_one_in_json() {
    for kind in Kind::ALL {
        assert_eq!(kind.as_str().parse(), Ok(*kind));
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
    }
    for status in Status::ALL {
        assert_eq!(status.to_string().parse(), Ok(*status));
        assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
    }
    assert_eq!("OK".parse::<Status>(), Err(ParseNameError));
}

#[test]
fn the_weight_grows_with_everything_a_client_can_make_large() {
    let large = "x".repeat(1_000_000);
    let grows: [fn(&mut Observation, &str); 7] = [
        |observation, text| observation.input = Some(Bytes::copy_from_slice(text.as_bytes())),
        |observation, text| observation.output = Some(Bytes::copy_from_slice(text.as_bytes())),
        |observation, text| observation.user = Some(text.into()),
        |observation, text| observation.session = Some(text.into()),
        |observation, text| observation.tags.push(text.into()),
        |observation, text| observation.model_requested = Some(text.into()),
        |observation, text| drop(observation.attributes.insert("a".into(), json!([{"b": text}]))),
    ];
    let before = observation().weight();
    for grow in grows {
        let mut observation = observation();
        grow(&mut observation, &large);
        assert!(observation.weight() >= before + 1_000_000);
    }
}
