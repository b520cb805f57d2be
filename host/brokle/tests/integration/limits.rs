//! The configurations of `docs/limits.md`, `docs/caching.md` and `docs/keys.md` do what the pages say, those of other pages are valid, and a budget outlives its server.

use brokle_test_services::Redis;

use crate::cli::{KEY, Server, brokle, succeed};

/// The page's configurations.
fn configurations(page: &str) -> Vec<String> {
    page.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

/// What the built-in provider's model is taken to cost.
const PRICE: &str = "\n[[models]]\nprovider = \"echo\"\nname = \"echo-1\"\nprices = { input = \"1000\", output = \"1000\" }\n";

fn start(directory: &std::path::Path) -> Server {
    let mut command = brokle(directory, &["serve"]);
    command.env("BROKLE_BOOTSTRAP_API_KEY", KEY);
    Server::start(command)
}

fn chat(server: &Server, user: &str) -> String {
    let head = format!("POST /v1/chat/completions HTTP/1.1\r\nx-api-key: {KEY}\r\nx-brokle-user: {user}");
    let body = r#"{"model":"echo/echo-1","max_tokens":10,"messages":[{"role":"user","content":"hi"}]}"#;
    server.send(&head, body)
}

fn budgets(server: &Server) -> serde_json::Value {
    let answer = server.ask(&format!("GET /v1/budgets HTTP/1.1\r\nx-api-key: {KEY}"));
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap()
}

/// What the key is told of its usage, once traces say so.
fn usage_until(server: &Server, is_so: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
    let begun = std::time::Instant::now();
    loop {
        let answer = server.ask(&format!("GET /v1/usage HTTP/1.1\r\nx-api-key: {KEY}"));
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let usage = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        if is_so(&usage) {
            return usage;
        }
        assert!(begun.elapsed() < std::time::Duration::from_secs(30), "{usage}");
    }
}

#[test]
fn every_configuration_of_the_pages_is_valid() {
    let pages = [
        include_str!("../../../../docs/limits.md"),
        include_str!("../../../../docs/caching.md"),
        include_str!("../../../../docs/keys.md"),
        include_str!("../../../../docs/exporters.md"),
        include_str!("../../../../docs/guardrails.md"),
        include_str!("../../../../docs/telemetry.md"),
    ];
    let all: Vec<String> = pages.into_iter().flat_map(configurations).collect();
    assert!(all.len() >= 3);
    for text in all {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("brokle.toml"), text).unwrap();
        succeed(directory.path(), &["config", "check"]);
    }
}

