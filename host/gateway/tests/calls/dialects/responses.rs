//! OpenAI's Responses.

use brokle_gateway::{Asking, Dialect, ObjectCall};
use http::HeaderMap;
use serde_json::{Value, json};

use super::{echo, events, named, to};
use crate::harness::{Answer, World, asking, world};
use crate::vendor::{Vendor, reply};

pub(super) const STREAM: &str = "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0, \"response\":{\"id\":\"resp_1\",\"model\":\"gpt-x\",\"status\":\"in_progress\"}}\n\nevent: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"h\\u00e9\",\"odd\":1e0}\n\nevent: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"resp_1\",\"model\":\"gpt-x\",\"status\":\"completed\",\"usage\":{\"input_tokens\":11,\"input_tokens_details\":{\"cached_tokens\":3},\"output_tokens\":5,\"output_tokens_details\":{\"reasoning_tokens\":2}}}}\n\n";

impl World {
    async fn responses(&self, body: &str) -> Answer {
        self.call_in(&asking(Dialect::OpenAiResponses, "responses"), body, HeaderMap::new()).await
    }
}

#[tokio::test]
async fn native_bytes_pass_untouched_both_ways() {
    let whole = r#"{ "id":"resp_2","object":"response","model":"gpt-x","status":"completed","output":[ ],"usage":{"input_tokens":4,"output_tokens":6},"x":1e0}"#;
    let vendor = Vendor::start(move |seen| match seen.text().contains("\"stream\":true") {
        true => events(STREAM),
        false => (200, "application/json", whole.into()),
    })
    .await;
    let world = world(vec![to("main", "provider_openai", &vendor, "/v1")]).await;
    for (more, back) in [(r#","stream":true"#, STREAM), ("", whole)] {
        let body = format!(
            r#"{{ "input" : [{{"role":"user","content":"h\u00e9"}}],"model":"openai/gpt-x","tools":[{{"type":"web_search"}}], "odd":1e0{more} }}"#
        );
        let answer = world.responses(&body).await;
        assert_eq!((answer.status(), answer.text().await.as_str()), (200, back));
        let seen = vendor.seen("/").pop().unwrap();
        assert_eq!(
            (seen.path.as_str(), seen.text()),
            ("/v1/responses", &*body.replace("openai/gpt-x", "gpt-x"))
        );
    }
    let traces = world.traces().await;
    let usage = &traces[1]["usage"];
    assert_eq!(
        (&usage["input"], &usage["cached_read"], &usage["output"], &usage["reasoning"]),
        (&11.into(), &3.into(), &5.into(), &2.into())
    );
    assert!(
        traces.iter().all(|trace| trace["status"] == "ok" && trace["finish_reason"] == "stop"),
        "{traces:#?}"
    );
}

#[tokio::test]
async fn a_kept_response_belongs_to_the_project_and_the_connection_that_made_it() {
    let made = |id: &'static str| {
        move |_: &crate::vendor::Seen| {
            reply(200, &json!({"id": id, "status": "completed", "model": "m", "output": []}))
        }
    };
    let first = Vendor::start(made("resp_first")).await;
    let second = Vendor::start(made("resp_second")).await;
    let mut one = to("one", "provider_openai", &first, "/v1");
    one.models = vec!["m".into()];
    let mut two = to("two", "provider_openai", &second, "/v1");
    (two.models, two.priority) = (vec!["m".into()], 1);
    let world = world(vec![one, two]).await;
    assert_eq!(world.responses(r#"{"model":"two/m","input":"x"}"#).await.json().await["id"], "resp_second");
    let next = |previous: &str| format!(r#"{{"model":"m","input":"y","previous_response_id":"{previous}"}}"#);
    let answer = world.responses(&next("resp_second")).await;
    assert_eq!((answer.status(), first.seen("/").len(), second.seen("/").len()), (200, 0, 2));
    // Somebody else's, as far as anybody knows.
    let foreign = world.responses(&next("resp_of_another_project")).await;
    assert_eq!(foreign.status(), 400);
    let error = foreign.json().await["error"].take();
    assert_eq!(
        (&error["code"], &error["param"]),
        (&"previous_response_not_found".into(), &"previous_response_id".into())
    );
    assert_eq!((first.seen("/").len(), second.seen("/").len()), (0, 2));
}

#[tokio::test]
async fn a_kept_response_is_asked_for_where_it_was_made() {
    let vendor = Vendor::start(|seen| match (seen.method.as_str(), seen.path.as_str()) {
        ("POST", "/v1/responses") => {
            reply(200, &json!({"id": "resp_1", "status": "completed", "model": "m", "output": []}))
        }
        (method, path) => reply(200, &json!({"method": method, "path": path, "odd": 1})),
    })
    .await;
    let world = world(vec![to("main", "provider_openai", &vendor, "/v1")]).await;
    let ask = async |endpoint: &'static str, id: &str, query: &[(&str, &str)]| {
        let query = query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let asking = Asking { query, ..asking(Dialect::OpenAiResponses, endpoint) };
        let caller = world.keys.authenticate(&world.key).await;
        let (headers, request_id) = (HeaderMap::new(), crate::harness::request_id());
        let call = ObjectCall { asking, id, caller, headers: &headers, request_id };
        Answer(world.gateway.object(call).await)
    };
    let before = ask("responses.get", "resp_1", &[]).await;
    assert_eq!((before.status(), vendor.seen("/").len()), (404, 0));
    assert_eq!(before.json().await["error"]["code"], "response_not_found");
    world.responses(r#"{"model":"openai/m","input":"x"}"#).await;
    for (endpoint, query, method, path) in [
        (
            "responses.get",
            &[("include[]", "reasoning.encrypted_content"), ("x", "y")][..],
            "GET",
            "/v1/responses/resp_1?include[]=reasoning.encrypted_content",
        ),
        (
            "responses.input-items",
            &[("limit", "5"), ("after", "a&b=c")],
            "GET",
            "/v1/responses/resp_1/input_items?limit=5",
        ),
        ("responses.cancel", &[], "POST", "/v1/responses/resp_1/cancel"),
        ("responses.delete", &[], "DELETE", "/v1/responses/resp_1"),
    ] {
        let answer = ask(endpoint, "resp_1", query).await;
        assert_eq!((answer.status(), answer.header("x-brokle-provider")), (200, Some("openai")));
        assert_eq!(answer.json().await, json!({"method": method, "path": path, "odd": 1}));
        assert_eq!(vendor.seen("/").pop().unwrap().header("authorization"), "Bearer sk-very-secret");
    }
    // It was deleted.
    assert_eq!(ask("responses.get", "resp_1", &[]).await.status(), 404);
}

#[tokio::test]
async fn any_provider_is_reached() {
    let world = world(vec![echo()]).await;
    let body =
        |more: &str| format!(r#"{{"model":"echo/echo-1","input":"one two","instructions":"be"{more}}}"#);
    let whole = world.responses(&body(r#","metadata":{"a":"b"}"#)).await.json().await;
    assert_eq!((&whole["object"], &whole["status"]), (&"response".into(), &"completed".into()), "{whole}");
    assert_eq!(whole["output"][0]["content"][0]["text"], "one two");
    assert_eq!(
        (&whole["instructions"], &whole["metadata"]["a"], &whole["store"]),
        (&"be".into(), &"b".into(), &false.into())
    );
    let streamed = named(&world.responses(&body(r#","stream":true"#)).await.text().await);
    for (number, (name, data)) in streamed.iter().enumerate() {
        assert_eq!((&data["type"], &data["sequence_number"]), (&name.as_str().into(), &number.into()));
    }
    let kinds: Vec<&str> = streamed.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        kinds[..4],
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added"
        ]
    );
    let end = [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ];
    assert_eq!(kinds[kinds.len() - 4..], end);
    let last = &streamed.last().unwrap().1["response"];
    let texts = |response: &Value| response["output"][0]["content"].clone();
    assert_eq!((texts(last), &last["usage"]), (texts(&whole), &whole["usage"]));
}

#[tokio::test]
async fn calls_come_whole_and_in_pieces() {
    let world = world(vec![echo()]).await;
    let body = |more: &str| {
        json!({"model": "echo/echo-1", "input": [{"role": "user", "content": "call add {\"a\":1}\ncall sub {\"b\":2}"}],
            "tools": [{"type": "function", "name": "add", "parameters": {"type": "object"}}, {"type": "function", "name": "sub"}]})
        .to_string()
        .replacen('{', &format!("{{{more}"), 1)
    };
    let whole = world.responses(&body("")).await.json().await;
    let calls = |output: &Value| -> Vec<(String, Value)> {
        let calls = output.as_array().unwrap().iter().filter(|item| item["type"] == "function_call");
        calls
            .map(|call| {
                (
                    call["name"].as_str().unwrap().into(),
                    serde_json::from_str(call["arguments"].as_str().unwrap()).unwrap(),
                )
            })
            .collect()
    };
    assert_eq!(
        calls(&whole["output"]),
        [("add".into(), json!({"a": 1})), ("sub".into(), json!({"b": 2}))],
        "{whole}"
    );
    let streamed = named(&world.responses(&body(r#""stream":true,"#)).await.text().await);
    assert_eq!(calls(&streamed.last().unwrap().1["response"]["output"]), calls(&whole["output"]));
    let done = streamed.iter().filter(|(name, _)| name == "response.function_call_arguments.done").count();
    assert_eq!(done, 2);
}

#[tokio::test]
async fn what_needs_a_memory_is_refused_by_name() {
    let world = world(vec![echo()]).await;
    for (more, param) in [
        (r#","previous_response_id":"resp_1""#, "previous_response_id"),
        (r#","store":true"#, "store"),
        (r#","background":true"#, "background"),
        (r#","conversation":"conv_1""#, "conversation"),
        (r#","tools":[{"type":"web_search"}]"#, "tools[0].type"),
    ] {
        let answer = world.responses(&format!(r#"{{"model":"echo/echo-1","input":"x"{more}}}"#)).await;
        assert_eq!(answer.status(), 400, "{param}");
        let error = answer.json().await["error"].take();
        assert_eq!((&error["code"], &error["param"]), (&"unsupported".into(), &param.into()), "{error}");
    }
}
