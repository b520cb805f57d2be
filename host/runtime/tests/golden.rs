//! Components of earlier days still load and work: see golden/README.md.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use brokle_runtime::exchange::{BodyPlan, Call, Ending, Frame, Output, Preparation, ResponseHead};
use brokle_runtime::facts::{Candidate, Request, Stats};
use brokle_runtime::guarding::{self, Text};
use brokle_runtime::{
    Body, CallContext, GuardrailPlugin, PolicyPlugin, ProviderPlugin, Runtime, RuntimeConfig, inspect,
};
use brokle_testkit::mocks::MockHost;
use serde_json::json;

/// The folders, one for each version of the contract.
fn versions() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let entries = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    let folders: Vec<_> = entries.filter(|path| path.is_dir()).collect();
    assert!(!folders.is_empty());
    folders
}

fn read(folder: &Path, name: &str) -> Vec<u8> {
    let path = folder.join(format!("{name}.wasm"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn runtime(folder: &tempfile::TempDir) -> Runtime {
    let config = RuntimeConfig { max_instances: 8, ..RuntimeConfig::default() };
    Runtime::start(config, folder.path(), [7; 32]).unwrap()
}

fn call(streaming: bool) -> Call {
    Call {
        operation: "chat.completions".into(),
        model: "m-1".into(),
        streaming,
        format: "canonical".into(),
        content_type: "application/json".into(),
        request_id: "01J0000000000000000000TEST".into(),
        created: 1_700_000_000,
        options: b"{}".to_vec(),
        attributes: vec![],
    }
}

fn body() -> Body {
    Body::json(r#"{"model":"x","max_tokens":5,"messages":[{"role":"user","content":"hi"}]}"#.into())
}

#[tokio::test]
async fn native_providers() {
    for version in versions() {
        let folder = tempfile::tempdir().unwrap();
        let plugin =
            ProviderPlugin::load(&runtime(&folder), &read(&version, "provider_openai")).await.unwrap();
        let mut instance = plugin.open(CallContext::default()).await.unwrap();
        let Preparation::Request(request) = instance.prepare(&call(true), body()).await.unwrap().unwrap()
        else {
            panic!("no request")
        };
        assert_eq!(request.path, "/chat/completions");
        let head = ResponseHead { status: 429, headers: vec![] };
        instance
            .map_error(&call(true), &head, br#"{"error":{"message":"slow down"}}"#.to_vec())
            .await
            .unwrap();
        assert!(plugin.check_config(b"{}").await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn translating_providers() {
    for version in versions() {
        let folder = tempfile::tempdir().unwrap();
        let plugin =
            ProviderPlugin::load(&runtime(&folder), &read(&version, "provider_anthropic")).await.unwrap();
        let mut instance = plugin.open(CallContext::default()).await.unwrap();
        let Preparation::Request(request) = instance.prepare(&call(false), body()).await.unwrap().unwrap()
        else {
            panic!("no request")
        };
        let BodyPlan::Replaced(payload) = request.body else { panic!("the body stays") };
        let sent: serde_json::Value = serde_json::from_slice(&payload.data).unwrap();
        assert_eq!((sent["model"].as_str(), sent["max_tokens"].as_u64()), (Some("m-1"), Some(5)));
        let head = ResponseHead { status: 200, headers: vec![] };
        instance.begin_decoding(&call(false), &head, &[]).await.unwrap();
        let answer = json!({
            "id": "msg_1", "type": "message", "role": "assistant", "model": "m-1", "stop_reason": "end_turn",
            "content": [{ "type": "text", "text": "hello" }], "usage": { "input_tokens": 1, "output_tokens": 2 },
        });
        let frame = Frame { event: String::new(), data: answer.to_string().into_bytes() };
        let mut outputs = instance.push(&[frame]).await.unwrap().unwrap();
        let Ending { outputs: last, next } = instance.finish().await.unwrap().unwrap();
        outputs.extend(last);
        assert!(next.is_none());
        let chunk = outputs.iter().find_map(|output| match output {
            Output::Chunk(json) => serde_json::from_slice::<serde_json::Value>(json).ok(),
            _ => None,
        });
        assert_eq!(chunk.unwrap()["choices"][0]["message"]["content"], "hello");
    }
}

#[tokio::test]
async fn policies() {
    for version in versions() {
        let folder = tempfile::tempdir().unwrap();
        let plugin = PolicyPlugin::load(&runtime(&folder), &read(&version, "policy_priority")).await.unwrap();
        let candidate = |priority| Candidate {
            connection: "c".into(),
            provider: "p".into(),
            model: "m".into(),
            priority,
            weight: 1,
            available: true,
            stats: Stats {
                latency_ms: Some(1.0),
                first_token_ms: None,
                error_rate: Some(0.5),
                in_flight: 1,
                remaining_requests: Some(2),
                remaining_tokens: None,
            },
            input_price: Some(0.1),
            output_price: None,
            context_window: Some(8_192),
            features: vec!["tools".into()],
            attributes: vec![("region".into(), "eu".into())],
        };
        let request = Request {
            operation: "chat.completions".into(),
            model: "m".into(),
            streaming: true,
            body_size: 10,
            input_tokens: 3,
            max_output_tokens: Some(4),
            features: vec!["tools".into()],
            affinity: Some(7),
            entropy: 1,
            attributes: vec![],
        };
        let candidates = [candidate(5), candidate(1)];
        let (plan, _) = plugin.decide(CallContext::default(), &request, &candidates).await.unwrap();
        assert_eq!(plan.unwrap().order, [1, 0]);
    }
}

/// It imports every interface that a grant may bring.
#[tokio::test]
async fn guardrails_and_every_capability() {
    for version in versions() {
        let bytes = read(&version, "capable");
        let mut imports: Vec<_> = inspect(&bytes).unwrap().imports;
        imports.retain(|import| import.starts_with("brokle:host/"));
        let offered = ["clock", "crypto", "http", "kv", "log", "random", "secrets", "telemetry"];
        for name in offered {
            assert!(
                imports.iter().any(|import| import.contains(&format!("/{name}@"))),
                "{name}: {imports:?}"
            );
        }
        let folder = tempfile::tempdir().unwrap();
        let plugin = GuardrailPlugin::load(&runtime(&folder), &bytes).await.unwrap();
        let host = MockHost::default();
        let grants = brokle_runtime::grants::Grants::from_value(&json!({ "kv": {} })).unwrap();
        let granted = brokle_runtime::capabilities::PluginCapabilities::configure(
            plugin.manifest(),
            &grants,
            &host.services(),
        );
        let capabilities = Some(granted.unwrap().prepare(MockHost::tenant(1), None));
        let context = CallContext { capabilities, ..CallContext::default() };
        let mut instance = plugin.open(context).await.unwrap();
        let asked = guarding::Call {
            operation: "chat.completions".into(),
            model: "m".into(),
            streaming: false,
            request_id: "01J0000000000000000000TEST".into(),
            retries: 0,
            state: vec![],
            attributes: vec![],
        };
        let lines = ["kv set greeting hello", "kv get greeting"];
        let texts: Vec<Text> = lines
            .iter()
            .map(|line| Text {
                pointer: "/messages/0/content".into(),
                kind: "content".into(),
                role: "user".into(),
                value: (*line).into(),
            })
            .collect();
        let ruling = instance.on_request(&asked, body(), &texts).await.unwrap().unwrap();
        let came = String::from_utf8_lossy(&ruling.annotations[0].value);
        assert!(came.contains("hello"), "{came}");
    }
}
