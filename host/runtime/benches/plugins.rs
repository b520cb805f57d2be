//! What a sandbox costs: a fresh instance, a call, a mapped request, on one thread and on two.
//!
//! `make bench-plugins` runs it; docs/benchmarks.md holds the figures it printed and their targets. Last it makes a million
//! calls, each in a fresh instance, and prints the process' memory on the way.
#![allow(
    clippy::print_stdout,
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

/// A component of `sdk/examples`, if it was built.
fn example(name: &str) -> Option<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../sdk/examples").join(name);
    std::fs::read(folder.join("target/policy-acme.wasm")).ok()
}

/// A chat request of about 2 KB.
fn body() -> Body {
    Body::json(text().into())
}

fn text() -> String {
    let turns: Vec<String> = (0..6)
        .map(|n| {
            let role = if n % 2 == 0 { "user" } else { "assistant" };
            format!(r#"{{"role":"{role}","content":"{}"}}"#, "lorem ipsum ".repeat(26))
        })
        .collect();
    format!(r#"{{"model":"gpt-4o-mini","max_tokens":100,"messages":[{}]}}"#, turns.join(","))
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
    runtime: Runtime,
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
            runtime,
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
    group.bench_function("fresh/nothing", |b| {
        b.to_async(&bench.tokio).iter(|| async {
            black_box(bench.openai.open(CallContext::default()).await.unwrap());
        });
    });
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
    // The same work without a sandbox: the policy's one candidate put in order, the request parsed and written again.
    group.bench_function("native/decide", |b| {
        let request = request();
        b.iter(|| {
            let mut order: Vec<usize> = (0..candidates.len()).collect();
            order.sort_by_key(|at| candidates.get(*at).map(|one| (!one.available, one.priority)));
            black_box((&request, order))
        });
    });
    group.bench_function("native/parse_and_write_2k", |b| {
        let text = text();
        b.iter(|| {
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            black_box(serde_json::to_vec(&value).unwrap())
        });
    });
    group.bench_function("load/cached_openai", |b| {
        let component = component("provider_openai");
        b.to_async(&bench.tokio).iter(|| async {
            black_box(ProviderPlugin::load(&bench.runtime, &component).await.unwrap());
        });
    });
    group.bench_function("warm/empty_push", |b| {
        b.to_async(&bench.tokio).iter_custom(|iterations| {
            let plugin = bench.anthropic.clone();
            async move {
                let mut instance = plugin.open(CallContext::default()).await.unwrap();
                let head = ResponseHead { status: 200, headers: vec![] };
                instance.begin_decoding(&call(true), &head, &[]).await.unwrap();
                let started = Instant::now();
                for _ in 0..iterations {
                    black_box(instance.push(&[]).await.unwrap().unwrap());
                }
                started.elapsed()
            }
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
    interpreted(criterion, &bench);
}

/// Policies that bring an interpreter, where `make bench-plugins` has built them.
fn interpreted(criterion: &mut Criterion, bench: &Bench) {
    let mut group = criterion.benchmark_group("interpreted");
    for name in ["policy-python", "policy-js"] {
        let Some(component) = example(name) else {
            println!("{name} isn't built: left out");
            continue;
        };
        let started = Instant::now();
        let policy = bench.tokio.block_on(PolicyPlugin::load(&bench.runtime, &component)).unwrap();
        let mib = component.len() >> 20;
        println!("{name}: {mib} MiB, compiled in {:.1} s", started.elapsed().as_secs_f64());
        let (request, candidates) = (request(), vec![candidate()]);
        group.bench_function(format!("{name}/fresh/decide"), |b| {
            b.to_async(&bench.tokio).iter(|| decide(&policy, &request, &candidates));
        });
    }
    group.finish();
}

/// Resident memory of this process, MiB.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or_default() / 1024.0
}

/// A million calls, each in a fresh instance.
fn million(_: &mut Criterion) {
    let bench = Bench::new();
    let (request, candidates) = (request(), vec![candidate()]);
    for thousands in [1_u32, 10, 100, 889] {
        let started = Instant::now();
        bench.tokio.block_on(async {
            for _ in 0..thousands * 1_000 {
                decide(&bench.policy, &request, &candidates).await;
            }
        });
        let each = started.elapsed().as_secs_f64() * 1e3 / f64::from(thousands);
        println!(
            "after {thousands} thousand calls more: {:.1} MiB resident, {each:.1} us a call",
            resident()
        );
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().without_plots().sample_size(30).measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500));
    targets = sandbox, million
}
criterion_main!(benches);
