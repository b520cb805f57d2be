//! Mistral's batch jobs: one model's, their results in two files.

use super::*;

const JOB: &str = "4017dc9f-b629-42f4-9700-8c681b9e7f0f";
const MODEL: &str = "mistral-small-latest";

/// A vendor's job, and what it says of it.
struct State {
    asked: Value,
    status: &'static str,
    good: Vec<Value>,
    failures: Vec<Value>,
    errors: Value,
}

/// A vendor with one job, in Mistral's form.
async fn vendor() -> (Vendor, Arc<Mutex<State>>) {
    let state =
        State { asked: Value::Null, status: "QUEUED", good: vec![], failures: vec![], errors: json!([]) };
    let state = Arc::new(Mutex::new(state));
    let told = Arc::clone(&state);
    let vendor = Vendor::start(move |seen| {
        let mut state = told.lock().unwrap();
        let job = |state: &State| {
            let file = |name: &str, lines: &[Value]| (!lines.is_empty()).then(|| name.to_owned());
            reply(200, &json!({"id": JOB, "object": "batch", "input_files": [], "endpoint": URL, "model": MODEL,
                "output_file": file("theirs-good", &state.good), "error_file": file("theirs-bad", &state.failures),
                "errors": state.errors, "status": state.status, "created_at": 1, "completed_requests": 0,
                "total_requests": state.asked["requests"].as_array().map_or(0, Vec::len),
                "succeeded_requests": state.good.len(), "failed_requests": state.failures.len()}))
        };
        let content = |lines: &[Value]| -> Reply {
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            (200, "application/octet-stream", text.into())
        };
        match (seen.method.as_str(), seen.path.strip_prefix("/batch/jobs").unwrap_or(&seen.path)) {
            ("POST", "") => {
                state.asked = serde_json::from_slice(&seen.body).unwrap();
                job(&state)
            }
            ("GET", path) if path == format!("/{JOB}?inline=false") => job(&state),
            ("POST", path) if path == format!("/{JOB}/cancel") => {
                state.status = "CANCELLATION_REQUESTED";
                job(&state)
            }
            ("GET", "/files/theirs-good/content") => content(&state.good),
            ("GET", "/files/theirs-bad/content") => content(&state.failures),
            ("DELETE", path) => reply(200, &json!({"id": path, "object": "file", "deleted": true})),
            _ => reply(404, &json!({"message": "none"})),
        }
    })
    .await;
    (vendor, state)
}

fn answered(id: &str, status: u16, body: &Value) -> Value {
    json!({"id": format!("batch-{id}"), "custom_id": id, "response": {"status_code": status, "body": body}, "error": null})
}

fn good(id: &str, input: u64, output: u64) -> Value {
    let thinking = json!({"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]});
    let message = json!({"role": "assistant", "content": [thinking, {"type": "text", "text": "to\nyou"}], "tool_calls": null});
    let body = json!({"id": "c", "object": "chat.completion", "model": MODEL, "created": 1,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output}});
    answered(id, 200, &body)
}

#[tokio::test]
async fn lines_go_with_the_job_and_both_files_come_in_openais_form() {
    let (vendor, state) = vendor().await;
    let place = Place::of("provider_mistral", &vendor, Extra::default()).await;
    let (server, tenant) = (place.started(), place.world.tenant);
    let named = format!("mistral/{MODEL}");
    let lines = [asks("a", MODEL), asks("b", &named), asks("not plain!", MODEL)];
    let id = server.made(&place.world, &place.world.key, &lines, URL).await.unwrap();
    // How many lines there are is on record with the first look at the job, after its id.
    let batch = server.until(tenant, &id, |batch| batch.counts.0 == 3).await;
    assert_eq!(batch.vendor_id.as_deref(), Some(JOB), "{batch:?}");
    {
        let mut state = state.lock().unwrap();
        let messages = json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]);
        let body = json!({"model": MODEL, "max_tokens": 9, "messages": messages, "stream": false});
        let requests: Vec<_> =
            ["a", "b", "not plain!"].map(|id| json!({"custom_id": id, "body": body})).into();
        let expected = json!({"requests": requests, "endpoint": URL, "model": MODEL, "timeout_hours": 24,
            "metadata": {"brokle_batch_id": id}});
        assert_eq!(state.asked, expected);
        state.good = vec![good("b", 1_000_000, 0), good("a", 0, 1_000_000)];
        let refusal = json!({"object": "error", "message": "too odd", "type": "invalid_request_error"});
        state.failures = vec![answered("not plain!", 422, &refusal)];
        state.status = "SUCCESS";
    }
    let batch = server.ended(tenant, &id).await;
    assert_eq!((batch.status, batch.counts), (BatchStatus::Completed, (3, 2, 1)), "{batch:?}");
    let output = server.lines(tenant, batch.output).await;
    assert_eq!(ids(&output), ["b", "a"]);
    let message = &output[0]["response"]["body"]["choices"][0]["message"];
    assert_eq!((&message["content"], &message["reasoning_content"]), (&json!("to\nyou"), &json!("Hm.")));
    let failures = server.lines(tenant, batch.failures).await;
    let wrong = &failures[0]["response"];
    assert_eq!((ids(&failures), &wrong["status_code"]), (vec!["not plain!"], &json!(422)));
    assert_eq!(wrong["body"]["error"]["message"], "too odd");
    // The catalogue has no prices for batches of it: 0.15 and 0.60.
    let trace = place.world.only_trace().await;
    assert_eq!((&trace["cost"], &trace["usage"]["total"]), (&json!("0.75"), &json!(2_000_000)), "{trace:#}");
    for file in [batch.output, batch.failures] {
        server.files.delete(tenant, &files::write_id(file.unwrap())).await.unwrap();
    }
    let deleted = vendor.seen("/files").into_iter().filter(|seen| seen.method == "DELETE");
    let deleted: Vec<_> = deleted.map(|seen| seen.path).collect();
    assert_eq!(deleted, ["/files/theirs-good", "/files/theirs-bad"], "gone there, too");
    assert_eq!(vendor.seen("/batch/jobs").iter().filter(|seen| seen.path == "/batch/jobs").count(), 1);
    server.stopped().await;
}

