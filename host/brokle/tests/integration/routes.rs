//! Routes by the API: a route that is made serves the next call, and so does each change of it; mistakes are named, and
//! nobody's change is lost.

use std::borrow::Borrow;

use serde_json::{Value, json};

use crate::cli::{KEY, Server, brokle};

fn start(directory: &std::path::Path) -> Server {
    let configured =
        "[[routes]]\nname = \"smart\"\ncandidates = [{ provider = \"echo\", model = \"configured\" }]\n";
    std::fs::write(directory.join("brokle.toml"), configured).unwrap();
    let mut command = brokle(directory, &["serve"]);
    command.env("BROKLE_BOOTSTRAP_API_KEY", KEY);
    Server::start(command)
}

/// Status, headers in lower case, and what came.
fn ask(server: &Server, method: &str, path: &str, body: &Value, header: &str) -> (u16, String, Value) {
    let head = format!("{method} {path} HTTP/1.1\r\nx-api-key: {KEY}{header}");
    let answer = server.send(&head, &body.to_string());
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let document = body.find('{').zip(body.rfind('}')).map(|(from, to)| &body[from..=to]);
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_ascii_lowercase(), serde_json::from_str(document.unwrap_or("null")).unwrap())
}

fn routes(server: &Server, method: &str, path: &str, body: impl Borrow<Value>) -> (u16, Value) {
    let (status, _, answer) = ask(server, method, &format!("/api/v1/routes{path}"), body.borrow(), "");
    (status, answer)
}

/// The model that serves the name.
fn served(server: &Server, name: &str) -> Option<String> {
    let body = json!({ "model": name, "messages": [{ "role": "user", "content": "hi" }] });
    let (status, head, _) = ask(server, "POST", "/v1/chat/completions", &body, "");
    let model = head.lines().find_map(|line| line.strip_prefix("x-brokle-model: "))?;
    (status == 200).then(|| model.to_owned())
}

fn to(model: &str) -> Value {
    json!([{ "provider": "echo", "model": model }])
}

#[test]
fn a_route_is_made_changed_rolled_back_and_deleted_and_each_call_has_the_newest() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path());
    assert_eq!(served(&server, "smart").as_deref(), Some("configured"));
    let wide = json!({ "name": "smart", "scope": "organization", "candidates": to("wide") });
    let (status, made) = routes(&server, "POST", "", wide);
    assert_eq!((status, &made["version"], &made["project_id"]), (201, &json!(1), &Value::Null), "{made}");
    assert_eq!(
        served(&server, "smart").as_deref(),
        Some("wide"),
        "the organization's before the configured one"
    );
    let (status, narrow) = routes(&server, "POST", "", json!({ "name": "smart", "candidates": to("one") }));
    assert_eq!((status, narrow["scope"].as_str()), (201, Some("project")), "{narrow}");
    assert_eq!(served(&server, "smart").as_deref(), Some("one"), "the project's before the organization's");
    let (status, again) = routes(&server, "POST", "", json!({ "name": "smart", "candidates": to("x") }));
    assert_eq!((status, again["code"].as_str()), (409, Some("already_exists")));

    let (status, changed) = routes(&server, "PATCH", "/smart", json!({ "candidates": to("two") }));
    assert_eq!((status, &changed["version"]), (200, &json!(2)), "{changed}");
    assert_eq!(changed["candidates"][0]["model"], "two");
    assert_eq!(served(&server, "smart").as_deref(), Some("two"));
    let (status, back) = routes(&server, "POST", "/smart/rollback", json!({ "version": 1 }));
    assert_eq!((status, &back["version"], &back["candidates"][0]["model"]), (200, &json!(3), &json!("one")));
    assert_eq!(served(&server, "smart").as_deref(), Some("one"));
    assert_eq!(routes(&server, "POST", "/smart/rollback", json!({ "version": 9 })).0, 404);

    let (_, versions) = routes(&server, "GET", "/smart/versions?limit=2", Value::Null);
    let numbers = |page: &Value| -> Vec<i64> {
        page["data"].as_array().unwrap().iter().map(|one| one["version"].as_i64().unwrap()).collect()
    };
    assert_eq!((numbers(&versions), versions["next_cursor"].as_str()), (vec![3, 2], Some("2")), "{versions}");
    assert_eq!(numbers(&routes(&server, "GET", "/smart/versions?cursor=2", Value::Null).1), [1]);
    let who = |at: usize| versions["data"][at]["changed_by"].as_str().unwrap();
    assert!(who(0).len() == 26 && who(0) == who(1), "the key's id: {versions}");

    let id = narrow["id"].as_str().unwrap();
    assert_eq!(routes(&server, "DELETE", &format!("/{id}"), Value::Null).0, 204);
    assert_eq!(served(&server, "smart").as_deref(), Some("wide"));
    assert_eq!(routes(&server, "GET", &format!("/{id}"), Value::Null).0, 404);
    assert_eq!(routes(&server, "GET", "/smart", Value::Null).1["scope"], "organization");
    assert_eq!(routes(&server, "DELETE", "/smart", Value::Null).0, 204);
    assert_eq!(
        served(&server, "smart").as_deref(),
        Some("configured"),
        "which the API neither shows nor changes"
    );
    assert_eq!(routes(&server, "GET", "", Value::Null).1["data"], json!([]));
}

