//! Gemini's batches: one model's, of which only their results tell how they went.

use super::*;

const MODEL: &str = "gemini-2.5-flash";
const ASKED: &str = "/v1beta/models/gemini-2.5-flash:batchGenerateContent";

/// A vendor's batch, and what it says of it.
#[derive(Default)]
struct State {
    asked: Value,
    cancelled: bool,
    /// How it ended.
    ended: Option<Value>,
    results: Vec<Value>,
}

/// A vendor with one batch, in Google's form. It tells no more than it is asked for.
async fn vendor() -> (Vendor, Arc<Mutex<State>>) {
    let state = Arc::new(Mutex::new(State::default()));
    let told = Arc::clone(&state);
    let vendor = Vendor::start(move |seen| {
        let mut state = told.lock().unwrap();
        let path = seen.path.strip_prefix("/v1beta/batches/theirs");
        match (seen.method.as_str(), path) {
            ("POST", None) if seen.path == format!("{ASKED}?fields=name,done,error") => {
                state.asked = serde_json::from_slice(&seen.body).unwrap();
                reply(200, &json!({"name": "batches/theirs"}))
            }
            ("GET", Some("?fields=name,done,error")) => {
                let mut told = state.ended.clone().unwrap_or_else(|| json!({}));
                told["name"] = "batches/theirs".into();
                reply(200, &told)
            }
            ("GET", Some("?fields=response")) if state.results.is_empty() => reply(200, &json!({})),
            ("GET", Some("?fields=response")) => {
                let all = json!({"@type": "theirs", "inlinedResponses": {"inlinedResponses": state.results}});
                reply(200, &json!({"response": all}))
            }
            ("POST", Some(":cancel")) => {
                state.cancelled = true;
                reply(200, &json!({}))
            }
            ("DELETE", Some("")) => reply(200, &json!({})),
            _ => reply(404, &json!({"error": {"code": 404, "message": "none", "status": "NOT_FOUND"}})),
        }
    })
    .await;
    (vendor, state)
}

fn succeeded(id: &str, text: &str, input: u64, output: u64) -> Value {
    let content = json!({"parts": [{"text": text}], "role": "model"});
    let usage =
        json!({"promptTokenCount": input, "candidatesTokenCount": output, "totalTokenCount": input + output});
    let response = json!({"candidates": [{"content": content, "finishReason": "STOP", "index": 0}],
        "usageMetadata": usage, "modelVersion": MODEL});
    json!({"response": response, "metadata": {"key": id}})
}

fn errored(id: &str, code: u16, message: &str) -> Value {
    json!({"error": {"code": code, "message": message}, "metadata": {"key": id}})
}

fn ended() -> Option<Value> {
    Some(json!({"done": true}))
}

