//! Batches of a provider that has no files: their lines go with them.

use std::sync::Mutex;

use brokle_gateway::files::Place as Kept;
use brokle_storage::sql::api_keys::Restrictions;

use super::*;

mod gemini;
mod mistral;

/// A vendor's batch, and what it says of it.
#[derive(Default)]
struct State {
    requests: Vec<Value>,
    status: &'static str,
    cancelled: bool,
    results: Vec<Value>,
    /// Comes with what it says of the batch.
    padding: String,
}

/// A vendor with one batch, in Anthropic's form.
async fn vendor() -> (Vendor, Arc<Mutex<State>>) {
    let state = Arc::new(Mutex::new(State { status: "in_progress", ..State::default() }));
    let told = Arc::clone(&state);
    let vendor = Vendor::start(move |seen| {
        let mut state = told.lock().unwrap();
        let batch = |state: &State| {
            let count = |kind: &str| state.results.iter().filter(|line| line["result"]["type"] == kind).count();
            let counts = json!({"processing": state.requests.len() - state.results.len(), "succeeded": count("succeeded"),
                "errored": count("errored"), "canceled": count("canceled"), "expired": count("expired")});
            let cancelled = state.cancelled.then_some("2026-01-01T00:00:00Z");
            let id = format!("msgbatch_theirs{}", state.padding);
            reply(200, &json!({"id": id, "type": "message_batch", "processing_status": state.status,
                "request_counts": counts, "cancel_initiated_at": cancelled}))
        };
        match (seen.method.as_str(), seen.path.as_str()) {
            ("POST", "/v1/messages/batches") => {
                let mut body: Value = serde_json::from_slice(&seen.body).unwrap();
                assert_eq!(body.as_object().unwrap().len(), 1, "Anthropic refuses members that it doesn't know");
                state.requests = serde_json::from_value(body["requests"].take()).unwrap();
                batch(&state)
            }
            ("GET", "/v1/messages/batches/msgbatch_theirs") => batch(&state),
            ("POST", "/v1/messages/batches/msgbatch_theirs/cancel") => {
                (state.cancelled, state.status) = (true, "canceling");
                batch(&state)
            }
            ("GET", "/v1/messages/batches/msgbatch_theirs/results") => {
                let lines: String = state.results.iter().map(|line| format!("{line}\n")).collect();
                (200, "application/x-jsonl", lines.into())
            }
            ("DELETE", "/v1/messages/batches/msgbatch_theirs") => {
                reply(200, &json!({"id": "msgbatch_theirs", "type": "message_batch_deleted"}))
            }
            _ => reply(404, &json!({"type": "error", "error": {"type": "not_found_error", "message": "none"}})),
        }
    })
    .await;
    (vendor, state)
}

fn asks(id: &str, model: &str) -> String {
    let messages = json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]);
    let body = json!({"model": model, "max_tokens": 9, "messages": messages});
    json!({"custom_id": id, "method": "POST", "url": URL, "body": body}).to_string()
}

fn succeeded(id: &str, input: u64, output: u64) -> Value {
    json!({"custom_id": id, "result": {"type": "succeeded", "message": {"id": "msg_1", "type": "message", "role": "assistant",
        "model": "claude-sonnet-4-5", "content": [{"type": "text", "text": "to\nyou"}], "stop_reason": "end_turn",
        "usage": {"input_tokens": input, "output_tokens": output}}}})
}

impl Server {
    async fn kept(&self, world: &World, lines: &[String]) -> String {
        let caller = world.caller().await;
        let Kept::Here(connection) = self.files.place(&caller, "vendor").await.unwrap() else {
            panic!("the vendor has files")
        };
        let new = NewFile {
            filename: "lines.jsonl".into(),
            purpose: "batch".into(),
            content: lines.join("\n").into(),
            keep: None,
            connection: Some(connection),
        };
        files::write_id(self.files.create(caller.tenant, new).await.unwrap().id)
    }

    async fn made(
        &self,
        world: &World,
        key: &str,
        lines: &[String],
        endpoint: &str,
    ) -> Result<String, String> {
        let caller = world.keys.authenticate(key).await.unwrap();
        let new = NewBatch {
            endpoint: endpoint.into(),
            input_file_id: self.kept(world, lines).await,
            completion_window: "24h".into(),
            metadata: serde_json::Map::new(),
        };
        match self.batches.create(&caller, new).await {
            Ok(batch) => Ok(batches::write_id(batch.id)),
            Err(refusal) => Err(refusal.message),
        }
    }
}

