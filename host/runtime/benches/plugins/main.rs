//! What a sandbox costs: a fresh instance, a call, a mapped request, on one thread and on two, what a guest's call to the
//! host takes, what stays in memory, and when a runaway is stopped.
//!
//! `make bench-plugins` runs it; docs/benchmarks.md holds what it printed. At the end it says what was measured beside what
//! is to be reached. Arguments are parts of benches' names: only those.
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
use std::sync::Arc;
use std::time::{Duration, Instant};

use brokle_runtime::exchange::{Call, Frame, ResponseHead};
use brokle_runtime::facts::{Candidate, Request, Stats};
use brokle_runtime::{
    Body, CallContext, GuardrailPlugin, Limits, PolicyPlugin, ProviderInstance, ProviderPlugin, Runtime,
    RuntimeConfig, guarding,
};
use criterion::Criterion;

#[path = "../common/mod.rs"]
mod common;
mod figures;

use common::{call, component};
use figures::Figures;
use figures::Target::{AtLeast, AtMost};

/// How often the guest asks the host in a call of the model `ask` (`tests/guests/hostile`).
const ASKED: u32 = 10_000;
/// What a guardrail reads at once, bytes.
const READ: usize = 512 << 10;
/// Slots that the pool keeps warm.
const SLOTS: usize = 64;

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
    policy: Arc<PolicyPlugin>,
    openai: Arc<ProviderPlugin>,
    anthropic: Arc<ProviderPlugin>,
    hostile: Arc<ProviderPlugin>,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime = Runtime::start(RuntimeConfig::default(), folder.path(), [7; 32]).unwrap();
        let tokio =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let provider = |profile, name| {
            let loaded = tokio.block_on(ProviderPlugin::load(&runtime, &component(profile, name)));
            Arc::new(loaded.unwrap())
        };
        let policy = component("guest", "policy_priority");
        Self {
            policy: Arc::new(tokio.block_on(PolicyPlugin::load(&runtime, &policy)).unwrap()),
            openai: provider("guest", "provider_openai"),
            anthropic: provider("guest", "provider_anthropic"),
            hostile: provider("guest-test", "hostile"),
            _folder: folder,
            runtime,
            tokio,
        }
    }
}

async fn decide(policy: &PolicyPlugin, request: &Request, candidates: &[Candidate]) {
    let (plan, _) = policy.decide(CallContext::default(), request, candidates).await.unwrap();
    black_box(plan.unwrap());
}