#[tokio::test]
async fn lines_go_with_the_batch_and_are_counted_and_accounted_when_it_ends() {
    let (vendor, state) = vendor().await;
    let place = Place::of("provider_gemini", &vendor, Extra::default()).await;
    let (server, tenant) = (place.started(), place.world.tenant);
    let named = format!("gemini/{MODEL}");
    let lines = [asks("a", MODEL), asks("b", &named), asks("not \"plain\"!", MODEL)];
    let id = server.made(&place.world, &place.world.key, &lines, URL).await.unwrap();
    let looked = || vendor.seen("/v1beta/batches").len();
    let batch = server.until(tenant, &id, |_| looked() >= 2).await;
    assert_eq!((batch.status, batch.counts), (BatchStatus::InProgress, (3, 0, 0)), "{batch:?}");
    {
        let mut state = state.lock().unwrap();
        let request = json!({"systemInstruction": {"parts": [{"text": "Be brief."}]},
            "contents": [{"role": "user", "parts": [{"text": "hi"}]}], "generationConfig": {"maxOutputTokens": 9}});
        let requests: Vec<_> = ["a", "b", "not \"plain\"!"]
            .map(|id| json!({"request": request, "metadata": {"key": id}}))
            .into();
        let expected =
            json!({"batch": {"displayName": id, "inputConfig": {"requests": {"requests": requests}}}});
        assert_eq!(state.asked, expected);
        state.results = vec![
            succeeded("b", "to\nyou", 1_000_000, 0),
            errored("not \"plain\"!", 3, "too odd"),
            succeeded("a", "and you", 0, 1_000_000),
        ];
        state.ended = ended();
    }
    let batch = server.ended(tenant, &id).await;
    assert_eq!((batch.status, batch.counts), (BatchStatus::Completed, (3, 2, 1)), "{batch:?}");
    let output = server.lines(tenant, batch.output).await;
    assert_eq!(ids(&output), ["b", "not \"plain\"!", "a"]);
    let [first, wrong] = [&output[0]["response"], &output[1]["response"]];
    assert_eq!((&first["status_code"], &output[0]["error"]), (&json!(200), &Value::Null));
    assert_eq!(first["body"]["choices"][0]["message"]["content"], "to\nyou");
    assert_eq!((&wrong["status_code"], &wrong["body"]["error"]["message"]), (&json!(400), &json!("too odd")));
    // Batch prices: half of 0.3 and 2.5.
    let trace = place.world.only_trace().await;
    assert_eq!((&trace["cost"], &trace["usage"]["total"]), (&json!("1.4"), &json!(2_000_000)), "{trace:#}");
    let found = server.files.get(tenant, &files::write_id(batch.output.unwrap())).await.unwrap();
    assert_eq!(server.files.state(&found).await.unwrap(), "processed");
    server.files.delete(tenant, &files::write_id(found.id)).await.unwrap();
    assert!(
        vendor.seen("/v1beta/batches/theirs").iter().any(|seen| seen.method == "DELETE"),
        "gone there, too"
    );
    assert_eq!(vendor.seen(ASKED).len(), 1);
    server.stopped().await;
}

#[tokio::test]
async fn results_may_be_larger_together_than_a_sandbox() {
    let (vendor, state) = vendor().await;
    let place = Place::of("provider_gemini", &vendor, Extra::default()).await;
    let (server, tenant) = (place.started(), place.world.tenant);
    let names: Vec<String> = (0..20).map(|name| name.to_string()).collect();
    let lines: Vec<String> = names.iter().map(|name| asks(name, MODEL)).collect();
    let long = "long ".repeat(800_000);
    {
        let mut state = state.lock().unwrap();
        state.results = names.iter().map(|name| succeeded(name, &long, 1, 1)).collect();
        state.ended = ended();
    }
    let id = server.made(&place.world, &place.world.key, &lines, URL).await.unwrap();
    let batch = server.ended(tenant, &id).await;
    assert_eq!((batch.status, batch.counts), (BatchStatus::Completed, (20, 20, 0)), "{batch:?}");
    let output = server.lines(tenant, batch.output).await;
    assert_eq!(ids(&output), names);
    assert!(output.iter().all(|line| line["response"]["body"]["choices"][0]["message"]["content"] == long));
    server.stopped().await;
}

/// A line that says something again and again.
fn long(name: &str, text: &str, times: usize) -> String {
    asks(name, MODEL).replace("\"hi\"", &format!("\"{}\"", text.repeat(times)))
}

#[tokio::test]
async fn what_could_be_pictures_goes_past_the_sandbox() {
    let (vendor, state) = vendor().await;
    let place = Place::of("provider_gemini", &vendor, Extra::default()).await;
    let (server, tenant) = (place.started(), place.world.tenant);
    let lines = ["a", "b"].map(|name| long(name, "x", 9_000_000));
    let id = server.made(&place.world, &place.world.key, &lines, URL).await.unwrap();
    server.until(tenant, &id, |batch| batch.status == BatchStatus::InProgress).await;
    let asked = state.lock().unwrap().asked.take();
    let requests = asked["batch"]["inputConfig"]["requests"]["requests"].as_array().unwrap();
    let said = |one: &Value| one["request"]["contents"][0]["parts"][0]["text"].as_str().unwrap().len();
    assert_eq!(requests.iter().map(said).collect::<Vec<_>>(), [9_000_000; 2]);
    server.stopped().await;
}

