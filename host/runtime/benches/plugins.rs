//! What a sandbox costs: a fresh instance, a call, a mapped request, on one thread and on two.
//!
//! `make bench-plugins` runs it; docs/benchmarks.md holds the figures it printed and their targets.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a bench fails by panicking and spawns its own load"
)]

use std::hint::black_box;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use brokle_runtime::exchange::{Call, Frame, ResponseHead};
use brokle_runtime::facts::{Candidate, Request, Stats};
use brokle_runtime::{Body, CallContext, PolicyPlugin, ProviderPlugin, Runtime, RuntimeConfig};
use criterion::{Criterion, criterion_group, criterion_main};

fn component(name: &str) -> Vec<u8> {
    let exe = std::env::current_exe().unwrap();
    let path: PathBuf = exe
        .ancestors()
        .map(|folder| folder.join(format!("wasm32-wasip2/guest/{name}.wasm")))
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("{name}.wasm isn't built: run `make plugins`"));
    std::fs::read(path).unwrap()
}

fn call(streaming: bool) -> Call {
    Call {
        operation: "chat.completions".into(),
        model: "gpt-4o-mini".into(),
        streaming,
        format: "canonical".into(),
        content_type: "application/json".into(),
        request_id: "01J0000000000000000000TEST".into(),
        created: 1_700_000_000,
        options: b"{}".to_vec(),
        attributes: vec![],
    }
}

/// A chat request of about 2 KB.
fn body() -> Body {
    let turns: Vec<String> = (0..6)
        .map(|n| {
            let role = if n % 2 == 0 { "user" } else { "assistant" };
            format!(r#"{{"role":"{role}","content":"{}"}}"#, "lorem ipsum ".repeat(26))
        })
        .collect();
    Body::json(
        format!(r#"{{"model":"gpt-4o-mini","max_tokens":100,"messages":[{}]}}"#, turns.join(",")).into(),
    )
}

fn small_body() -> Body {
    Body::json(r#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"hi"}]}"#.into())
}

fn request() -> Request {
    Request {
        operation: "chat.completions".into(),
        model: "gpt-4o-mini".into(),
        streaming: false,
        body_size: 200,
        input_tokens: 50,
        max_output_tokens: None,
        features: vec![],
        affinity: None,
        entropy: 7,
        attributes: vec![],
    }
}

fn candidate() -> Candidate {
    Candidate {
        connection: "default".into(),
        provider: "openai".into(),
        model: "gpt-4o-mini".into(),
        priority: 0,
        weight: 1,
        available: true,
        stats: Stats {
            latency_ms: None,
            first_token_ms: None,
            error_rate: None,
            in_flight: 1,
            remaining_requests: None,
            remaining_tokens: None,
        },
        input_price: Some(0.15),
        output_price: Some(0.6),
        context_window: Some(128_000),
        features: vec!["stream".into(), "tools".into()],
        attributes: vec![],
    }
}

struct Bench {
    _folder: tempfile::TempDir,
    tokio: tokio::runtime::Runtime,
    policy: std::sync::Arc<PolicyPlugin>,
    openai: std::sync::Arc<ProviderPlugin>,
    anthropic: std::sync::Arc<ProviderPlugin>,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime = Runtime::start(RuntimeConfig::default(), folder.path(), [7; 32]).unwrap();
        let tokio =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (policy, openai, anthropic) = tokio.block_on(async {
            (
                PolicyPlugin::load(&runtime, &component("policy_priority")).await.unwrap(),
                ProviderPlugin::load(&runtime, &component("provider_openai")).await.unwrap(),
                ProviderPlugin::load(&runtime, &component("provider_anthropic")).await.unwrap(),
            )
        });
        Self {
            _folder: folder,
            tokio,
            policy: policy.into(),
            openai: openai.into(),
            anthropic: anthropic.into(),
        }
    }
}

async fn decide(policy: &PolicyPlugin, request: &Request, candidates: &[Candidate]) {
    let (plan, _) = policy.decide(CallContext::default(), request, candidates).await.unwrap();
    black_box(plan.unwrap());
}

async fn prepare(plugin: &ProviderPlugin, call: &Call, body: &Body) {
    let mut instance = plugin.open(CallContext::default()).await.unwrap();
    black_box(instance.prepare(call, body.clone()).await.unwrap().unwrap());
}

/// The same on each of two threads at once; the time is one thread's.
async fn on_two<F, Fut>(iterations: u64, work: F) -> Duration
where
    F: Fn() -> Fut + Clone + Send + 'static,
    Fut: Future<Output = ()> + Send,
{
    let started = Instant::now();
    let tasks: Vec<_> = (0..2)
        .map(|_| {
            let work = work.clone();
            tokio::spawn(async move {
                for _ in 0..iterations {
                    work().await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    started.elapsed()
}

fn sandbox(criterion: &mut Criterion) {
    let bench = Bench::new();
    let candidates = vec![candidate()];
    let mut group = criterion.benchmark_group("sandbox");
    group.bench_function("fresh/decide", |b| {
        let request = request();
        b.to_async(&bench.tokio).iter(|| decide(&bench.policy, &request, &candidates));
    });
    group.bench_function("fresh/prepare_small", |b| {
        let (call, body) = (call(false), small_body());
        b.to_async(&bench.tokio).iter(|| prepare(&bench.openai, &call, &body));
    });
    group.bench_function("fresh/prepare_anthropic_2k", |b| {
        let (call, body) = (call(false), body());
        b.to_async(&bench.tokio).iter(|| prepare(&bench.anthropic, &call, &body));
    });
    group.bench_function("fresh/decide_on_two_threads", |b| {
        b.to_async(&bench.tokio).iter_custom(|iterations| {
            let (policy, candidates) = (bench.policy.clone(), candidates.clone());
            on_two(iterations, move || {
                let (policy, candidates) = (policy.clone(), candidates.clone());
                async move { decide(&policy, &request(), &candidates).await }
            })
        });
    });
    group.bench_function("warm/frame_anthropic", |b| {
        let frame = Frame {
            event: "content_block_delta".into(),
            data: br#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hello"}}"#
                .to_vec(),
        };
        let head = ResponseHead { status: 200, headers: vec![] };
        b.to_async(&bench.tokio).iter_custom(|iterations| {
            let (plugin, frame, head) = (bench.anthropic.clone(), frame.clone(), head.clone());
            async move {
                let mut instance = plugin.open(CallContext::default()).await.unwrap();
                let call = call(true);
                instance.begin_decoding(&call, &head, &[]).await.unwrap();
                let start = Frame {
                    event: "message_start".into(),
                    data: br#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude","content":[],"usage":{"input_tokens":1,"output_tokens":1}}}"#.to_vec(),
                };
                let block = Frame {
                    event: "content_block_start".into(),
                    data: br#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#.to_vec(),
                };
                instance.push(&[start, block]).await.unwrap().unwrap();
                let frames = [frame];
                let started = Instant::now();
                for _ in 0..iterations {
                    black_box(instance.push(&frames).await.unwrap().unwrap());
                }
                started.elapsed()
            }
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().without_plots().sample_size(30).measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500));
    targets = sandbox
}
criterion_main!(benches);
