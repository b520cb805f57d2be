//! What built-in components take of a call, each part by itself: a request, an answer, an event of a stream, a text.
//!
//! `make bench-plugins` runs it; docs/benchmarks.md holds the figures it printed and their targets. A request and an answer are
//! a fresh instance and all calls that the gateway makes of it; an event is one call of an instance that is there, fifty to a
//! stream. Each is also measured on two threads at once, where what interrupts the other thread shows. "At best" is the 5th
//! percentile of short batches, which other work on the machine changes least. Arguments are parts of rows' names: only those.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a bench fails by panicking and spawns its own load"
)]

use std::hint::black_box;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use brokle_runtime::exchange::{Call, Frame, ResponseHead};
use brokle_runtime::{
    Body, CallContext, DialectEncoder, DialectInstance, DialectPlugin, GuardrailPlugin, ProviderInstance,
    ProviderPlugin, Runtime, RuntimeConfig, dialects, guarding,
};

mod common;

use common::component;

/// Events of a stream.
const EVENTS: u32 = 50;
/// For which each row is measured.
const LENGTH: Duration = Duration::from_secs(1);

/// Runs something again and again, if so wanted each time with cold caches, and says how long it took.
type Work = Arc<dyn Fn(u64, Caches) -> Pin<Box<dyn Future<Output = Duration> + Send>> + Send + Sync>;

/// What the processor remembers from the time before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Caches {
    Warm,
    /// Its caches are full of something else.
    Cold,
}

impl Caches {
    fn prepare(self) {
        /// More than they hold.
        static OTHER: Mutex<Vec<u8>> = Mutex::new(Vec::new());
        if self == Self::Cold {
            let mut other = OTHER.lock().unwrap();
            other.resize(64 << 20, 0);
            other.iter_mut().step_by(64).for_each(|byte| *byte = byte.wrapping_add(1));
            black_box(&*other);
        }
    }
}

/// All of it counts.
fn whole<F, Fut>(run: F) -> Work
where
    F: Fn() -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send,
{
    Arc::new(move |times, caches| {
        let run = run.clone();
        Box::pin(async move {
            caches.prepare();
            let started = Instant::now();
            for _ in 0..times {
                run().await;
            }
            started.elapsed()
        })
    })
}

/// Events of streams; opening them doesn't count.
fn events<F, Fut>(open: F) -> Work
where
    F: Fn() -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Stream> + Send,
{
    Arc::new(move |times, caches| {
        let open = open.clone();
        Box::pin(async move {
            let (mut left, mut time) = (times, Duration::ZERO);
            while left > 0 {
                let mut stream = open().await;
                let now = left.min(EVENTS.into());
                caches.prepare();
                let started = Instant::now();
                for _ in 0..now {
                    stream.event().await;
                }
                time += started.elapsed();
                left -= now;
            }
            time
        })
    })
}

enum Stream {
    Decoded(Box<ProviderInstance>, [Frame; 1]),
    Encoded(Box<DialectEncoder>, [Vec<u8>; 1]),
}

impl Stream {
    async fn event(&mut self) {
        match self {
            Self::Decoded(instance, frame) => {
                black_box(instance.push(frame).await.unwrap().unwrap());
            }
            Self::Encoded(encoder, chunk) => {
                black_box(encoder.push(chunk).await.unwrap().unwrap());
            }
        }
    }
}

/// A provider, and what a vendor answers.
struct Vendor {
    plugin: ProviderPlugin,
    model: &'static str,
    options: &'static str,
    answer: &'static str,
    /// The events before the first text, and one of a text.
    begun: Vec<Frame>,
    event: Frame,
}

impl Vendor {
    fn call(&self, streaming: bool) -> Call {
        Call {
            options: self.options.into(),
            attributes: vec![("base_path".into(), "/v1".into())],
            ..common::call(self.model, streaming)
        }
    }

