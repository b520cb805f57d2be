//! The filter language, over rows.

use brokle_core::observation::{Kind, Observation, Status};
use brokle_core::usage::Usage;
use brokle_storage::observations::ScoreValue;

use super::{Store, on_every_store};

on_every_store!(
    every_kind_of_test,
    metadata_and_tags,
    scores_of_traces_spans_and_sessions,
    words_are_found_in_bodies,
    what_looks_like_sql_is_a_text
);

async fn every_kind_of_test(store: Store) {
    let call = |name, start| store.call(name, start);
    let rows = [
        Observation {
            model_requested: Some("smart".into()),
            model_served: Some("gpt-4o-mini".into()),
            provider: Some("openai".into()),
            duration_us: 1_500_000,
            first_token_us: Some(200_000),
            cost: Some("0.5".parse().unwrap()),
            usage: Some(Usage { input: 900, output: 100, ..Usage::default() }),
            user: Some("ann".into()),
            ..call("one", "2026-01-31T23:59:59Z")
        },
        Observation {
            status: Status::Timeout,
            http_status: Some(504),
            duration_us: 60_000_000,
            kind: Kind::Embedding,
            user: Some("bob, \"the\" builder".into()),
            streaming: true,
            ..call("two", "2026-02-01T00:00:00Z")
        },
        call("three", "2026-03-01T12:00:00Z"),
    ];
    store.insert(&rows);
    let trace = rows[0].trace_id.to_string();
    let environment = store.tenant.environment.to_string();
    let cases: Vec<(String, &[&str])> = [
        ("", &["three", "two", "one"][..]),
        ("name:two", &["two"]),
        ("-name:two", &["three", "one"]),
        ("name:one,three", &["three", "one"]),
        ("model:smart", &["one"]),
        ("model:gpt-4o-mini,x", &["one"]),
        ("provider:openai -user:bob", &["one"]),
        ("provider:*", &["one"]),
        ("-provider:*", &["three", "two"]),
        // A row that says nothing isn't "ann" either.
        ("-user:ann", &["three", "two"]),
        (r#"user:"bob, \"the\" builder""#, &["two"]),
        ("type:embedding,tool", &["two"]),
        ("status:timeout", &["two"]),
        ("-status:ok", &["two"]),
        ("duration:>1s", &["two", "one"]),
        ("duration:>=1500 duration:<=1500ms", &["one"]),
        ("duration:1s..2s", &["one"]),
        ("duration:..2s", &["three", "one"]),
        ("ttft:<0.3s", &["one"]),
        ("cost:>0.4", &["one"]),
        ("cost:0.5", &["one"]),
        ("tokens:1000 input_tokens:>=900 output_tokens:..100", &["one"]),
        ("-tokens:>0", &["three", "two"]),
        ("status_code:500..599", &["two"]),
        ("streaming:true", &["two"]),
        ("time:>=2026-02-01 time:<2026-03-01T12:00:00Z", &["two"]),
        ("time:2026-03-01..", &["three"]),
    ]
    .into_iter()
    .map(|(filter, expected)| (filter.to_owned(), expected))
    .chain([
        (format!("trace:{trace}"), &["one"][..]),
        (format!("environment:{environment} name:one"), &["one"]),
    ])
    .collect();
    for (filter, expected) in cases {
        assert_eq!(store.names(&filter).await, expected, "{filter}");
    }
}

async fn metadata_and_tags(store: Store) {
    let with = |name: &str, attributes: serde_json::Value| {
        let serde_json::Value::Object(attributes) = attributes else { unreachable!() };
        Observation {
            attributes: attributes.into_iter().collect(),
            ..store.call(name, "2026-03-01T00:00:00Z")
        }
    };
    let tags = vec!["a b".into(), "beta".into()];
    store.insert(&[
        with("plain", serde_json::json!({"tier": "gold", "retries": 3, "trial": true})),
        with("langfuse", serde_json::json!({"langfuse.trace.metadata.tier": "gold", "retries": "12"})),
        with("other", serde_json::json!({"tier": "silver", "a \"key\"": 1})),
        Observation { tags, ..with("tagged", serde_json::json!({})) },
    ]);
    let cases: [(&str, &[&str]); 10] = [
        ("metadata.tier:gold", &["langfuse", "plain"]),
        ("-metadata.tier:gold", &["tagged", "other"]),
        ("metadata.tier:gold,silver", &["other", "langfuse", "plain"]),
        ("metadata.retries:>2", &["langfuse", "plain"]),
        ("metadata.retries:3..11", &["plain"]),
        ("metadata.trial:true", &["plain"]),
        ("metadata.tier:*", &["other", "langfuse", "plain"]),
        (r#"metadata."a \"key\"":1"#, &["other"]),
        ("tag:beta", &["tagged"]),
        (r#"-tag:beta,"a b""#, &["other", "langfuse", "plain"]),
    ];
    for (filter, expected) in cases {
        assert_eq!(store.names(filter).await, expected, "{filter}");
    }
}

async fn scores_of_traces_spans_and_sessions(store: Store) {
    let one = store.call("one", "2026-02-01T00:00:00Z");
    let child = Observation { trace_id: one.trace_id, ..store.call("child", "2026-02-01T00:00:01Z") };
    let two = Observation { session: Some("s".into()), ..store.call("two", "2026-03-01T00:00:00Z") };
    store.insert(&[one.clone(), child.clone(), two.clone()]);
    assert_eq!(store.names("scores.good:>0.8").await, [""; 0], "no score yet");
    assert_eq!(store.names("-scores.good:>0.8").await, ["two", "child", "one"]);

    let numeric = ScoreValue::Numeric;
    let mut on_child = store.score("1", "good", numeric(0.9), &child);
    on_child.span_id = Some(child.span_id);
    let mut on_session = store.score("2", "thumbs", ScoreValue::Boolean(true), &two);
    (on_session.trace_id, on_session.session) = (None, Some("s".to_owned()));
    let on_trace = store.score("3", "tone", ScoreValue::Categorical("kind".to_owned()), &one);
    store.put(vec![on_child, on_session, on_trace]).await;
    let cases: [(&str, &[&str]); 8] = [
        ("scores.good:>0.8", &["child"]),
        ("scores.good:>0.95", &[]),
        ("scores.good:0.5..1", &["child"]),
        ("-scores.good:*", &["two", "one"]),
        ("scores.thumbs:true", &["two"]),
        ("scores.thumbs:1", &["two"]),
        ("scores.tone:kind,rude", &["child", "one"]),
        ("scores.tone:kind -scores.good:*", &["one"]),
    ];
    for (filter, expected) in cases {
        assert_eq!(store.names(filter).await, expected, "{filter}");
    }
}

async fn words_are_found_in_bodies(store: Store) {
    let long = format!("{{\"content\":\"{} ÄPFEL und Birnen\"}}", "x".repeat(5_000));
    store.insert(&[
        Observation { input: Some(long.into()), ..store.call("one", "2026-03-01T00:00:00Z") },
        Observation { output: Some("pears".into()), ..store.call("two", "2026-03-01T00:00:01Z") },
        store.call("Pears by name", "2026-03-01T00:00:02Z"),
    ]);
    let cases: [(&str, &[&str]); 5] = [
        ("äpfel", &["one"]),
        ("\"äpfel UND\"", &["one"]),
        ("pears", &["Pears by name", "two"]),
        ("-pears", &["one"]),
        ("pears name:two", &["two"]),
    ];
    for (filter, expected) in cases {
        assert_eq!(store.names(filter).await, expected, "{filter}");
    }
}

async fn what_looks_like_sql_is_a_text(store: Store) {
    let hostile = "' OR 1=1; DROP TABLE observations; --";
    store.insert(&[
        store.call("plain", "2026-03-01T00:00:00Z"),
        Observation { user: Some(hostile.into()), ..store.call("hostile", "2026-03-01T00:00:01Z") },
    ]);
    assert_eq!(store.names(&format!("user:\"{hostile}\"")).await, ["hostile"]);
    for field in ["metadata", "scores"] {
        assert_eq!(store.names(&format!("{field}.\"{hostile}\":x")).await, [""; 0]);
    }
    assert_eq!(store.names(&format!("\"{hostile}\"")).await, [""; 0]);
    assert_eq!(store.names("").await, ["hostile", "plain"]);
}
