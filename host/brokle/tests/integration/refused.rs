//! A component that can't serve, on the page that an operator looks at.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cli::{KEY, Server, brokle};

#[test]
fn what_cant_be_loaded_says_why_on_its_page_and_the_others_serve() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("plugins");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("broken.wasm"), b"not at all").unwrap();
    std::fs::write(directory.path().join("brokle.toml"), "[plugins]\nfolder = \"plugins\"\n").unwrap();
    let mut command = brokle(directory.path(), &["serve", "--config", "brokle.toml"]);
    command.env("BROKLE_BOOTSTRAP_API_KEY", KEY);
    let server = Server::start(command);
    let begun = Instant::now();
    let found = loop {
        let answer = server.ask(&format!("GET /health/plugins HTTP/1.1\r\nx-api-key: {KEY}"));
        let page: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        let plugins = page["plugins"].as_array().unwrap();
        if let Some(found) = plugins.iter().find(|plugin| plugin["id"] == "broken.wasm") {
            break found.clone();
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{page:#}");
        std::thread::yield_now();
    };
    assert_eq!(
        (&found["status"], &found["code"]),
        (&"refused".into(), &"PLUGIN_INVALID".into()),
        "{found:#}"
    );
    let body = r#"{"model":"echo/echo-1","messages":[{"role":"user","content":"hi"}]}"#;
    let answer = server.send(&format!("POST /v1/chat/completions HTTP/1.1\r\nx-api-key: {KEY}"), body);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