#[tokio::test]
async fn lines_go_with_the_batch_and_results_come_in_openais_form() {
    let (vendor, state) = vendor().await;
    let place = Place::of("provider_anthropic", &vendor, Extra::default()).await;
    let (server, tenant) = (place.started(), place.world.tenant);
    // As the vendor names its model, and as other calls do.
    let lines = [
        asks("a", "claude-sonnet-4-5"),
        asks("b", "anthropic/claude-sonnet-4-5"),
        asks("c", "claude-sonnet-4-5"),
    ];
    let id = server.made(&place.world, &place.world.key, &lines, URL).await.unwrap();
    server.until(tenant, &id, |batch| batch.status == BatchStatus::InProgress).await;
    {
        let mut state = state.lock().unwrap();
        let params = json!({"model": "claude-sonnet-4-5", "max_tokens": 9, "system": [{"type": "text", "text": "Be brief."}],
            "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}], "stream": false});
        let expected: Vec<_> = ["a", "b", "c"].map(|id| json!({"custom_id": id, "params": params})).into();
        assert_eq!(state.requests, expected);
        let error =
            json!({"type": "error", "error": {"type": "invalid_request_error", "message": "too odd"}});
        state.results = vec![
            succeeded("b", 1_000_000, 0),
            json!({"custom_id": "c", "result": {"type": "errored", "error": error}}),
            succeeded("a", 0, 1_000_000),
        ];
        state.status = "ended";
    }
    let batch = server.ended(tenant, &id).await;
    assert_eq!((batch.status, batch.counts), (BatchStatus::Completed, (3, 2, 1)), "{batch:?}");
    let output = server.lines(tenant, batch.output).await;
    assert_eq!(ids(&output), ["b", "c", "a"]);
    let [first, wrong] = [&output[0]["response"], &output[1]["response"]];
    assert_eq!((&first["status_code"], &output[0]["error"]), (&json!(200), &Value::Null));
    assert_eq!(first["body"]["choices"][0]["message"]["content"], "to\nyou");
    assert_eq!(first["body"]["usage"]["prompt_tokens"], 1_000_000);
    assert_eq!((&wrong["status_code"], &wrong["body"]["error"]["message"]), (&json!(400), &json!("too odd")));
    // Batch prices: half of 3 and 15.
    let trace = place.world.only_trace().await;
    assert_eq!((&trace["cost"], &trace["usage"]["total"]), (&json!("9"), &json!(2_000_000)), "{trace:#}");
    let found = server.files.get(tenant, &files::write_id(batch.output.unwrap())).await.unwrap();
    assert_eq!(server.files.state(&found).await.unwrap(), "processed");
    server.files.delete(tenant, &files::write_id(found.id)).await.unwrap();
    assert!(vendor.seen("/v1/messages").iter().any(|seen| seen.method == "DELETE"), "gone there, too");
    assert_eq!(
        vendor.seen("/v1/messages/batches").iter().filter(|seen| seen.path.ends_with("/batches")).count(),
        1
    );
    server.stopped().await;
}

#[tokio::test]
async fn what_cant_be_a_line_is_told_by_its_line_and_nothing_is_asked() {
    let (vendor, _) = vendor().await;
    let place = Place::of("provider_anthropic", &vendor, Extra::default()).await;
    let (server, world) = (place.started(), &place.world);
    let odd = [
        asks("a", "claude-sonnet-4-5"),
        asks("not plain!", "claude-sonnet-4-5"),
        asks("c", "claude-sonnet-4-5").replace("\"hi\"", "7"),
    ];
    let id = server.made(world, &world.key, &odd, URL).await.unwrap();
    let batch = server.ended(world.tenant, &id).await;
    let told = |batch: &Batch| -> Vec<_> {
        let errors = batch.errors.as_array().unwrap().iter();
        errors.map(|error| (error["line"].clone(), error["param"].clone())).collect()
    };
    assert_eq!(batch.status, BatchStatus::Failed);
    assert_eq!(
        told(&batch),
        [(json!(2), json!("custom_id")), (json!(3), json!("messages[1].content"))],
        "{batch:?}"
    );

    let restrictions = Restrictions { models: vec!["claude-haiku-4-5".into()], ..Restrictions::default() };
    let key = world.restricted_key(restrictions).await;
    let lines = [asks("a", "claude-haiku-4-5"), asks("b", "claude-sonnet-4-5")];
    let id = server.made(world, &key, &lines, URL).await.unwrap();
    let batch = server.ended(world.tenant, &id).await;
    assert_eq!(
        (told(&batch), &batch.errors[0]["code"]),
        (vec![(json!(2), json!("body.model"))], &json!("model_not_allowed"))
    );

    let refused = server.made(world, &world.key, &lines, "/v1/embeddings").await.unwrap_err();
    assert!(refused.contains("/v1/chat/completions"), "{refused}");
    assert!(vendor.seen("/").is_empty());
    server.stopped().await;
}

#[tokio::test]
async fn a_cancelled_batch_is_cancelled_there_and_what_it_used_is_accounted() {
    let (vendor, state) = vendor().await;
    let place = Place::of("provider_anthropic", &vendor, Extra::default()).await;
    let (server, tenant) = (place.started(), place.world.tenant);
    let lines = [asks("a", "claude-sonnet-4-5"), asks("b", "claude-sonnet-4-5")];
    let id = server.made(&place.world, &place.world.key, &lines, URL).await.unwrap();
    server.until(tenant, &id, |batch| batch.status == BatchStatus::InProgress).await;
    server.batches.cancel(tenant, &id).await.unwrap();
    server.until(tenant, &id, |_| state.lock().unwrap().cancelled).await;
    {
        let mut state = state.lock().unwrap();
        state.results =
            vec![succeeded("a", 1_000_000, 0), json!({"custom_id": "b", "result": {"type": "canceled"}})];
        state.status = "ended";
    }
    let batch = server.ended(tenant, &id).await;
    assert_eq!((batch.status, batch.counts), (BatchStatus::Cancelled, (2, 1, 1)), "{batch:?}");
    let output = server.lines(tenant, batch.output).await;
    assert_eq!(
        (&output[1]["response"], &output[1]["error"]["code"]),
        (&Value::Null, &json!("batch_cancelled"))
    );
    assert_eq!(place.world.only_trace().await["cost"], "1.5");
    server.stopped().await;
}

#[tokio::test]
async fn an_answer_of_more_than_a_mebibyte_is_none() {
    let (vendor, state) = vendor().await;
    let place = Place::of("provider_anthropic", &vendor, Extra::default()).await;
    let (server, tenant) = (place.started(), place.world.tenant);
    let lines = [asks("a", "claude-sonnet-4-5")];
    let id = server.made(&place.world, &place.world.key, &lines, URL).await.unwrap();
    server.until(tenant, &id, |batch| batch.status == BatchStatus::InProgress).await;
    {
        let mut state = state.lock().unwrap();
        (state.results, state.status) = (vec![succeeded("a", 3, 2)], "ended");
        state.padding = "0".repeat((1 << 20) + 1);
    }
    let looked = || vendor.seen("/v1/messages").iter().filter(|seen| seen.method == "GET").count();
    let before = looked();
    let batch = server.until(tenant, &id, |_| looked() >= before + 3).await;
    assert_eq!((batch.status, batch.ended_at), (BatchStatus::InProgress, None), "{batch:?}");
    // It is asked again, and what it says then counts.
    state.lock().unwrap().padding.clear();
    let batch = server.ended(tenant, &id).await;
    assert_eq!((batch.status, batch.counts), (BatchStatus::Completed, (1, 1, 0)), "{batch:?}");
    server.stopped().await;
}

#[tokio::test]
async fn an_upload_takes_one_of_the_keys_requests_wherever_it_is_kept() {
    for (plugin, here) in [("provider_anthropic", true), ("provider_openai", false)] {
        let (vendor, _) = vendor().await;
        let place = Place::of(plugin, &vendor, Extra::default()).await;
        let caller = place.world.keys.authenticate(&place.world.limited_key(2).await).await.unwrap();
        let server = place.server();
        for _ in 0..2 {
            let kept = server.files.place(&caller, "vendor").await.unwrap();
            assert_eq!(matches!(kept, Kept::Here(_)), here, "{plugin}");
        }
        let refused = server.files.place(&caller, "vendor").await.err().unwrap();
        assert_eq!((refused.status, refused.code.as_ref()), (429, "rate_limit_exceeded"), "{plugin}");
    }
}
