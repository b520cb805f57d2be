//! The recall and precision that the redaction promises, of the component in the sandbox.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test"
)]

#[expect(unreachable_pub, reason = "shared with the native test")]
#[path = "../../../ee-plugins/pii-redaction/recall/measure.rs"]
mod measure;

use brokle_runtime::guarding::{Call, Text, Verdict};
use brokle_runtime::{Body, CallContext, GuardrailPlugin, Runtime, RuntimeConfig};

#[test]
fn recall_and_precision_are_as_promised() {
    let component = std::fs::read(brokle_testkit::built("pii-redaction").unwrap()).unwrap();
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let config = RuntimeConfig { max_instances: 4, ..RuntimeConfig::default() };
    let runtime = Runtime::start(config, scratch.path(), [0; 32]).unwrap();
    let plugin = executor.block_on(GuardrailPlugin::load(&runtime, &component)).unwrap();
    let call = Call {
        operation: "chat.completions".into(),
        model: "m".into(),
        streaming: false,
        request_id: "r".into(),
        retries: 0,
        state: Vec::new(),
        attributes: Vec::new(),
    };
    let scores = measure::score(|text| {
        let shown = Text {
            pointer: "/messages/0/content".into(),
            kind: "content".into(),
            role: "user".into(),
            value: text.into(),
        };
        let ruling = executor.block_on(async {
            let mut instance = plugin.open(CallContext::default()).await.unwrap();
            let body = Body::json(bytes::Bytes::from_static(b"{}"));
            instance.on_request(&call, body, &[shown]).await.unwrap().unwrap()
        });
        let Verdict::Change(edits) = ruling.verdict else { return Vec::new() };
        let named = |edit: brokle_runtime::guarding::Edit| {
            let entity = edit.replacement.trim_matches(['<', '>']).to_owned();
            (entity, edit.start as usize..edit.end as usize)
        };
        edits.into_iter().map(named).collect()
    });
    measure::hold(&scores);
}
