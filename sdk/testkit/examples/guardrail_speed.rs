//! How fast a guardrail reads in the sandbox: `cargo run --release -p brokle-testkit --example guardrail_speed -- FILE.wasm`.
//!
//! Shows it one text of 512 KiB of labelled sentences, over and over, and prints the best of ten rounds: a busy machine
//! makes a round slower, nothing makes one faster. The making of the instance and the copy into the sandbox are in it.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "prints what it measures")]

use std::time::Instant;

use brokle_runtime::guarding::{Call, Text};
use brokle_runtime::{Body, CallContext, GuardrailPlugin, Runtime, RuntimeConfig};

const SENTENCES: &str = include_str!("../../../ee-plugins/pii-redaction/recall/sentences.jsonl");

fn main() {
    let file = std::env::args().nth(1).unwrap_or_default();
    let component = std::fs::read(&file).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let runtime = Runtime::start(RuntimeConfig::default(), scratch.path(), [0; 32]).unwrap();
    let plugin = executor.block_on(GuardrailPlugin::load(&runtime, &component)).unwrap();
    let mut text = String::new();
    while text.len() < 512 << 10 {
        for line in SENTENCES.lines() {
            let sentence: serde_json::Value = serde_json::from_str(line).unwrap();
            text.push_str(sentence.get("text").and_then(|text| text.as_str()).unwrap_or_default());
            text.push('\n');
        }
    }
    let call = Call {
        operation: "chat.completions".into(),
        model: "m".into(),
        streaming: false,
        request_id: "r".into(),
        retries: 0,
        state: Vec::new(),
        attributes: Vec::new(),
    };
    let bytes = text.len() as f64;
    let texts = [Text {
        pointer: "/messages/0/content".into(),
        kind: "content".into(),
        role: "user".into(),
        value: text,
    }];
    let mut best = f64::MAX;
    for _ in 0..10 {
        let started = Instant::now();
        executor.block_on(async {
            let mut instance = plugin.open(CallContext::default()).await.unwrap();
            let body = Body::json(bytes::Bytes::from_static(b"{}"));
            instance.on_request(&call, body, &texts).await.unwrap().unwrap();
        });
        best = best.min(started.elapsed().as_secs_f64());
    }
    println!("{} bytes in {:.1} ms: {:.0} MB/s", bytes, best * 1e3, bytes / best / 1e6);
}