#[tokio::test]
async fn a_line_of_another_model_or_that_mistral_lacks_is_told_and_nothing_is_asked() {
    let (vendor, _) = vendor().await;
    let place = Place::of("provider_mistral", &vendor, Extra::default()).await;
    let (server, world) = (place.started(), &place.world);
    let lines = [
        asks("a", MODEL),
        asks("b", "mistral-large-latest"),
        asks("c", MODEL).replace("\"max_tokens\":9", "\"logprobs\":true"),
        asks("d", MODEL),
    ];
    let id = server.made(world, &world.key, &lines, URL).await.unwrap();
    let batch = server.ended(world.tenant, &id).await;
    let told = batch.errors.as_array().unwrap().iter();
    let told: Vec<_> = told.map(|error| json!([error["line"], error["code"], error["param"]])).collect();
    let expected = [json!([2, "mismatched_model", "body.model"]), json!([3, "unsupported", "logprobs"])];
    assert_eq!((batch.status, told), (BatchStatus::Failed, expected.to_vec()), "{batch:?}");
    assert!(vendor.seen("/").is_empty());
    server.stopped().await;
}

#[tokio::test]
async fn a_cancelled_job_is_cancelled_there_and_one_that_fails_says_why() {
    let (vendor, state) = vendor().await;
    let place = Place::of("provider_mistral", &vendor, Extra::default()).await;
    let (server, tenant) = (place.started(), place.world.tenant);
    let lines = [asks("a", MODEL), asks("b", MODEL)];
    let id = server.made(&place.world, &place.world.key, &lines, URL).await.unwrap();
    server.until(tenant, &id, |batch| batch.vendor_id.as_deref() == Some(JOB)).await;
    server.batches.cancel(tenant, &id).await.unwrap();
    server.until(tenant, &id, |_| state.lock().unwrap().status == "CANCELLATION_REQUESTED").await;
    {
        let mut state = state.lock().unwrap();
        (state.good, state.status) = (vec![good("a", 1_000_000, 0)], "CANCELLED");
    }
    let batch = server.ended(tenant, &id).await;
    assert_eq!((batch.status, batch.counts), (BatchStatus::Cancelled, (2, 1, 0)), "{batch:?}");
    assert_eq!(ids(&server.lines(tenant, batch.output).await), ["a"]);
    assert_eq!(place.world.only_trace().await["cost"], "0.15");
    {
        let mut state = state.lock().unwrap();
        (state.good, state.status) = (vec![], "FAILED");
        state.errors = json!([{"message": "no such model", "count": 2}]);
    }
    let id = server.made(&place.world, &place.world.key, &lines, URL).await.unwrap();
    let batch = server.ended(tenant, &id).await;
    assert_eq!((batch.status, &batch.errors[0]["message"]), (BatchStatus::Failed, &json!("no such model")));
    assert!(batch.output.is_none() && batch.failures.is_none());
    server.stopped().await;
}
