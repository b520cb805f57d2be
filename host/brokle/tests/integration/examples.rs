//! Each file of `examples/` starts, is ready, and says what its head promises.

use std::path::PathBuf;

use brokle_test_services::{Postgres, Redis};

use crate::cli::{KEY, Server, brokle};

/// The folder, and the files in it that the tests below start.
fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples"))
}

const NAMES: [&str; 5] = ["cache-and-guardrails", "failover", "self-hosted", "several-servers", "teams"];

fn start(name: &str, variables: &[(&str, &str)]) -> (tempfile::TempDir, Server) {
    let directory = tempfile::tempdir().unwrap();
    let file = folder().join(format!("{name}.toml"));
    let mut command = brokle(directory.path(), &["serve", "--config", file.to_str().unwrap()]);
    command.env("BROKLE_BOOTSTRAP_API_KEY", KEY).env("BROKLE_DATA_DIR", "data");
    command.env("OPENAI_API_KEY", "sk-test").env("ANTHROPIC_API_KEY", "sk-test");
    command.envs(variables.iter().copied());
    let server = Server::start(command);
    assert!(server.ask("GET /health/ready HTTP/1.1").starts_with("HTTP/1.1 200"), "{name}");
    (directory, server)
}

fn get(server: &Server, path: &str) -> String {
    server.ask(&format!("GET {path} HTTP/1.1\r\nx-api-key: {KEY}"))
}

#[test]
fn every_file_is_started_here() {
    let files = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let mut names: Vec<String> = files
        .filter(|path| path.extension().is_some_and(|kind| kind == "toml"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort_unstable();
    assert_eq!(names, NAMES);
}

#[test]
fn failover_asks_openai_and_then_anthropic() {
    let (_directory, server) = start("failover", &[]);
    let body = r#"{"model":"smart","messages":[{"role":"user","content":"hi"}]}"#;
    let told = server.send(&format!("POST /v1/route HTTP/1.1\r\nx-api-key: {KEY}"), body);
    let told: serde_json::Value = serde_json::from_str(told.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    let order: Vec<_> =
        told["order"].as_array().unwrap().iter().map(|one| one["connection"].as_str().unwrap()).collect();
    assert_eq!(order, ["openai-main", "anthropic-main"]);
    assert!(get(&server, "/v1/models").contains(r#""id":"fast""#));
}

#[test]
fn teams_have_limits_and_budgets() {
    let (_directory, server) = start("teams", &[]);
    let usage = get(&server, "/v1/usage");
    for name in ["\"name\":\"team\"", "\"name\":\"company\"", "\"unit\":\"tokens\",\"limit\":\"20000000\""] {
        assert!(usage.contains(name), "{name}: {usage}");
    }
}

#[test]
fn self_hosted_models_come_first() {
    let (_directory, server) = start("self-hosted", &[]);
    let body = r#"{"model":"llama","messages":[{"role":"user","content":"hi"}]}"#;
    let told = server.send(&format!("POST /v1/route HTTP/1.1\r\nx-api-key: {KEY}"), body);
    let told: serde_json::Value = serde_json::from_str(told.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!(told["order"].as_array().unwrap().len(), 3, "{told}");
    assert_eq!(told["order"][2]["connection"], "openai-main");
}

#[test]
fn answers_are_cached_and_guarded() {
    let (_directory, server) = start("cache-and-guardrails", &[]);
    let status = get(&server, "/v1/cache/status");
    assert!(status.starts_with("HTTP/1.1 200") && status.contains(r#""entries":0"#), "{status}");
    assert!(get(&server, "/v1/models").contains(r#""id":"support""#));
    assert!(get(&server, "/health/plugins").contains("guardrail-secrets"));
}

#[test]
fn several_servers_share_a_database_and_redis() {
    let Some(redis) = Redis::start().unwrap_or_else(|error| panic!("{error}")) else { return };
    let Some(postgres) = Postgres::shared().unwrap_or_else(|error| panic!("{error}")) else { return };
    let database = postgres.database().unwrap();
    let url = redis.url();
    let key = "0".repeat(64);
    let variables =
        [("DATABASE_URL", &*database.owner_url), ("REDIS_URL", &*url), ("BROKLE_ENCRYPTION_KEY", &*key)];
    let (_first, one) = start("several-servers", &variables);
    let (_second, two) = start("several-servers", &variables);
    for server in [&one, &two] {
        let usage = get(server, "/v1/usage");
        assert!(usage.contains(r#""limit":600,"remaining":600"#), "{usage}");
    }
}