#[tokio::test]
async fn what_has_another_model_or_is_too_large_is_told_and_nothing_is_asked() {
    let (vendor, _) = vendor().await;
    let place = Place::of("provider_gemini", &vendor, Extra::default()).await;
    let (server, world) = (place.started(), &place.world);
    let mixed = [asks("a", MODEL), asks("b", "gemini-2.5-pro")];
    let of_text = ["a", "b", "c"].map(|name| long(name, "a text ", 900_000));
    let of_anything = ["a", "b", "c"].map(|name| long(name, "x", 7_000_000));
    for (lines, code, line, says) in [
        (&mixed[..], "mismatched_model", json!(2), MODEL),
        (&of_text[..], "batch_too_large", Value::Null, "16 MiB"),
        (&of_anything[..], "batch_too_large", Value::Null, "20 MB"),
    ] {
        let id = server.made(world, &world.key, lines, URL).await.unwrap();
        let batch = server.ended(world.tenant, &id).await;
        let error = &batch.errors[0];
        assert_eq!((&error["code"], &error["line"]), (&json!(code), &line), "{error}");
        assert!(error["message"].as_str().unwrap().contains(says), "{error}");
        assert_eq!((batch.status, batch.errors.as_array().unwrap().len()), (BatchStatus::Failed, 1));
    }
    assert!(vendor.seen("/").is_empty());
    server.stopped().await;
}

#[tokio::test]
async fn a_cancelled_batch_is_cancelled_there_whether_or_not_it_had_begun() {
    // Before it has begun, and afterwards, as the vendor says it.
    let failed = Some(json!({"done": true, "error": {"code": 13, "message": "Batch was cancelled."}}));
    let begun = vec![succeeded("a", "hi", 1_000_000, 0), errored("b", 1, "")];
    for (end, results, counts, cost) in
        [(failed, vec![], (2, 0, 0), Value::Null), (ended(), begun, (2, 1, 1), json!("0.15"))]
    {
        let (vendor, state) = vendor().await;
        let place = Place::of("provider_gemini", &vendor, Extra::default()).await;
        let (server, tenant) = (place.started(), place.world.tenant);
        let lines = [asks("a", MODEL), asks("b", MODEL)];
        let id = server.made(&place.world, &place.world.key, &lines, URL).await.unwrap();
        server.until(tenant, &id, |batch| batch.status == BatchStatus::InProgress).await;
        server.batches.cancel(tenant, &id).await.unwrap();
        server.until(tenant, &id, |_| state.lock().unwrap().cancelled).await;
        {
            let mut state = state.lock().unwrap();
            (state.results, state.ended) = (results, end);
        }
        let batch = server.ended(tenant, &id).await;
        assert_eq!((batch.status, batch.counts), (BatchStatus::Cancelled, counts), "{batch:?}");
        let output = server.lines(tenant, batch.output).await;
        let left = output.iter().find(|line| line["custom_id"] == "b").map(|line| &line["error"]["code"]);
        assert_eq!(left, (counts.2 > 0).then_some(&json!("batch_cancelled")));
        assert_eq!(place.world.only_trace().await["cost"], cost);
        server.stopped().await;
    }
}

#[tokio::test]
async fn one_that_nobody_cancelled_fails_with_what_the_vendor_says() {
    let (vendor, state) = vendor().await;
    let place = Place::of("provider_gemini", &vendor, Extra::default()).await;
    let (server, tenant) = (place.started(), place.world.tenant);
    state.lock().unwrap().ended = Some(json!({"done": true, "error": {"code": 13, "message": "no luck"}}));
    let id = server.made(&place.world, &place.world.key, &[asks("a", MODEL)], URL).await.unwrap();
    let batch = server.ended(tenant, &id).await;
    assert_eq!((batch.status, &batch.errors[0]["message"]), (BatchStatus::Failed, &json!("no luck")));
    server.stopped().await;
}