#[test]
fn every_configuration_of_the_page_is_valid_and_a_mistake_in_one_is_named() {
    let page = include_str!("../../../../docs/routing.md");
    let all: Vec<&str> =
        page.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(all.len(), 6);
    let check = |text: &str| {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("brokle.toml"), text).unwrap();
        let output = brokle(directory.path(), &["config", "check"]).output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    let caching = include_str!("../../../../docs/caching.md");
    let caching = caching.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    for text in all.iter().copied().chain(caching) {
        let (valid, told) = check(text);
        assert!(valid, "{told}");
    }
    for (good, bad, named) in [
        (
            "tools and input_tokens",
            "tools and inputs",
            "routes.0.candidates.0.when: column 11: there is no fact 'inputs'",
        ),
        ("[\"gpt-4*\"]", "[\"\"]", "routes.0.aliases.0"),
        ("[\"logit_bias\"]", "[\"messages\"]", "routes.0.remove.0"),
        ("max_tokens = 1000", "stream = true", "routes.0.defaults.stream"),
        ("ttl_s = 600", "ttl_s = 0", "routes.0.cache.ttl_s"),
        ("capture = \"metadata\"", "capture = \"some\"", "routes.0.capture"),
        (
            "capture = \"metadata\"",
            "guardrails = [\"nobody\"]",
            "routes.0.guardrails.0: there is no such guardrail",
        ),
    ] {
        assert!(all[1].contains(good), "{good}");
        let (valid, told) = check(&all[1].replace(good, bad));
        assert!(!valid && told.contains(named), "{named}: {told}");
    }
}

#[test]
fn a_change_to_another_version_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path());
    routes(&server, "POST", "", json!({ "name": "cheap", "candidates": to("one") }));
    let change = |tag: &str, model: &str| {
        let header = format!("\r\nif-match: {tag}");
        ask(&server, "PATCH", "/api/v1/routes/cheap", &json!({ "candidates": to(model) }), &header)
    };
    let (status, head, _) = change("\"1\"", "two");
    assert!(status == 200 && head.contains("etag: \"2\""), "{status} {head}");
    let (status, _, refused) = change("\"1\"", "three");
    assert_eq!((status, refused["code"].as_str()), (412, Some("version_conflict")), "{refused}");
    assert_eq!(served(&server, "cheap").as_deref(), Some("two"));
    let deleted = ask(&server, "DELETE", "/api/v1/routes/cheap", &Value::Null, "\r\nif-match: \"1\"");
    assert_eq!(deleted.0, 412);
    assert_eq!(change("*", "four").0, 200);
}

#[test]
fn a_mistake_is_named_and_a_dry_run_stores_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path());
    let good = json!({ "name": "cheap", "policy": "cost", "candidates": to("echo-1") });
    for (key, value, param) in [
        ("name", json!("a/b"), "name"),
        ("policy", json!("latancy"), "policy"),
        ("config", json!({ "output_tokens": -1 }), "config.output_tokens"),
        ("candidates", json!([]), "candidates"),
        ("candidates", json!([{ "model": "x" }]), "candidates.0"),
        ("candidates", json!([{ "provider": "echo", "model": "x", "weight": "2" }]), "candidates.0.weight"),
        (
            "fallbacks",
            json!({ "general": [{ "provider": "echo", "modle": "x" }] }),
            "fallbacks.general.0.modle",
        ),
        ("timeouts", json!({ "idle_ms": 0 }), "timeouts.idle_ms"),
        ("set", json!({ "stream": true }), "set.stream"),
        ("wheights", json!(1), "wheights"),
    ] {
        let mut bad = good.clone();
        bad[key] = value;
        let dry = routes(&server, "POST", "/dry-run", json!({ "route": bad }));
        for (status, told) in [routes(&server, "POST", "", bad), dry] {
            let (code, named) = (told["code"].as_str(), told["param"].as_str());
            assert_eq!((status, code, named), (422, Some("invalid_route"), Some(param)), "{told}");
        }
    }
    let tried = json!({ "route": good, "request": { "model": "cheap", "messages": [{ "role": "user", "content": "hi" }] } });
    let (status, tried) = routes(&server, "POST", "/dry-run", tried);
    let decision = &tried["decision"];
    assert_eq!(
        (status, &decision["policy"], &decision["route"]),
        (200, &json!("cost"), &json!("cheap")),
        "{tried}"
    );
    assert_eq!(decision["order"][0]["model"], "echo-1");
    let nobody = json!({ "name": "gone", "candidates": [{ "connection": "gone", "model": "x" }] });
    let request = json!({ "model": "gone", "messages": [{ "role": "user", "content": "hi" }] });
    let (status, refused) =
        routes(&server, "POST", "/dry-run", json!({ "route": nobody, "request": request }));
    assert_eq!((status, refused["code"].as_str()), (422, Some("request_refused")), "{refused}");
    assert_eq!(routes(&server, "GET", "", Value::Null).1["data"], json!([]));
}
