//! Versions are swapped while calls are served.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use brokle_plugins::{Active, Snapshot, View};
use brokle_runtime::{PolicyPlugin, ProviderPlugin};
use brokle_test_upstream::{Fault, Upstream, content as expected};

use crate::harness::{World, component, content, openai, world};

const SWAPS: u32 = 100;

/// A provider under another version number, of the same length.
fn release(name: &str, version: &str) -> Vec<u8> {
    let mut bytes = component(name);
    for (from, to) in [
        (r#""version": "0.1.0""#.to_owned(), format!(r#""version": "{version}""#)),
        (r#""version":"0.1.0""#.to_owned(), format!(r#""version":"{version}""#)),
    ] {
        let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
        bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
    }
    bytes
}

fn snapshot(provider: &Arc<ProviderPlugin>, policy: &Arc<PolicyPlugin>) -> Snapshot {
    let mut view = View::new();
    view.add_provider(Active::plain(provider.clone()));
    view.add_policy(Active::plain(policy.clone()));
    Snapshot::new(view)
}

async fn call(world: &World, number: u32) {
    if number.is_multiple_of(2) {
        let answer = world.chat("gpt-4o-mini", "").await;
        assert_eq!(answer.status(), 200, "{}", answer.text().await);
    } else {
        let answer = world.chat("gpt-4o-mini", r#","stream":true"#).await;
        assert_eq!(answer.status(), 200);
        let events = answer.events().await;
        assert_eq!(content(&events), expected(&Fault::default()), "a whole stream");
        assert!(events.iter().all(|event| event["error"].is_null()), "{events:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_swaps_under_load_fail_no_call_and_break_no_stream() {
    let upstream = Upstream::start().await.unwrap();
    let world = Arc::new(world(vec![openai("main", &upstream, 0)]).await);
    let policy = Arc::new(PolicyPlugin::load(&world.runtime, &component("policy_priority")).await.unwrap());
    let old = ProviderPlugin::load(&world.runtime, &component("provider_openai")).await.unwrap();
    let new = ProviderPlugin::load(&world.runtime, &release("provider_openai", "0.2.0")).await.unwrap();
    let versions = [Arc::new(old), Arc::new(new)];
    let (done, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let mut callers = Vec::new();
    for caller in 0..6 {
        let (world, done, served) = (world.clone(), done.clone(), served.clone());
        #[expect(clippy::disallowed_methods, reason = "a test has no task tracker")]
        callers.push(tokio::spawn(async move {
            let mut number = caller;
            while !done.load(Ordering::SeqCst) {
                call(&world, number).await;
                served.fetch_add(1, Ordering::SeqCst);
                number += 1;
            }
        }));
    }
    for swap in 0..SWAPS {
        // Each version serves some calls before the next one takes its place.
        let before = served.load(Ordering::SeqCst);
        world.plugins.store(snapshot(&versions[swap as usize % 2], &policy));
        while served.load(Ordering::SeqCst) < before + 3 && callers.iter().all(|caller| !caller.is_finished())
        {
            tokio::task::yield_now().await;
        }
    }
    done.store(true, Ordering::SeqCst);
    for caller in callers {
        caller.await.unwrap();
    }
    assert!(served.load(Ordering::SeqCst) >= SWAPS * 3);
    let metrics = world.metrics.encode().unwrap();
    assert!(!metrics.contains("status=\"server_error\""), "{metrics}");
    assert_eq!(world.runtime.instances(), 0);
    let plugins: Vec<String> = world.traces().await.iter().map(|trace| trace["status"].to_string()).collect();
    assert!(plugins.iter().all(|status| status == "\"ok\""), "{plugins:?}");
}

#[tokio::test]
async fn a_provider_that_is_switched_off_has_no_connections_until_it_is_back() {
    let upstream = Upstream::start().await.unwrap();
    let world = world(vec![openai("main", &upstream, 0)]).await;
    assert_eq!(world.chat("openai/gpt-4o-mini", "").await.status(), 200);
    let before = world.plugins.load();
    world.plugins.store(Snapshot::new(View::new()));
    let answer = world.chat("openai/gpt-4o-mini", "").await;
    assert_eq!(
        (answer.status(), answer.json().await["error"]["code"].as_str()),
        (404, Some("model_not_found"))
    );
    let provider = before.instance().provider("openai").unwrap();
    let policy = before.instance().policy("priority").unwrap();
    world.plugins.store(snapshot(&provider.plugin, &policy.plugin));
    assert_eq!(world.chat("openai/gpt-4o-mini", "").await.status(), 200);
}