#[test]
fn limits_and_budgets_hold_as_configured_and_a_restart_forgets_no_money() {
    let directory = tempfile::tempdir().unwrap();
    let shown = configurations(include_str!("../../../../docs/limits.md"));
    let (limits, budget) = (&shown[0], &shown[1]);
    std::fs::write(directory.path().join("brokle.toml"), format!("{limits}{budget}{PRICE}")).unwrap();
    let server = start(directory.path());
    let first = chat(&server, "ann");
    assert!(first.starts_with("HTTP/1.1 200"), "{first}");
    assert!(first.contains("x-ratelimit-limit-requests: 60\r\n"), "{first}");
    assert!(first.contains("x-ratelimit-remaining-requests: 59\r\n"), "{first}");
    assert!(first.contains("x-ratelimit-limit-tokens: 100000\r\n"), "{first}");
    let spent = budgets(&server);
    assert_eq!(spent["data"][1]["name"], "team");
    let amount = spent["data"][1]["spent"].as_str().unwrap().to_owned();
    assert_ne!(amount, "0");
    let usage = usage_until(&server, |usage| usage["spend"]["month"]["requests"] == 1);
    let limits = usage["limits"].as_array().unwrap();
    let left = |name: &str, measure: &str| {
        let it = limits.iter().find(|one| one["name"] == name && one["measure"] == measure);
        it.map(|one| one["remaining"].as_u64())
    };
    assert_eq!(limits[0]["name"], serde_json::Value::Null);
    assert_eq!(left("per-user", "requests_per_minute"), None, "nobody is named");
    assert_eq!(usage["spend"]["day"]["cost"], amount.as_str());
    assert_eq!(usage["budgets"][1]["spent"], amount.as_str());
    let head = format!("GET /v1/usage HTTP/1.1\r\nx-api-key: {KEY}\r\nx-brokle-user: ann");
    let named = server.ask(&head);
    assert!(named.contains(r#""measure":"requests_per_minute","limit":60,"remaining":59"#), "{named}");
    assert!(named.contains(r#""measure":"concurrent_requests","limit":10,"remaining":null"#), "{named}");
    server.signal("TERM");
    server.end();

    let server = start(directory.path());
    assert_eq!(budgets(&server)["data"][1]["spent"], amount.as_str());
    chat(&server, "ann");
    assert_ne!(budgets(&server)["data"][1]["spent"], amount.as_str());
}

/// Sums are written each second; that they are, another server tells, which has the same database.
#[test]
fn a_kill_forgets_no_money_that_was_written() {
    let directory = tempfile::tempdir().unwrap();
    let budget = &configurations(include_str!("../../../../docs/limits.md"))[1];
    std::fs::write(directory.path().join("brokle.toml"), format!("{budget}{PRICE}")).unwrap();
    let start = |name: &str| {
        let mut command = brokle(directory.path(), &["serve"]);
        command.env("DATABASE_URL", "sqlite:shared.db").env("BROKLE_DATA_DIR", name);
        command.env("BROKLE_BOOTSTRAP_API_KEY", KEY).env("BROKLE_ENCRYPTION_KEY", "0".repeat(64));
        Server::start(command)
    };
    let spent = |server: &Server| budgets(server)["data"][1]["spent"].as_str().unwrap().to_owned();
    let (dies, other) = (start("one"), start("two"));
    assert!(chat(&dies, "ann").starts_with("HTTP/1.1 200"));
    let before = spent(&dies);
    assert_ne!(before, "0");
    let begun = std::time::Instant::now();
    while spent(&other) != before {
        assert!(begun.elapsed() < std::time::Duration::from_secs(60), "it is never written");
        std::thread::yield_now();
    }
    other.signal("KILL");
    dies.signal("KILL");
    other.end();
    dies.end();
    assert_eq!(spent(&start("one")), before);
}

#[test]
fn what_is_asked_twice_is_answered_from_the_cache_until_it_is_invalidated() {
    let directory = tempfile::tempdir().unwrap();
    let shown = configurations(include_str!("../../../../docs/caching.md"));
    std::fs::write(directory.path().join("brokle.toml"), format!("{}{PRICE}", shown[0])).unwrap();
    let server = start(directory.path());
    let status = || server.ask(&format!("GET /v1/cache/status HTTP/1.1\r\nx-api-key: {KEY}"));
    let invalidate =
        |body: &str| server.send(&format!("POST /v1/cache/invalidate HTTP/1.1\r\nx-api-key: {KEY}"), body);
    assert!(chat(&server, "ann").contains("x-brokle-cache: miss\r\n"));
    let hit = chat(&server, "bob");
    assert!(hit.contains("x-brokle-cache: hit\r\n") && hit.contains("x-brokle-cost: 0\r\n"), "{hit}");
    assert!(status().contains(r#""entries":1"#), "{}", status());
    assert!(invalidate(r#"{"model":"other"}"#).ends_with(r#"{"removed":0}"#));
    assert!(invalidate("{}").starts_with("HTTP/1.1 400"));
    assert!(invalidate(r#"{"model":"echo/echo-1","all":false}"#).ends_with(r#"{"removed":1}"#));
    assert!(status().contains(r#""entries":0"#), "{}", status());
    assert!(chat(&server, "ann").contains("x-brokle-cache: miss\r\n"));
}

/// The part of an answer behind its head.
fn json(answer: &str) -> serde_json::Value {
    serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap()
}

#[test]
fn servers_that_have_the_same_redis_share_answers_and_outlive_it() {
    let Some(mut redis) = Redis::start().unwrap_or_else(|error| panic!("{error}")) else { return };
    let directory = tempfile::tempdir().unwrap();
    let shown = configurations(include_str!("../../../../docs/caching.md"));
    let shared = shown.iter().find(|text| text.contains("store = \"redis\"")).unwrap();
    std::fs::write(directory.path().join("brokle.toml"), shared).unwrap();
    let server = |name: &str| {
        let mut command = brokle(directory.path(), &["serve"]);
        command.env("BROKLE_BOOTSTRAP_API_KEY", KEY).env("REDIS_URL", redis.url());
        command.env("DATABASE_URL", "sqlite:shared.db").env("BROKLE_DATA_DIR", name);
        Server::start(command)
    };
    let (one, two) = (server("one"), server("two"));
    let head = |path: &str| format!("{path} HTTP/1.1\r\nx-api-key: {KEY}");
    let begun = std::time::Instant::now();
    let until = |what: &str, is_so: &dyn Fn() -> bool| {
        while !is_so() {
            assert!(begun.elapsed() < std::time::Duration::from_secs(60), "{what}");
        }
    };
    let outcome = |server: &Server| {
        let answer = chat(server, "ann");
        assert!(answer.starts_with("HTTP/1.1 200"), "no call fails: {answer}");
        let line = answer.lines().find_map(|line| line.strip_prefix("x-brokle-cache: ")).unwrap();
        line.trim().to_owned()
    };
    outcome(&one);
    until("what one was answered, two knows", &|| outcome(&two) == "hit");
    let status = |server: &Server| json(&server.ask(&head("GET /v1/cache/status")));
    let told = status(&two);
    assert_eq!(
        (&told["store"], &told["available"], &told["entries"]),
        (&"redis".into(), &true.into(), &1.into())
    );
    let removed = two.send(&head("POST /v1/cache/invalidate"), r#"{"all":true}"#);
    assert!(removed.ends_with(r#"{"removed":1}"#), "{removed}");
    assert_eq!(status(&one)["entries"], 0);
    assert_eq!(outcome(&one), "miss");

    redis.stop();
    until("without Redis everything is a miss", &|| outcome(&one) == "miss" && outcome(&two) == "miss");
    assert_eq!(status(&one)["available"], false);
    let refused = one.send(&head("POST /v1/cache/invalidate"), r#"{"all":true}"#);
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("cache_unavailable"), "{refused}");
    let metrics = one.ask("GET /metrics HTTP/1.1");
    assert!(metrics.contains(r#"brokle_cache_total{outcome="store_error"}"#), "{metrics}");
    redis.start_again().unwrap();
    until("it is back without a restart", &|| outcome(&one) == "hit" && outcome(&two) == "hit");
}

#[test]
fn servers_that_have_the_same_redis_share_limits() {
    let Some(redis) = Redis::start().unwrap_or_else(|error| panic!("{error}")) else { return };
    let directory = tempfile::tempdir().unwrap();
    let limit = "[[limits]]\nname = \"daily\"\nby = [\"project\"]\nrequests_per_day = 3\n";
    std::fs::write(directory.path().join("brokle.toml"), limit).unwrap();
    let server = |name: &str| {
        let mut command = brokle(directory.path(), &["serve"]);
        command.env("BROKLE_BOOTSTRAP_API_KEY", KEY).env("REDIS_URL", redis.url());
        // One database, and so one project.
        command.env("DATABASE_URL", "sqlite:shared.db").env("BROKLE_DATA_DIR", name);
        Server::start(command)
    };
    let (one, two) = (server("one"), server("two"));
    let mut asked = [&one, &two, &one, &two, &one].into_iter();
    for left in ["2", "1", "0"] {
        let answer = chat(asked.next().unwrap(), "ann");
        let told = format!("x-ratelimit-remaining-requests: {left}\r\n");
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(&told), "{answer}");
        for server in [&one, &two] {
            let usage = usage_until(server, |_| true);
            let daily = &usage["limits"][1];
            assert_eq!((&daily["name"], daily["remaining"].to_string()), (&"daily".into(), left.to_owned()));
        }
    }
    for server in asked {
        assert!(chat(server, "ann").starts_with("HTTP/1.1 429"));
    }
}
