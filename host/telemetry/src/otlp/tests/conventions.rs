//! The table, convention by convention, where no captured body shows it.

use brokle_core::observation::{Kind, Observation, Status};
use brokle_core::tenancy::Capture;
use brokle_core::usage::Usage;
use serde_json::{Value, json};

use super::harness::{NOW_US, START_NS, attributes, observed, observed_span, span};

fn full(given: Value) -> Observation {
    observed(Capture::Full, given)
}

fn text(body: Option<&bytes::Bytes>) -> String {
    String::from_utf8(body.unwrap().to_vec()).unwrap()
}

#[test]
fn the_kind_follows_the_order_of_the_table() {
    for (given, kind) in [
        (json!({}), Kind::Span),
        (json!({"gen_ai.request.model": "m"}), Kind::Generation),
        (json!({"gen_ai.request.model": "m", "gen_ai.tool.name": "t"}), Kind::Tool),
        (json!({"gen_ai.operation.name": "chat", "gen_ai.tool.name": "t"}), Kind::Generation),
        (json!({"gen_ai.operation.name": "invoke_agent", "gen_ai.request.model": "m"}), Kind::Agent),
        (json!({"gen_ai.operation.name": "execute_tool"}), Kind::Tool),
        (json!({"gen_ai.operation.name": "embeddings"}), Kind::Embedding),
        (json!({"gen_ai.operation.name": "retrieval"}), Kind::Retriever),
        (json!({"gen_ai.operation.name": "of tomorrow", "gen_ai.request.model": "m"}), Kind::Generation),
        (json!({"openinference.span.kind": "RERANKER"}), Kind::Rerank),
        (json!({"openinference.span.kind": "GUARDRAIL", "gen_ai.operation.name": "chat"}), Kind::Guardrail),
        (json!({"openinference.span.kind": "UNKNOWN"}), Kind::Span),
        (json!({"traceloop.span.kind": "agent"}), Kind::Agent),
        (json!({"llm.request.type": "completion"}), Kind::Generation),
        (json!({"ai.operationId": "ai.streamText"}), Kind::Chain),
        (json!({"ai.operationId": "ai.embedMany.doEmbed"}), Kind::Embedding),
        (
            json!({"langfuse.observation.type": "evaluator", "openinference.span.kind": "LLM"}),
            Kind::Evaluator,
        ),
        (json!({"brokle.type": "event", "langfuse.observation.type": "tool"}), Kind::Event),
    ] {
        assert_eq!(full(given.clone()).kind, kind, "{given}");
    }
}

