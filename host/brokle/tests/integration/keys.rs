//! Keys that are for some endpoints, models and networks only, behind a proxy that is trusted; and their rotation.

use crate::cli::{KEY, Server, brokle, succeed};

fn code(answer: &str) -> String {
    let body: serde_json::Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    let error = &body["error"];
    let named = error["code"].as_str().or(error["status"].as_str()).or(error["type"].as_str());
    format!("{} {}", answer.split(' ').nth(1).unwrap(), named.unwrap_or_default())
}

#[test]
fn restrictions_hold_in_every_dialect_and_behind_a_trusted_proxy() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    std::fs::write(here.join("brokle.toml"), "[server]\ntrusted_proxies = [\"127.0.0.0/8\"]\n").unwrap();
    let mut command = brokle(here, &["serve"]);
    command.env("BROKLE_BOOTSTRAP_API_KEY", KEY);
    let server = Server::start(command);
    let create = |arguments: &[&str]| {
        let all = [&["key", "create", "--name", "narrow"], arguments].concat();
        succeed(here, &all).trim().to_owned()
    };
    let chat = r#"{"model":"echo-1","max_tokens":10,"messages":[{"role":"user","content":"hi"}]}"#;
    let from = |key: &str, path: &str, address: &str, body: &str| {
        let head = format!("POST {path} HTTP/1.1\r\nx-api-key: {key}\r\nx-forwarded-for: {address}");
        code(&server.send(&head, body))
    };

    let network = create(&["--cidr", "198.51.100.0/24", "--cidr", "2001:db8::/32"]);
    let path = "/v1/chat/completions";
    assert_eq!(from(&network, path, "198.51.100.9", chat), "200 ");
    assert_eq!(from(&network, path, "2001:db8::1", chat), "200 ");
    assert_eq!(from(&network, path, "198.51.100.9, 203.0.113.1", chat), "403 address_not_allowed", "forged");

    let gemini = r#"{"contents":[{"parts":[{"text":"hi"}]}]}"#;
    let responses = r#"{"model":"echo-1","input":"hi"}"#;
    let calls = [
        ("/v1/chat/completions", chat, ""),
        ("/v1/messages", chat, "permission_error"),
        ("/v1/responses", responses, ""),
        ("/v1beta/models/echo-1:generateContent", gemini, "PERMISSION_DENIED"),
    ];
    let endpoint = create(&["--endpoint", "/v1/embeddings", "--endpoint", "/v1/models*"]);
    let model = create(&["--model", "gpt-*"]);
    for (key, expected) in [
        (&network, "address_not_allowed"),
        (&endpoint, "endpoint_not_allowed"),
        (&model, "model_not_allowed"),
    ] {
        for (path, body, own) in calls {
            let expected = if own.is_empty() { expected } else { own };
            assert_eq!(from(key, path, "203.0.113.1", body), format!("403 {expected}"), "{path}");
        }
    }
    let models = |key: &str| server.ask(&format!("GET /v1/models HTTP/1.1\r\nx-api-key: {key}"));
    assert!(models(&endpoint).contains("echo-1") && !models(&model).contains("echo-1"));
}

#[test]
fn a_rotated_keys_old_secret_goes_on_for_a_while() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let mut command = brokle(here, &["serve"]);
    command.env("BROKLE_BOOTSTRAP_API_KEY", KEY);
    let server = Server::start(command);
    let is_valid = |key: &str| {
        let answer = server.ask(&format!("POST /v1/auth/validate-key HTTP/1.1\r\nx-api-key: {key}"));
        answer.starts_with("HTTP/1.1 200")
    };
    let made: serde_json::Value =
        serde_json::from_str(&succeed(here, &["key", "create", "--name", "ci", "--json"])).unwrap();
    let (id, old) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    let fresh = succeed(here, &["key", "rotate", id]);
    assert!(is_valid(old) && is_valid(fresh.trim()));
    let last = succeed(here, &["key", "rotate", id, "--old-until", "2020-01-01T00:00:00Z"]);
    let begun = std::time::Instant::now();
    while is_valid(fresh.trim()) || is_valid(old) {
        assert!(begun.elapsed() < std::time::Duration::from_secs(20), "the old one goes on");
    }
    assert!(is_valid(last.trim()));
}
