//! One trace, as a tree.

use brokle_core::ids::ApiKeyId;
use brokle_core::observation::{Kind, Observation, SpanId, Status, Step};
use brokle_core::usage::Usage;
use brokle_storage::observations::Node;
use serde_json::{Value, json};

use super::conformance::{Store, on_every_store};

on_every_store!(
    a_call_reads_as_the_api_documents_it,
    a_trace_over_a_months_end_is_one_tree,
    parents_in_a_circle_and_very_deep_traces_lose_nothing,
);

fn span(n: u8) -> SpanId {
    SpanId::from_bytes([n; 8]).unwrap()
}

fn step(n: u8, kind: Kind, parent_span_id: Option<SpanId>, offset_us: u64) -> Step {
    Step {
        span_id: span(n),
        parent_span_id,
        kind,
        name: format!("step {n}").into(),
        offset_us,
        duration_us: 1_500,
        status: Status::Ok,
        http_status: None,
        provider: None,
        connection: None,
        model: None,
        error_class: None,
        error_message: None,
        attributes: Default::default(),
    }
}

async fn observations(fixture: &Store, call: &Observation) -> Vec<Node> {
    let trace = fixture.store.trace(fixture.tenant.project, call.trace_id).await.unwrap().unwrap();
    assert_eq!((trace.trace_id, trace.truncated), (call.trace_id, false));
    trace.observations
}

