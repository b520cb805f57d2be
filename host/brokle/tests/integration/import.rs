//! `brokle import litellm`: what comes out is a configuration that serves, and nothing is passed over in silence.

use std::path::Path;

use serde_json::{Value, json};

use crate::cli::{brokle, fail, succeed};
use crate::scene::{self, KEY, Server, Vendor};

const FAILOVER: &str = include_str!("litellm/failover.yaml");
const TEAM: &str = include_str!("litellm/team.yaml");
const CLOUDS: &str = include_str!("litellm/clouds.yaml");

/// The configuration, read back; and the notes as `kind key`.
fn import(here: &Path, yaml: &str) -> (Value, Vec<String>) {
    std::fs::write(here.join("config.yaml"), yaml).unwrap();
    let answer = succeed(here, &["import", "litellm", "config.yaml", "--out", "brokle.toml", "--json"]);
    assert!(!answer.contains("hunter2") && !answer.contains("very-secret"), "a secret is repeated: {answer}");
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let written = std::fs::read_to_string(here.join("brokle.toml")).unwrap();
    assert_eq!(answer["config"], written.as_str());
    assert!(succeed(here, &["config", "check"]).contains("valid"), "{written}");
    let notes = answer["notes"].as_array().unwrap().iter();
    let notes =
        notes.map(|note| format!("{} {}", note["kind"].as_str().unwrap(), note["key"].as_str().unwrap()));
    (toml::from_str(&written).unwrap(), notes.collect())
}

fn route<'a>(config: &'a Value, name: &str) -> &'a Value {
    config["routes"].as_array().unwrap().iter().find(|route| route["name"] == name).unwrap()
}

fn says(notes: &[String], all: &[&str]) {
    for note in all {
        assert!(notes.iter().any(|one| one == note), "{note}: {notes:#?}");
    }
}