    async fn request(&self, streaming: bool) -> ProviderInstance {
        let mut instance = self.plugin.open(CallContext::default()).await.unwrap();
        let body = canonical_request(self.model, streaming);
        black_box(instance.prepare(&self.call(streaming), body).await.unwrap().unwrap());
        instance
    }

    async fn call_whole(&self) {
        let mut instance = self.request(false).await;
        instance.begin_decoding(&self.call(false), &head(), &[]).await.unwrap();
        black_box(instance.push(&[frame("", self.answer)]).await.unwrap().unwrap());
        black_box(instance.finish().await.unwrap().unwrap());
    }

    async fn stream(&self) -> Stream {
        let mut instance = self.request(true).await;
        instance.begin_decoding(&self.call(true), &head(), &[]).await.unwrap();
        instance.push(&self.begun).await.unwrap().unwrap();
        Stream::Decoded(Box::new(instance), [self.event.clone()])
    }
}

/// A dialect, and a request in it.
struct Spoken {
    plugin: DialectPlugin,
    endpoint: &'static str,
    request: Body,
}

impl Spoken {
    fn call(&self) -> dialects::Call {
        dialects::Call {
            endpoint: self.endpoint.into(),
            model: "gpt-4o-mini".into(),
            streaming: true,
            query: vec![("alt".into(), "sse".into())],
            request_id: "01J0000000000000000000TEST".into(),
            created: 1_700_000_000,
            attributes: vec![],
        }
    }

    async fn open(&self) -> DialectInstance {
        self.plugin.open(CallContext::default()).await.unwrap()
    }

    async fn request(&self) {
        let mut instance = self.open().await;
        black_box(instance.read_head(&self.call(), self.request.clone()).await.unwrap().unwrap());
        black_box(instance.to_canonical(&self.call(), self.request.clone()).await.unwrap().unwrap());
    }

    async fn answer(&self) {
        let mut instance = self.open().await;
        let answer = ANSWER.as_bytes().to_vec();
        black_box(instance.write_answer(&self.call(), b"", &answer).await.unwrap().unwrap());
    }

    async fn stream(&self) -> Stream {
        let mut encoder = self.open().await.encode(&self.call(), b"").await.unwrap();
        let chunk = CHUNK.as_bytes().to_vec();
        encoder.push(std::slice::from_ref(&chunk)).await.unwrap().unwrap();
        Stream::Encoded(Box::new(encoder), [chunk])
    }
}

/// What OpenAI answers, whole and as a piece of a stream.
const ANSWER: &str = r#"{"id":"chatcmpl-bench","object":"chat.completion","created":1700000000,"model":"gpt-4o-mini","service_tier":"default","system_fingerprint":"fp_bench","choices":[{"index":0,"message":{"role":"assistant","content":"A gateway stands between applications and the providers of their models, and what it adds to each call should be too little to notice.","refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":25,"completion_tokens":175,"total_tokens":200,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0}}}"#;
const CHUNK: &str = r#"{"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,"model":"gpt-4o-mini","service_tier":"default","system_fingerprint":"fp_bench","choices":[{"index":0,"delta":{"content":" word07"},"logprobs":null,"finish_reason":null}],"usage":null}"#;

fn said(bytes: usize) -> String {
    "Gateways read what they must and pass on the rest. ".chars().cycle().take(bytes).collect()
}

/// A chat request of about 2 KB.
fn canonical_request(model: &str, streaming: bool) -> Body {
    let text = said(1_850);
    let json = format!(
        r#"{{"model":"{model}","stream":{streaming},"max_tokens":1000,"messages":[{{"role":"user","content":"{text}"}}]}}"#
    );
    Body::json(json.into())
}

fn head() -> ResponseHead {
    ResponseHead { status: 200, headers: vec![] }
}

fn frame(event: &str, data: &str) -> Frame {
    Frame { event: event.into(), data: data.into() }
}

