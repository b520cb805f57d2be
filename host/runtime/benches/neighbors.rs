//! What ten runaway guests cost their neighbors: calls of a well-behaved plugin with and without them, in one run.
//!
//! `make bench-plugins` runs it; docs/benchmarks.md holds what it printed. Target: the 99th percentile at most 1.5 times
//! that without them, and no error.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a bench fails by panicking, spawns its own load and prints what it found"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use brokle_runtime::{Body, CallContext, ProviderPlugin, Runtime, RuntimeConfig};

mod common;

use common::{call, component};

/// How many there are.
const RUNAWAYS: usize = 10;
/// Each measurement.
const ROUND: Duration = Duration::from_secs(4);
const TARGET: f64 = 1.5;

async fn prepare(plugin: &ProviderPlugin, model: &str) -> bool {
    let body = Body::json(r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#.into());
    let mut instance = plugin.open(CallContext::default()).await.unwrap();
    instance.prepare(&call(model, false), body).await.is_ok_and(|prepared| prepared.is_ok())
}

/// Four callers, each with a request every two milliseconds or so; each request a task of its own, timed from when it
/// was handed over to when it was done.
async fn calls(plugin: &Arc<ProviderPlugin>) -> Vec<Duration> {
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let plugin = plugin.clone();
            tokio::spawn(async move {
                let (begun, mut times) = (Instant::now(), Vec::new());
                while begun.elapsed() < ROUND {
                    let plugin = plugin.clone();
                    let handed_over = Instant::now();
                    assert!(
                        tokio::spawn(async move { prepare(&plugin, "gpt-4o-mini").await }).await.unwrap()
                    );
                    times.push(handed_over.elapsed());
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                times
            })
        })
        .collect();
    let mut all = Vec::new();
    for caller in callers {
        all.extend(caller.await.unwrap());
    }
    all.sort();
    all
}

fn at(times: &[Duration], share: f64) -> f64 {
    times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e6
}

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = Runtime::start(RuntimeConfig::default(), folder.path(), [7; 32]).unwrap();
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    tokio.block_on(async {
        let good = ProviderPlugin::load(&runtime, &component("guest", "provider_openai")).await.unwrap();
        let bad = ProviderPlugin::load(&runtime, &component("guest-test", "hostile")).await.unwrap();
        let (good, bad) = (Arc::new(good), Arc::new(bad));
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (mut without, mut with) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            without.extend(calls(&good).await);
            stop.store(false, std::sync::atomic::Ordering::SeqCst);
            let runaways: Vec<_> = (0..RUNAWAYS)
                .map(|_| {
                    let (bad, stop) = (bad.clone(), stop.clone());
                    tokio::spawn(async move {
                        while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                            assert!(!prepare(&bad, "spin").await, "a runaway guest came to an end");
                        }
                    })
                })
                .collect();
            with.extend(calls(&good).await);
            stop.store(true, std::sync::atomic::Ordering::SeqCst);
            for runaway in runaways {
                runaway.await.unwrap();
            }
        }
        without.sort();
        with.sort();
        println!(
            "calls of a well-behaved provider, {} processors, us:",
            std::thread::available_parallelism().unwrap()
        );
        for (name, times) in [("alone", &without), ("beside ten runaway guests", &with)] {
            println!(
                "  {name:<26} p50 {:>8.1}  p99 {:>8.1}  calls {}",
                at(times, 0.5),
                at(times, 0.99),
                times.len()
            );
        }
        let ratio = at(&with, 0.99) / at(&without, 0.99);
        println!(
            "  p99 ratio {ratio:.2} (target {TARGET}) {}",
            if ratio <= TARGET { "pass" } else { "FAIL" }
        );
    });
}