#[test]
fn an_imported_configuration_serves_under_the_old_names() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let vendor = Vendor::start("from the vendor");
    let yaml = FAILOVER.replace("VENDOR", &format!("http://{}", vendor.address));
    let (config, notes) = import(here, &yaml);
    assert_eq!(config["gateway"]["policy"], "latency");
    assert_eq!(config["gateway"]["retries"], 2);
    assert_eq!(config["gateway"]["first_byte_ms"], 600_000);
    assert_eq!(config["gateway"]["breaker"]["in_a_row"], 4);
    let connections = config["gateway"]["connections"].as_array().unwrap();
    assert_eq!(connections.len(), 3, "those that are alike are one");
    assert_eq!(connections[0]["options"]["api_version"], "2024-10-21");
    assert_eq!(connections[0]["base_url"], "https://example-eu.openai.azure.com");
    assert_eq!(connections[1]["models"], json!(["gpt-4o", "gpt-4o-mini"]));
    assert_eq!(connections[1]["api_key_env"], "OPENAI_API_KEY");
    let gpt = route(&config, "gpt-4o");
    assert_eq!(gpt["aliases"], json!(["gpt-4"]));
    assert_eq!(gpt["defaults"], json!({ "temperature": 0.2 }));
    assert_eq!(gpt["timeouts"]["first_byte_ms"], 30_000);
    assert_eq!((&gpt["candidates"][0]["weight"], &gpt["candidates"][1]["weight"]), (&json!(6), &json!(3)));
    assert_eq!(
        (&gpt["candidates"][0]["priority"], &gpt["candidates"][1]["priority"]),
        (&json!(1_000_000), &json!(1))
    );
    let general = gpt["fallbacks"]["general"].as_array().unwrap();
    let order: Vec<_> =
        general.iter().map(|one| (one["model"].as_str().unwrap(), &one["priority"])).collect();
    assert_eq!(order, [("gpt-4o-mini", &json!(0)), ("claude-sonnet-4-5", &json!(1))]);
    assert_eq!(route(&config, "gpt-4o-mini")["fallbacks"]["context_length"][0]["model"], "gpt-4o-eu");
    assert_eq!(route(&config, "claude")["fallbacks"]["general"][0]["model"], "gpt-4o-mini");
    assert_eq!(route(&config, "team-a-claude")["aliases"], json!(["team a/claude"]));
    says(
        &notes,
        &[
            "todo general_settings.master_key",
            "todo general_settings.database_url",
            "changed model_list.0.litellm_params.rpm",
            "no_equal litellm_settings.drop_params",
            "no_equal litellm_settings.success_callback",
            "no_equal litellm_settings.fallbacks.1.gone",
            "no_equal router_settings.enable_pre_call_checks",
        ],
    );

    let mut command = brokle(here, &["serve"]);
    command.env("BROKLE_BOOTSTRAP_API_KEY", KEY);
    for name in ["AZURE_API_KEY", "OPENAI_API_KEY", "ANTHROPIC_API_KEY"] {
        command.env(name, "sk-test");
    }
    let server = scene::Server::start(command);
    let names = |server: &Server| server.ask("GET", "/v1/models", "").1.to_string();
    for name in ["gpt-4o-mini", "gpt-4", "team a/claude"] {
        assert!(names(&server).contains(&format!("\"{name}\"")), "{name}");
    }
    let (status, answer) = server.chat("gpt-4o-mini", "hi");
    assert_eq!((status, &answer["choices"][0]["message"]["content"]), (200, &"from the vendor".into()));
    assert!(vendor.last().contains(r#""model":"gpt-4o-mini""#), "{}", vendor.last());
}

#[test]
fn limits_budgets_and_self_hosted_models_come_along() {
    let directory = tempfile::tempdir().unwrap();
    let (config, notes) = import(directory.path(), TEAM);
    let connections = config["gateway"]["connections"].as_array().unwrap();
    assert_eq!(
        connections[0],
        json!({ "name": "vllm-1", "provider": "vllm", "base_url": "http://10.1.2.3:8000/v1", "priority": 0,
            "weight": 1, "models": ["meta-llama/Llama-3.3-70B-Instruct"], "max_in_flight": 32,
            "max_queued": 64, "queue_ms": 1000, "raw": false })
    );
    assert_eq!((&connections[1]["provider"], &connections[1]["models"]), (&"anthropic".into(), &Value::Null));
    assert_eq!(config["models"][0]["prices"], json!({ "input": "0.59", "output": "0.79" }));
    let local = route(&config, "local--");
    assert_eq!((&local["aliases"], &local["candidates"][0]["model"]), (&json!(["local-*"]), &"*".into()));
    let limit = json!({ "name": "key", "by": ["key"], "requests_per_minute": 60, "tokens_per_minute": 100_000,
        "concurrent_requests": 20 });
    assert_eq!(config["limits"], json!([limit]));
    let budgets: Vec<_> = config["budgets"].as_array().unwrap().iter().map(|one| &one["usd"]).collect();
    assert_eq!(budgets, ["10.5", "1000", "0.5"]);
    assert_eq!(
        (&config["budgets"][0]["per"], &config["budgets"][0]["by"]),
        (&"week".into(), &json!(["key"]))
    );
    assert_eq!(config["storage"]["redis_url"], "redis://redis:6379");
    assert_eq!((&config["cache"]["enabled"], &config["cache"]["ttl_seconds"]), (&json!(true), &json!(600)));
    assert_eq!(config["gateway"]["max_in_flight"], 500);
    says(
        &notes,
        &[
            "todo model_list.1.litellm_params.api_key",
            "todo model_list.2.litellm_params.api_base",
            "todo environment_variables.SLACK_WEBHOOK_URL",
            "changed litellm_settings.cache_params.type",
            "no_equal model_list.0.model_info.access_groups",
            "no_equal model_list.4.litellm_params.model",
            "no_equal litellm_settings.default_key_generate_params.models",
            "no_equal litellm_settings.default_team_settings",
            "no_equal general_settings.alerting",
            "no_equal guardrails",
        ],
    );
}

#[test]
fn the_clouds_keep_their_regions_and_leave_their_secrets() {
    let directory = tempfile::tempdir().unwrap();
    let (config, notes) = import(directory.path(), CLOUDS);
    let connections = config["gateway"]["connections"].as_array().unwrap();
    let at = |number: usize, member: &str| connections[number][member].to_string();
    assert_eq!(at(0, "base_url"), r#""https://bedrock-runtime.eu-central-1.amazonaws.com""#);
    assert_eq!(at(0, "api_key_env"), r#""BEDROCK_CREDENTIALS""#);
    assert_eq!(at(1, "options"), r#"{"location":"europe-west1","project":"my-project"}"#);
    assert_eq!(at(1, "api_key_file"), r#""/run/secrets/vertex.json""#);
    assert_eq!(at(3, "headers"), r#"{"X-Title":"search"}"#);
    let models = |name: &str| {
        let candidates = route(&config, name)["candidates"].as_array().unwrap().iter();
        candidates.map(|one| one["model"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(
        models("sonnet"),
        ["eu.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet-4-5@20250929"]
    );
    assert_eq!(models("flash"), ["gemini-2.5-flash", "google/gemini-2.5-flash"]);
    assert_eq!(config["gateway"]["policy"], "least-busy");
    says(
        &notes,
        &[
            "todo model_list.0.litellm_params.aws_access_key_id",
            "todo model_list.3.litellm_params.extra_headers.Authorization",
            "todo router_settings.redis_host",
            "changed router_settings.routing_strategy",
            "no_equal model_list.4.litellm_params.num_retries",
        ],
    );
}

#[test]
fn what_can_not_be_read_is_said_without_repeating_it() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    for (text, words) in [
        ("model_list: [hunter2", "no YAML that can be read"),
        ("- hunter2", "a mapping"),
        ("a: &a [*a]", "no YAML that can be read"),
    ] {
        std::fs::write(here.join("config.yaml"), text).unwrap();
        let (code, error) = fail(here, &["import", "litellm", "config.yaml"]);
        assert!(code == Some(1) && error.contains(words) && !error.contains("hunter2"), "{error}");
    }
    // Odd values are reported, not believed; and nothing that is there is written over.
    let odd = "model_list: [7, {model_name: x}, {model_name: y, litellm_params: {model: openai/y, rpm: many}}]\n\
               litellm_settings: {max_budget: lots, cache_params: 5}\nrouter_settings: []\n";
    let (config, notes) = import(here, odd);
    assert_eq!(route(&config, "y")["candidates"][0]["weight"], 1);
    says(
        &notes,
        &[
            "no_equal model_list.0",
            "no_equal model_list.1",
            "no_equal model_list.2.litellm_params.rpm",
            "no_equal litellm_settings.max_budget",
            "no_equal litellm_settings.cache_params",
            "no_equal router_settings",
        ],
    );
    let (_, error) = fail(here, &["import", "litellm", "config.yaml", "--out", "brokle.toml"]);
    assert!(error.contains("brokle.toml"), "{error}");
}