/// The instance is left: dropping it is the caller's.
async fn prepare(plugin: &ProviderPlugin, call: &Call, body: &Body) -> ProviderInstance {
    let mut instance = plugin.open(CallContext::default()).await.unwrap();
    black_box(instance.prepare(call, body.clone()).await.unwrap().unwrap());
    instance
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

fn sandbox(criterion: &mut Criterion, bench: &Bench) {
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
        let (call, body) = (call("gpt-4o-mini", false), small_body());
        b.to_async(&bench.tokio).iter(|| async { drop(prepare(&bench.openai, &call, &body).await) });
    });
    group.bench_function("fresh/prepare_anthropic_2k", |b| {
        let (call, body) = (call("gpt-4o-mini", false), body());
        b.to_async(&bench.tokio).iter(|| async { drop(prepare(&bench.anthropic, &call, &body).await) });
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
        let component = component("guest", "provider_openai");
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
                instance.begin_decoding(&call("gpt-4o-mini", true), &head, &[]).await.unwrap();
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
                let call = call("gpt-4o-mini", true);
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
    group.bench_function("host/call", |b| {
        let (call, body) = (call("ask", false), small_body());
        b.to_async(&bench.tokio).iter(|| async { drop(prepare(&bench.hostile, &call, &body).await) });
    });
    group.finish();
}

/// A licensed guardrail that reads all of a long text.
fn reading(criterion: &mut Criterion, bench: &Bench) {
    let pii = component("guest-ee", "pii_redaction");
    let plugin = bench.tokio.block_on(GuardrailPlugin::load(&bench.runtime, &pii)).unwrap();
    let texts = [guarding::Text {
        pointer: "/messages/0/content".into(),
        kind: "content".into(),
        role: "user".into(),
        value: sentences(),
    }];
    let call = guarding::Call {
        operation: "chat.completions".into(),
        model: "gpt-4o-mini".into(),
        streaming: false,
        request_id: "01J0000000000000000000TEST".into(),
        retries: 0,
        state: vec![],
        attributes: vec![],
    };
    let mut group = criterion.benchmark_group("sandbox");
    group.bench_function("guardrail/pii_512k", |b| {
        b.to_async(&bench.tokio).iter(|| async {
            let mut instance = plugin.open(CallContext::default()).await.unwrap();
            black_box(instance.on_request(&call, small_body(), &texts).await.unwrap().unwrap());
        });
    });
    group.finish();
}

/// The labelled sentences that recall is measured on, again and again to 512 KiB.
fn sentences() -> String {
    let labelled = include_str!("../../../../ee-plugins/pii-redaction/recall/sentences.jsonl");
    let mut text = String::new();
    let lines: Vec<serde_json::Value> =
        labelled.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for sentence in lines.iter().cycle() {
        if text.len() >= READ {
            break;
        }
        text.push_str(sentence.get("text").and_then(|text| text.as_str()).unwrap());
        text.push('\n');
    }
    text
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

/// Resident memory of this process, KiB.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// What a slot of the pool keeps of memory when its instance is gone, KiB: the most of three components. Each slot has had
/// two instances, so that it was made clean once.
fn slots() -> f64 {
    ["provider_openai", "provider_anthropic", "provider_bedrock"]
        .map(slots_of)
        .into_iter()
        .fold(0.0, f64::max)
}

fn slots_of(name: &str) -> f64 {
    let bench = Bench::new();
    let component = component("guest", name);
    let plugin = bench.tokio.block_on(ProviderPlugin::load(&bench.runtime, &component)).unwrap();
    let call = Call {
        options: r#"{"auth":"api_key","region":"us-east-1"}"#.into(),
        ..call("anthropic.claude-haiku-4-5", false)
    };
    let body = body();
    let used_at_once = async |slots: usize| {
        let mut all = Vec::new();
        for _ in 0..slots {
            all.push(prepare(&plugin, &call, &body).await);
        }
    };
    bench.tokio.block_on(async {
        used_at_once(1).await;
        let before = resident();
        for _ in 0..2 {
            used_at_once(SLOTS).await;
        }
        let kept = (resident() - before) / (SLOTS - 1) as f64;
        println!("a slot of {name} keeps {kept:.0} KiB");
        kept
    })
}

/// The longest that a guest which never ends went on after its budget, milliseconds.
fn runaway(bench: &Bench) -> f64 {
    let (call, body) = (call("spin", false), small_body());
    let budget = Limits::provider().cpu;
    let late = (0..20).map(|_| {
        bench.tokio.block_on(async {
            let mut instance = bench.hostile.open(CallContext::default()).await.unwrap();
            let started = Instant::now();
            assert!(instance.prepare(&call, body.clone()).await.is_err(), "it came to an end");
            (started.elapsed().as_secs_f64() - budget.as_secs_f64()) * 1e3
        })
    });
    late.fold(f64::MIN, f64::max)
}

/// A million calls, each in a fresh instance: by how much memory grew after the first thousand, MiB.
fn million(bench: &Bench) -> f64 {
    let (request, candidates) = (request(), vec![candidate()]);
    let mut first = None;
    for thousands in [1_u32, 10, 100, 889] {
        let started = Instant::now();
        bench.tokio.block_on(async {
            for _ in 0..thousands * 1_000 {
                decide(&bench.policy, &request, &candidates).await;
            }
        });
        let each = started.elapsed().as_secs_f64() * 1e3 / f64::from(thousands);
        let mib = resident() / 1024.0;
        println!("after {thousands} thousand calls more: {mib:.1} MiB resident, {each:.1} us a call");
        first.get_or_insert(mib);
    }
    resident() / 1024.0 - first.unwrap()
}

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|name| !name.starts_with('-')).collect();
    let chosen = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| name.contains(wanted));
    let mut figures = Figures::new();
    let mut criterion = figures
        .criterion()
        .sample_size(30)
        .measurement_time(Duration::from_secs(2))
        .warm_up_time(Duration::from_millis(500))
        .configure_from_args();
    let bench = Bench::new();
    sandbox(&mut criterion, &bench);
    reading(&mut criterion, &bench);
    interpreted(&mut criterion, &bench);
    criterion.final_summary();

    let micros = |nanoseconds: f64| nanoseconds / 1e3;
    figures.of("fresh instance, call, drop", "fresh/decide", AtMost(12.0), "µs", micros);
    figures.of("… on two threads at once", "fresh/decide_on_two_threads", AtMost(12.0), "µs", micros);
    figures.of("… in a second, on one thread", "fresh/decide", AtLeast(80_000.0), "", |each| 1e9 / each);
    let anthropic = "fresh instance and a 2 KB chat request in Anthropic's form";
    figures.of(anthropic, "fresh/prepare_anthropic_2k", AtMost(25.0), "µs", micros);
    figures.of("a warm call", "warm/empty_push", AtMost(1.0), "µs", micros);
    let asked = |call: f64| call / 1e3 / f64::from(ASKED);
    figures.of("a guest's call to the host", "host/call", AtMost(0.2), "µs", asked);
    figures.of("a frame of a stream mapped", "warm/frame_anthropic", AtMost(5.0), "µs", micros);
    figures
        .of("a component loaded from the cache", "load/cached_openai", AtMost(2.0), "ms", |each| each / 1e6);
    let speed = |each: f64| READ as f64 * 1e3 / each;
    figures.of("`pii-redaction` reads", "guardrail/pii_512k", AtLeast(40.0), "MB/s", speed);
    if chosen("slots") {
        figures.add("resident for a slot of the pool", AtMost(512.0), slots(), "KiB");
    }
    if chosen("runaway") {
        figures.add("a runaway goes on after its budget", AtMost(10.0), runaway(&bench), "ms");
    }
    if chosen("million") {
        figures.add("memory grows over 1,000,000 calls by", AtMost(1.0), million(&bench), "MiB");
    }
    figures.print();
}