async fn vendors(runtime: &Runtime) -> [(&'static str, Vendor); 2] {
    let load = |name| async move { ProviderPlugin::load(runtime, &component("guest", name)).await.unwrap() };
    let claude = Vendor {
        plugin: load("provider_anthropic").await,
        model: "claude-haiku-4-5",
        options: "{}",
        answer: r#"{"id":"msg_bench","type":"message","role":"assistant","model":"claude-haiku-4-5","content":[{"type":"text","text":"A gateway stands between applications and the providers of their models."}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":25,"output_tokens":175}}"#,
        begun: vec![
            frame(
                "message_start",
                r#"{"type":"message_start","message":{"id":"msg_bench","type":"message","role":"assistant","model":"claude-haiku-4-5","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":25,"output_tokens":1}}}"#,
            ),
            frame(
                "content_block_start",
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
            ),
        ],
        event: frame(
            "content_block_delta",
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" word07"}}"#,
        ),
    };
    let bedrock = Vendor {
        plugin: load("provider_bedrock").await,
        model: "anthropic.claude-haiku-4-5",
        options: r#"{"auth":"api_key","region":"us-east-1"}"#,
        answer: r#"{"output":{"message":{"role":"assistant","content":[{"text":"A gateway stands between applications and the providers of their models."}]}},"stopReason":"end_turn","usage":{"inputTokens":25,"outputTokens":175,"totalTokens":200},"metrics":{"latencyMs":1}}"#,
        begun: vec![frame("messageStart", r#"{"role":"assistant"}"#)],
        event: frame("contentBlockDelta", r#"{"contentBlockIndex":0,"delta":{"text":" word07"}}"#),
    };
    [("anthropic", claude), ("bedrock", bedrock)]
}

async fn spoken(runtime: &Runtime) -> [(&'static str, Spoken); 3] {
    let load = |name, endpoint, request: String| async move {
        let plugin = DialectPlugin::load(runtime, &component("guest", name)).await.unwrap();
        Spoken { plugin, endpoint, request: Body::json(request.into()) }
    };
    let text = said(1_850);
    let messages = format!(
        r#"{{"model":"gpt-4o-mini","stream":true,"max_tokens":1000,"messages":[{{"role":"user","content":"{text}"}}]}}"#
    );
    let responses = format!(
        r#"{{"model":"gpt-4o-mini","stream":true,"store":false,"max_output_tokens":1000,"input":"{text}"}}"#
    );
    let gemini = format!(r#"{{"contents":[{{"role":"user","parts":[{{"text":"{text}"}}]}}]}}"#);
    [
        ("messages", load("dialect_anthropic", "messages", messages).await),
        ("responses", load("dialect_openai_responses", "responses", responses).await),
        ("gemini", load("dialect_gemini", "generate-content", gemini).await),
    ]
}

/// The `regex` guardrail on a request of one text.
async fn rule(plugin: &GuardrailPlugin, context: &CallContext, request: &Body, text: &guarding::Text) {
    let mut instance = plugin.open(context.clone()).await.unwrap();
    let call = guarding::Call {
        operation: "chat.completions".into(),
        model: "gpt-4o-mini".into(),
        streaming: false,
        request_id: "01J0000000000000000000TEST".into(),
        retries: 0,
        state: vec![],
        attributes: vec![],
    };
    let texts = std::slice::from_ref(text);
    black_box(instance.on_request(&call, request.clone(), texts).await.unwrap().unwrap());
}

/// What is measured, by name.
async fn rows(runtime: &Runtime) -> Vec<(String, Work)> {
    let mut rows = Vec::new();
    for (name, vendor) in vendors(runtime).await {
        let vendor: &'static Vendor = Box::leak(Box::new(vendor));
        rows.push((format!("request/{name}"), whole(move || async { drop(vendor.request(false).await) })));
        rows.push((format!("request_and_answer/{name}"), whole(move || vendor.call_whole())));
        rows.push((format!("event/{name}"), events(move || vendor.stream())));
    }
    for (name, dialect) in spoken(runtime).await {
        let dialect: &'static Spoken = Box::leak(Box::new(dialect));
        rows.push((format!("request/{name}"), whole(move || dialect.request())));
        rows.push((format!("answer/{name}"), whole(move || dialect.answer())));
        rows.push((format!("event/{name}"), events(move || dialect.stream())));
    }
    rows.extend(regex(runtime).await);
    rows
}

async fn regex(runtime: &Runtime) -> Vec<(String, Work)> {
    let plugin =
        Arc::new(GuardrailPlugin::load(runtime, &component("guest", "guardrail_regex")).await.unwrap());
    let word = r#"{"deny":[{"pattern":"zephyr","category":"confidential"}]}"#;
    let classes = r#"{"deny":[{"pattern":"\\b[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){3,7}\\b"},{"pattern":"(?i)project\\s+zephyr"}],
        "replace":[{"pattern":"\\w+@acme\\.example","with":"[address]"},{"pattern":"ticket-\\d{4,8}","with":"[ticket]"}]}"#;
    let mut rows = Vec::new();
    for (patterns, config) in [("a_word", word), ("four", classes)] {
        for (size, bytes) in [("2k", 1_850), ("2k_of_German", 1_850), ("200k", 200_000)] {
            let context = CallContext { config: config.as_bytes().into(), ..CallContext::default() };
            let value = if size == "2k_of_German" { said(bytes).replace('u', "ü") } else { said(bytes) };
            let request = Body::json(format!(r#"{{"messages":[{{"content":"{value}"}}]}}"#).into());
            let pointer = "/messages/0/content".into();
            let text = guarding::Text { pointer, kind: "content".into(), role: "user".into(), value };
            let plugin = plugin.clone();
            rows.push((
                format!("regex/{patterns}_{size}"),
                whole(move || {
                    let (plugin, context) = (plugin.clone(), context.clone());
                    let (request, text) = (request.clone(), text.clone());
                    async move { rule(&plugin, &context, &request, &text).await }
                }),
            ));
        }
    }
    rows
}

/// How long each took of a batch, in microseconds: the batches in order of that.
struct Measured(Vec<f64>);

impl Measured {
    fn at(&self, percent: usize) -> f64 {
        self.0.get(self.0.len() * percent / 100).copied().unwrap_or(f64::NAN)
    }
}

/// Batches of about half a millisecond: on a machine that does other things too, most of them aren't interrupted.
async fn warm(work: Work) -> Measured {
    let each = work(20, Caches::Warm).await / 20;
    let batch = (500_000 / u64::try_from(each.as_nanos()).unwrap().max(1)).clamp(1, 1_000);
    measure(work, batch, Caches::Warm).await
}

async fn measure(work: Work, batch: u64, caches: Caches) -> Measured {
    let (ends, mut batches) = (Instant::now() + LENGTH, Vec::new());
    while Instant::now() < ends {
        batches.push(work(batch, caches).await.as_secs_f64() * 1e6 / batch as f64);
    }
    batches.sort_by(f64::total_cmp);
    Measured(batches)
}

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|name| !name.starts_with('-')).collect();
    let folder = tempfile::tempdir().unwrap();
    let runtime = Runtime::start(RuntimeConfig::default(), folder.path(), [7; 32]).unwrap();
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    println!(
        "| µs | at best | median | on two threads, at best | median | with cold caches, at best | median |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|");
    for (name, work) in tokio.block_on(rows(&runtime)) {
        if !wanted.is_empty() && !wanted.iter().any(|wanted| name.contains(wanted)) {
            continue;
        }
        let alone = tokio.block_on(warm(work.clone()));
        let cold = tokio.block_on(measure(work.clone(), 1, Caches::Cold));
        let beside = tokio.block_on(async {
            let (one, other) = (tokio::spawn(warm(work.clone())), tokio::spawn(warm(work)));
            let _ = other.await.unwrap();
            one.await.unwrap()
        });
        print!("| {name} ");
        for measured in [alone, beside, cold] {
            print!("| {:.1} | {:.1} ", measured.at(5), measured.at(50));
        }
        println!("|");
    }
}