#[test]
fn tokens_are_counted_once() {
    let generation = |more: Value| {
        let mut given = json!({"gen_ai.operation.name": "chat"});
        given.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        full(given)
            .usage
            .map(|usage| (usage.input, usage.output, usage.cached_read, usage.cache_write, usage.reasoning))
    };
    for (given, expected) in [
        (json!({}), None),
        (
            json!({"gen_ai.usage.prompt_tokens": 7, "gen_ai.usage.completion_tokens": "8"}),
            Some((7, 8, 0, 0, 0)),
        ),
        // Both spellings: the current one, not their sum.
        (
            json!({"gen_ai.usage.input_tokens": 7, "gen_ai.usage.prompt_tokens": 7, "llm.token_count.prompt": 7}),
            Some((7, 0, 0, 0, 0)),
        ),
        // Cached tokens inside the input, as the convention says.
        (
            json!({"gen_ai.usage.input_tokens": 100, "gen_ai.usage.output_tokens": 5,
                "gen_ai.usage.cache_read.input_tokens": 80}),
            Some((100, 5, 80, 0, 0)),
        ),
        // Beside it: Anthropic's own way of counting, told by a part larger than its whole…
        (
            json!({"gen_ai.usage.input_tokens": 10, "gen_ai.usage.output_tokens": 5,
                "gen_ai.usage.cache_read.input_tokens": 80, "gen_ai.usage.cache_creation.input_tokens": 20}),
            Some((110, 5, 80, 20, 0)),
        ),
        // …or by the total.
        (
            json!({"gen_ai.usage.input_tokens": 100, "gen_ai.usage.output_tokens": 5,
                "gen_ai.usage.cache_read_input_tokens": 80, "gen_ai.usage.total_tokens": 185}),
            Some((180, 5, 80, 0, 0)),
        ),
        (
            json!({"gen_ai.usage.input_tokens": 10, "gen_ai.usage.output_tokens": 50,
                "gen_ai.usage.reasoning_tokens": 30, "gen_ai.usage.total_tokens": 90}),
            Some((10, 80, 0, 0, 30)),
        ),
        (json!({"llm.usage.total_tokens": 9}), Some((9, 0, 0, 0, 0))),
        (json!({"llm.usage.total_tokens": 9, "gen_ai.usage.completion_tokens": 2}), Some((7, 2, 0, 0, 0))),
        (
            json!({"langfuse.observation.usage_details": r#"{"input": 10, "input_cached_tokens": 6, "output": 4,
                "output_reasoning_tokens": 3, "total": 23}"#, "gen_ai.usage.input_tokens": 99}),
            Some((16, 7, 6, 0, 3)),
        ),
        (json!({"gen_ai.usage.input_tokens": -5, "gen_ai.usage.output_tokens": 1.5}), None),
        (
            json!({"gen_ai.usage.input_tokens": u64::MAX / 2, "gen_ai.usage.cache_read.input_tokens": i64::MAX}),
            Some((u64::MAX / 2, 0, u64::MAX / 2, 0, 0)),
        ),
    ] {
        assert_eq!(generation(given.clone()), expected, "{given}");
    }
    // A span that repeats its children's sums counts nothing.
    let agent = full(json!({"gen_ai.operation.name": "invoke_agent", "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.cost": 1.5}));
    assert_eq!((agent.usage, agent.cost), (None, None));
    assert_eq!(agent.attributes["gen_ai.usage.input_tokens"], 7);
}

#[test]
fn the_senders_cost_counts_unless_it_is_nothing() {
    let cost = |more: Value| {
        let mut given = json!({"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-4o-mini", "gen_ai.usage.input_tokens": 1000, "gen_ai.usage.output_tokens": 100});
        given.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let observation = full(given);
        let source = observation.attributes.get("brokle.cost.source").cloned();
        (observation.cost.map(|cost| cost.to_string()), source.is_some())
    };
    let ours = (Some("0.00021".to_owned()), false);
    for (given, expected) in [
        (json!({}), ours.clone()),
        (json!({"gen_ai.usage.cost": 0}), ours.clone()),
        (json!({"gen_ai.usage.cost": 0.0, "llm.cost.total": -3}), ours.clone()),
        (json!({"gen_ai.usage.cost": 0.0, "llm.cost.total": 0.5}), (Some("0.5".to_owned()), true)),
        (json!({"gen_ai.usage.cost": "0.000000123"}), (Some("0.000000123".to_owned()), true)),
        (json!({"gen_ai.usage.cost": 1e-7}), (Some("0.0000001".to_owned()), true)),
        (
            json!({"langfuse.observation.cost_details": r#"{"input": 0.1, "output": 0.2}"#}),
            (Some("0.3".to_owned()), true),
        ),
        (
            json!({"langfuse.observation.cost_details": r#"{"input": 0.1, "total": 0.7}"#}),
            (Some("0.7".to_owned()), true),
        ),
        (json!({"gen_ai.usage.cost": 1e300}), ours),
        (json!({"gen_ai.provider.name": "nobody", "gen_ai.request.model": "unheard-of"}), (None, false)),
    ] {
        assert_eq!(cost(given.clone()), expected, "{given}");
    }
}

#[test]
fn content_is_found_in_every_form() {
    for (given, input, output) in [
        (
            json!({"gen_ai.prompt.0.role": "user", "gen_ai.prompt.0.content": "hi", "gen_ai.prompt.10.content": "b",
                "gen_ai.prompt.2.content": "a", "gen_ai.completion.0.content": "ho"}),
            r#"[{"content":"hi","role":"user"},{"content":"a"},{"content":"b"}]"#,
            r#"[{"content":"ho"}]"#,
        ),
        (
            json!({"llm.input_messages.0.message.role": "user",
                "llm.input_messages.0.message.contents.0.message_content.text": "hi",
                "llm.output_messages.0.message.tool_calls.0.tool_call.function.name": "weather"}),
            r#"[{"contents":[{"text":"hi"}],"role":"user"}]"#,
            r#"[{"tool_calls":[{"function":{"name":"weather"}}]}]"#,
        ),
        (
            json!({"gen_ai.system_instructions": r#"[{"type":"text","content":"Be brief."}]"#,
                "gen_ai.input.messages": r#"[{"role":"user"}]"#, "gen_ai.output.messages": [{"role": "assistant"}]}),
            r#"[{"parts":[{"content":"Be brief.","type":"text"}],"role":"system"},{"role":"user"}]"#,
            r#"[{"role":"assistant"}]"#,
        ),
        (
            json!({"traceloop.entity.input": "{\"a\":1}", "traceloop.entity.output": "b", "input.value": "c"}),
            "{\"a\":1}",
            "b",
        ),
        (
            json!({"gen_ai.tool.call.arguments": {"city": "Paris"}, "gen_ai.tool.call.result": 7}),
            r#"{"city":"Paris"}"#,
            "7",
        ),
        (
            json!({"brokle.input": "mine", "langfuse.observation.input": "theirs", "brokle.output": ""
            , "langfuse.observation.output": "out"}),
            "mine",
            "out",
        ),
        (
            json!({"llm.input_messages.18446744073709551615.message.content": "far", "output.value": "near"}),
            r#"[{"content":"far"}]"#,
            "near",
        ),
    ] {
        let observation = full(given.clone());
        assert_eq!(text(observation.input.as_ref()), input, "{given}");
        assert_eq!(text(observation.output.as_ref()), output, "{given}");
    }
}

#[test]
fn content_is_found_in_events() {
    let time = (START_NS + 400_000_000).to_string();
    let event = |name: &str, given: Value| json!({"name": name, "timeUnixNano": time, "attributes": attributes(given)});
    let message = observed_span(
        Capture::Full,
        span(json!({ "events": [
            event("gen_ai.user.message", json!({"content": "hi"})),
            event("gen_ai.choice", json!({"message": "ho"})),
            event("gen_ai.content.completion.chunk", json!({})),
            event("mine", json!({"a": 1})),
        ]})),
    );
    assert_eq!(text(message.input.as_ref()), r#"[{"content":"hi","role":"user"}]"#);
    assert_eq!(text(message.output.as_ref()), r#"[{"message":"ho","role":"assistant"}]"#);
    assert_eq!(message.first_token_us, Some(400_000));
    let events = message.attributes["otel.events"].as_array().unwrap();
    assert_eq!(
        events.last().unwrap(),
        &json!({"name": "mine", "time": "2026-11-21T11:00:00.400000Z", "attributes": {"a": 1}})
    );
    let details = observed_span(
        Capture::Full,
        span(json!({ "events": [event(
            "gen_ai.client.inference.operation.details",
            json!({"gen_ai.input.messages": "[1]", "gen_ai.output.messages": "[2]"}),
        )]})),
    );
    assert_eq!((text(details.input.as_ref()), text(details.output.as_ref())), ("[1]".into(), "[2]".into()));
}

#[test]
fn the_first_token_is_told_in_many_units() {
    for given in [
        json!({"gen_ai.response.time_to_first_chunk": 0.25}),
        json!({"gen_ai.server.time_to_first_token": "0.25"}),
        json!({"ai.response.msToFirstChunk": 250}),
        json!({"langfuse.observation.completion_start_time": "\"2026-11-21T11:00:00.250Z\""}),
        json!({"brokle.time_to_first_token_ms": 250, "ai.response.msToFirstChunk": 99}),
    ] {
        assert_eq!(full(given.clone()).first_token_us, Some(250_000), "{given}");
    }
    for given in [
        json!({"gen_ai.response.time_to_first_chunk": -1}),
        json!({"gen_ai.response.time_to_first_chunk": "NaN"}),
        json!({"langfuse.observation.completion_start_time": "2020-01-01T00:00:00Z"}),
    ] {
        assert_eq!(full(given.clone()).first_token_us, None, "{given}");
    }
}

#[test]
fn who_and_where_from_is_kept() {
    let made = full(json!({
        "gen_ai.conversation.id": "c", "session.id": "s", "enduser.id": 42, "langfuse.trace.tags": "[\"a\",\"b\"]",
        "langfuse.observation.prompt.name": "greeting", "langfuse.observation.prompt.version": 3,
        "deployment.environment": "prod", "langfuse.observation.level": "WARNING", "langfuse.version": "7",
    }));
    assert_eq!((made.session.as_deref(), made.user.as_deref()), (Some("s"), Some("42")));
    assert_eq!(made.tags.iter().map(|tag| &**tag).collect::<Vec<_>>(), ["a", "b"]);
    for (name, value) in [
        ("brokle.prompt.name", "greeting"),
        ("brokle.prompt.version", "3"),
        ("brokle.environment", "prod"),
        ("brokle.level", "WARNING"),
        ("brokle.version", "7"),
        ("brokle.release", "1.2.3"),
    ] {
        assert_eq!(made.attributes[name], value, "{name}");
    }
    assert_eq!(made.attributes["gen_ai.conversation.id"], "c", "what isn't used stays");
    assert!(!made.attributes.contains_key("session.id"), "what is used moves");
    assert_eq!(made.attributes["otel.resource"]["service.name"], "shop");
}

#[test]
fn failures_are_failures() {
    let failed = |more: Value, given: Value| {
        let mut whole = json!({"status": {"code": 2, "message": "no"}, "attributes": attributes(given)});
        whole.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        observed_span(Capture::Full, span(whole))
    };
    let error = failed(json!({}), json!({"error.type": "RateLimitError", "http.response.status_code": 429}));
    assert_eq!((error.status, error.error_class.as_deref()), (Status::Error, Some("RateLimitError")));
    assert_eq!((error.error_message.as_deref(), error.http_status), (Some("no"), Some(429)));
    assert_eq!(failed(json!({}), json!({"error.type": "APITimeoutError"})).status, Status::Timeout);
    assert_eq!(failed(json!({}), json!({"error.type": "asyncio.CancelledError"})).status, Status::Aborted);
    let exception = json!({"name": "exception", "attributes": attributes(json!({
        "exception.type": "ValueError", "exception.message": "bad", "exception.stacktrace": "at…"}))});
    let error = failed(json!({"status": {"code": "STATUS_CODE_ERROR"}, "events": [exception]}), json!({}));
    assert_eq!(
        (error.error_class.as_deref(), error.error_message.as_deref()),
        (Some("ValueError"), Some("bad"))
    );
    assert_eq!(full(json!({"langfuse.observation.level": "ERROR"})).status, Status::Error);
    assert_eq!(full(json!({"error.type": "x"})).status, Status::Ok);
}

#[test]
fn without_capture_nothing_stays_that_may_be_content() {
    let given = json!({
        "gen_ai.prompt.0.content": "SECRET", "input.value": "SECRET", "gen_ai.system_instructions": "SECRET",
        "my.own.attribute": "SECRET", "my.list": ["SECRET"], "my.number": 7, "my.flag": true,
        "llm.input_messages.0.message.content": "SECRET", "brokle.input": "SECRET", "metadata": "SECRET",
        "ai.telemetry.metadata.note": "SECRET", "exception.stacktrace": "SECRET", "gen_ai.tool.definitions": "SECRET",
        "gen_ai.request.model": "m", "gen_ai.response.id": "kept", "server.address": "kept", "user.id": "u",
        "gen_ai.usage.input_tokens": 3,
    });
    let event =
        json!({"name": "gen_ai.user.message", "attributes": attributes(json!({"content": "SECRET"}))});
    let other = json!({"name": "mine", "attributes": attributes(json!({"note": "SECRET", "n": 1}))});
    let whole = json!({"attributes": attributes(given), "events": [event, other],
        "links": [{"traceId": "5B8EFFF798038103D269B633813FC60C", "spanId": "eee19b7ec3c1b174",
            "attributes": attributes(json!({"a": "SECRET"}))}]});
    for capture in [Capture::Metadata, Capture::Off] {
        let made = observed_span(capture, span(whole.clone()));
        let text = serde_json::to_string(&made).unwrap();
        assert!(!text.contains("SECRET") && made.input.is_none(), "{text}");
        assert_eq!(made.usage, Some(Usage { input: 3, ..Usage::default() }));
        if capture == Capture::Metadata {
            assert_eq!(made.attributes["my.number"], 7);
            assert_eq!(made.attributes["gen_ai.response.id"], "kept");
            assert_eq!(made.attributes["brokle.withheld"], 14);
            assert_eq!(made.attributes["otel.events"][0]["attributes"], json!({"n": 1}));
            assert_eq!(made.user.as_deref(), Some("u"));
        } else {
            assert!(made.attributes.is_empty() && made.user.is_none());
        }
    }
    let full = observed_span(Capture::Full, span(whole));
    assert_eq!(full.attributes["my.own.attribute"], "SECRET");
}

#[test]
fn clocks_that_cant_be_right_are_flagged() {
    let started = |start: u64, end: u64| {
        observed_span(
            Capture::Metadata,
            span(json!({"startTimeUnixNano": start.to_string(), "endTimeUnixNano": end})),
        )
    };
    let day = 86_400_000_000_000;
    for start in [0, START_NS - 370 * day, START_NS + 2 * day, u64::MAX] {
        let made = started(start, start);
        assert_eq!(made.start_us, NOW_US, "{start}");
        assert_eq!(made.attributes["brokle.clock.start_time_unix_nano"], start.to_string());
    }
    for start in [START_NS - 360 * day, START_NS + day / 2] {
        let made = started(start, start + 1_500);
        assert_eq!((made.start_us, made.duration_us), ((start / 1_000).cast_signed(), 1));
        assert!(!made.attributes.contains_key("brokle.clock.start_time_unix_nano"));
    }
    let backwards = started(START_NS, START_NS - 5);
    assert_eq!(backwards.duration_us, 0);
    assert_eq!(backwards.attributes["brokle.clock.end_before_start"], true);
}

#[test]
fn what_is_too_much_is_cut_and_said() {
    let body = "é".repeat(600_000);
    let made = full(json!({"input.value": body, "output.value": "fits"}));
    assert_eq!(made.input.as_ref().unwrap().len(), 1 << 20);
    assert_eq!(made.attributes["brokle.truncated"], json!(["input"]));
    let many: serde_json::Map<String, Value> =
        (0..100).map(|n| (format!("large.{n:03}"), Value::from("x".repeat(2_000)))).collect();
    let mut many = Value::Object(many);
    many["zz.small"] = Value::from("kept");
    let made = full(many);
    assert_eq!(made.attributes["zz.small"], "kept");
    let kept = made.attributes.keys().filter(|name| name.starts_with("large.")).count() as u64;
    assert!((20..=32).contains(&kept), "{kept}");
    assert_eq!(made.attributes["brokle.left_out"], 100 - kept);
    let deep = (0..100).map(|n| format!("{n}.")).collect::<String>();
    let name = format!("gen_ai.prompt.{deep}x");
    assert!(full(json!({ name: "deep" })).input.is_some(), "and nothing overflows");
}