async fn a_call_reads_as_the_api_documents_it(fixture: Store) {
    let key: ApiKeyId = "01KJME5T5V7QZ8WXJ3N4P6R9ST".parse().unwrap();
    let failed = Step {
        status: Status::Error,
        http_status: Some(503),
        provider: Some("azure".into()),
        connection: Some("c1".into()),
        model: Some("gpt-4o".into()),
        error_class: Some("upstream_5xx".into()),
        error_message: Some("no".into()),
        ..step(3, Kind::Attempt, None, 2_000)
    };
    let call = Observation {
        span_id: span(1),
        parent_span_id: Some(span(0xff)),
        key_id: Some(key),
        operation: "chat".into(),
        duration_us: 812_345,
        first_token_us: Some(212_000),
        provider: Some("openai".into()),
        model_requested: Some("smart".into()),
        model_served: Some("gpt-4o".into()),
        usage: Some(Usage { input: 12, output: 30, cached_read: 8, ..Usage::default() }),
        cost: "0.000345".parse().ok(),
        streaming: true,
        http_status: Some(200),
        finish_reason: Some("stop".into()),
        user: Some("nul \0 \u{1f980}".into()),
        session: Some("s".into()),
        tags: vec!["a".into(), "b".into()],
        attributes: [("brokle.cache".to_owned(), json!("miss"))].into(),
        steps: vec![step(2, Kind::Plugin, Some(span(3)), 2_100), failed],
        input: Some(r#"{"b":1,"a":"\ud800"}"#.into()),
        output: Some("data: [DONE]\n\n".into()),
        ..fixture.call("chat smart", "2026-03-01T10:00:00.000001Z")
    };
    fixture.insert(std::slice::from_ref(&call));
    let found = observations(&fixture, &call).await;
    assert_eq!(found[0].input.as_ref().unwrap().get(), r#"{"b":1,"a":"\ud800"}"#);
    assert_eq!(found[0].output.as_ref().unwrap().get(), r#""data: [DONE]\n\n""#);

    let mut json = serde_json::from_str::<Value>(
        &serde_json::to_string(&found).unwrap().replace(r"\ud800", "lone surrogate"),
    )
    .unwrap();
    let (trace_id, environment_id) = (json!(call.trace_id), json!(fixture.tenant.environment));
    let attempt = json[0]["children"][0].take();
    assert_eq!(
        json,
        json!([{
            "trace_id": trace_id, "span_id": "0101010101010101", "parent_span_id": "ffffffffffffffff",
            "name": "chat smart", "type": "generation", "operation": "chat",
            "start_time": "2026-03-01T10:00:00.000001Z", "duration_ms": 812.345, "time_to_first_token_ms": 212.0,
            "model": "smart", "model_served": "gpt-4o", "provider": "openai", "connection_id": null,
            "usage": {"input": 12, "output": 30, "cached_read": 8, "cache_write": 0, "reasoning": 0,
                "audio_input": 0, "audio_output": 0, "image_input": 0, "image_output": 0, "estimated": false,
                "total": 42},
            "cost": "0.000345", "streaming": true, "status": "ok", "status_code": 200, "finish_reason": "stop",
            "error": null, "user": "nul \0 \u{1f980}", "session": "s", "tags": ["a", "b"],
            "environment_id": environment_id, "key_id": key, "request_id": null,
            "attributes": {"brokle.cache": "miss"}, "input": {"b": 1, "a": "lone surrogate"},
            "output": "data: [DONE]\n\n", "children": [null],
        }])
    );
    let plugin = &attempt["children"][0];
    assert_eq!(attempt["start_time"], "2026-03-01T10:00:00.002001Z");
    assert_eq!(attempt["parent_span_id"], "0101010101010101");
    assert_eq!(attempt["error"], json!({"class": "upstream_5xx", "message": "no"}));
    assert_eq!((&attempt["status_code"], &attempt["type"]), (&json!(503), &json!("attempt")));
    assert_eq!((&attempt["model"], &attempt["connection_id"]), (&json!("gpt-4o"), &json!("c1")));
    assert_eq!((&plugin["type"], &plugin["duration_ms"]), (&json!("plugin"), &json!(1.5)));
    assert_eq!(plugin["parent_span_id"], "0303030303030303");
}

async fn a_trace_over_a_months_end_is_one_tree(fixture: Store) {
    let parent = fixture.call("agent", "2026-02-28T23:59:59Z");
    let child = |name, start| Observation {
        trace_id: parent.trace_id,
        parent_span_id: Some(parent.span_id),
        ..fixture.call(name, start)
    };
    let (second, first) = (child("second", "2026-03-01T00:00:01Z"), child("first", "2026-03-01T00:00:00Z"));
    let longer =
        Observation { duration_us: first.duration_us + 1_000, ..child("longer", "2026-03-01T00:00:00Z") };
    fixture.insert(&[longer, second, parent.clone(), first]);
    let found = observations(&fixture, &parent).await;
    assert_eq!(found.len(), 1);
    let children: Vec<_> = found[0].children.iter().map(|node| node.summary.name.as_str()).collect();
    assert_eq!(children, ["first", "longer", "second"]);
}

fn count(nodes: &[Node]) -> usize {
    nodes.iter().map(|node| 1 + count(&node.children)).sum()
}

async fn parents_in_a_circle_and_very_deep_traces_lose_nothing(fixture: Store) {
    let first = fixture.call("first", "2026-03-01T00:00:00Z");
    let link = |n: u16, parent: u16| {
        let id = |n: u16| SpanId::from_bytes((u64::from(n) + 1).to_be_bytes()).unwrap();
        Observation {
            trace_id: first.trace_id,
            span_id: id(n),
            parent_span_id: Some(id(parent)),
            ..fixture.call("link", "2026-03-01T00:00:01Z")
        }
    };
    let circle = [link(0, 1), link(1, 2), link(2, 0), link(3, 3), link(4, 2)];
    let chain = (10..1_000).map(|n| link(n, n - 1));
    let rows: Vec<_> = circle.into_iter().chain(chain).collect();
    fixture.insert(&rows);
    let found = observations(&fixture, &first).await;
    assert_eq!(count(&found), rows.len());
    let json = serde_json::to_string(&found).unwrap();
    serde_json::from_str::<Value>(&json).expect("no deeper than readers of JSON go");
}
