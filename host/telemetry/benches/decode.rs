//! What it takes to read spans: from a request's bytes to rows, beside a bare Protobuf decode of the same bytes, which keeps nothing,
//! maps nothing and prices nothing. `make bench-decode` runs both, one after the other.
#![allow(clippy::unwrap_used, missing_docs, reason = "a bench fails by panicking")]

use std::hint::black_box;

use brokle_core::catalogue::Catalogue;
use brokle_core::ids::{ApiKeyId, EnvironmentId, OrganizationId, ProjectId};
use brokle_core::tenancy::{Capture, Tenant};
use brokle_telemetry::otlp::{Encoding, Settings, Signal, decode};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use prost::Message as _;

/// `opentelemetry/proto/…/v1/*.proto`, as far as spans need it.
mod proto {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Request {
        #[prost(message, repeated, tag = "1")]
        pub(super) resource_spans: Vec<ResourceSpans>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct ResourceSpans {
        #[prost(message, optional, tag = "1")]
        pub(super) resource: Option<Resource>,
        #[prost(message, repeated, tag = "2")]
        pub(super) scope_spans: Vec<ScopeSpans>,
        #[prost(string, tag = "3")]
        pub(super) schema_url: String,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Resource {
        #[prost(message, repeated, tag = "1")]
        pub(super) attributes: Vec<KeyValue>,
        #[prost(uint32, tag = "2")]
        pub(super) dropped_attributes_count: u32,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct ScopeSpans {
        #[prost(message, optional, tag = "1")]
        pub(super) scope: Option<Scope>,
        #[prost(message, repeated, tag = "2")]
        pub(super) spans: Vec<Span>,
        #[prost(string, tag = "3")]
        pub(super) schema_url: String,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Scope {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(string, tag = "2")]
        pub(super) version: String,
        #[prost(message, repeated, tag = "3")]
        pub(super) attributes: Vec<KeyValue>,
        #[prost(uint32, tag = "4")]
        pub(super) dropped_attributes_count: u32,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Span {
        #[prost(bytes = "vec", tag = "1")]
        pub(super) trace_id: Vec<u8>,
        #[prost(bytes = "vec", tag = "2")]
        pub(super) span_id: Vec<u8>,
        #[prost(string, tag = "3")]
        pub(super) trace_state: String,
        #[prost(bytes = "vec", tag = "4")]
        pub(super) parent_span_id: Vec<u8>,
        #[prost(string, tag = "5")]
        pub(super) name: String,
        #[prost(int32, tag = "6")]
        pub(super) kind: i32,
        #[prost(fixed64, tag = "7")]
        pub(super) start_time_unix_nano: u64,
        #[prost(fixed64, tag = "8")]
        pub(super) end_time_unix_nano: u64,
        #[prost(message, repeated, tag = "9")]
        pub(super) attributes: Vec<KeyValue>,
        #[prost(uint32, tag = "10")]
        pub(super) dropped_attributes_count: u32,
        #[prost(message, repeated, tag = "11")]
        pub(super) events: Vec<Event>,
        #[prost(message, optional, tag = "15")]
        pub(super) status: Option<Status>,
        #[prost(fixed32, tag = "16")]
        pub(super) flags: u32,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Event {
        #[prost(fixed64, tag = "1")]
        pub(super) time_unix_nano: u64,
        #[prost(string, tag = "2")]
        pub(super) name: String,
        #[prost(message, repeated, tag = "3")]
        pub(super) attributes: Vec<KeyValue>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Status {
        #[prost(string, tag = "2")]
        pub(super) message: String,
        #[prost(int32, tag = "3")]
        pub(super) code: i32,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct KeyValue {
        #[prost(string, tag = "1")]
        pub(super) key: String,
        #[prost(message, optional, tag = "2")]
        pub(super) value: Option<AnyValue>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct AnyValue {
        #[prost(oneof = "Value", tags = "1, 2, 3, 4, 7")]
        pub(super) value: Option<Value>,
    }
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub(super) enum Value {
        #[prost(string, tag = "1")]
        Text(String),
        #[prost(bool, tag = "2")]
        Flag(bool),
        #[prost(int64, tag = "3")]
        Integer(i64),
        #[prost(double, tag = "4")]
        Number(f64),
        #[prost(bytes = "vec", tag = "7")]
        Bytes(Vec<u8>),
    }
}

/// Spans of a request.
const SPANS: u64 = 100;
/// 2026-11-21T12:00:00Z, in microseconds.
const NOW_US: i64 = 1_795_262_400_000_000;

/// Calls of a model as instrumented applications send them, 2 KB each.
fn request() -> Vec<u8> {
    let text = |key: &str, text: String| (key.to_owned(), proto::Value::Text(text));
    let count = |key: &str, count: i64| (key.to_owned(), proto::Value::Integer(count));
    let pair = |(key, value)| proto::KeyValue { key, value: Some(proto::AnyValue { value: Some(value) }) };
    let message = |role: &str, words: usize| {
        let content = "the customer was to refund by agent policy ".repeat(words);
        format!(r#"[{{"role":"{role}","parts":[{{"type":"text","content":"{content}"}}]}}]"#)
    };
    let span = |n: u64| proto::Span {
        trace_id: u128::from(n / 4 + 1).to_be_bytes().to_vec(),
        span_id: (n + 1).to_be_bytes().to_vec(),
        name: "chat gpt-4o-mini".to_owned(),
        kind: 3,
        start_time_unix_nano: 1_795_258_800_000_000_000 + n,
        end_time_unix_nano: 1_795_258_801_000_000_000,
        attributes: [
            text("gen_ai.operation.name", "chat".to_owned()),
            text("gen_ai.provider.name", "openai".to_owned()),
            text("gen_ai.request.model", "gpt-4o-mini".to_owned()),
            text("gen_ai.response.model", "gpt-4o-mini-2024-07-18".to_owned()),
            text("session.id", format!("session-{}", n % 7)),
            text("user.id", format!("user-{}", n % 5)),
            count("gen_ai.usage.input_tokens", 900),
            count("gen_ai.usage.output_tokens", 120),
            text("gen_ai.input.messages", message("user", 27)),
            text("gen_ai.output.messages", message("assistant", 9)),
        ]
        .map(pair)
        .into(),
        ..proto::Span::default()
    };
    let spans = (0..SPANS).map(span).collect();
    let resource = proto::Resource {
        attributes: vec![pair(text("service.name", "support".to_owned()))],
        dropped_attributes_count: 0,
    };
    let scope = proto::ScopeSpans { spans, ..proto::ScopeSpans::default() };
    let of_resource = proto::ResourceSpans {
        resource: Some(resource),
        scope_spans: vec![scope],
        schema_url: String::new(),
    };
    proto::Request { resource_spans: vec![of_resource] }.encode_to_vec()
}

fn spans(criterion: &mut Criterion) {
    let (body, catalogue) = (request(), Catalogue::builtin().unwrap());
    let settings = Settings {
        tenant: Tenant {
            organization: OrganizationId::from_u128(1),
            project: ProjectId::from_u128(2),
            environment: EnvironmentId::from_u128(3),
        },
        key_id: ApiKeyId::from_u128(4),
        capture: Capture::Full,
        catalogue: &catalogue,
        now_us: NOW_US,
        max_weight: 64 << 20,
    };
    let decoded = decode(Signal::Traces, Encoding::Protobuf, &body, &settings).unwrap();
    assert_eq!(decoded.rows.observations.len() as u64, SPANS);
    assert!((1_900..2_200).contains(&(body.len() as u64 / SPANS)), "{} bytes", body.len());

    // Elements by second: a million over it are microseconds for each span.
    let mut group = criterion.benchmark_group("a request of 100 spans");
    group.throughput(Throughput::Elements(SPANS));
    group.bench_function("bare Protobuf decode", |bencher| {
        bencher.iter(|| proto::Request::decode(black_box(body.as_slice())).unwrap());
    });
    group.bench_function("to rows", |bencher| {
        bencher.iter(|| decode(Signal::Traces, Encoding::Protobuf, black_box(&body), &settings).unwrap());
    });
    group.finish();
}

criterion_group!(benches, spans);
criterion_main!(benches);
