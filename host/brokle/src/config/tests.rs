use std::path::PathBuf;

use super::*;

/// A configuration file in a directory of its own.
fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("brokle.toml");
    std::fs::write(&path, text).unwrap();
    (directory, path)
}

fn load_text(text: &str) -> Result<Config, ConfigError> {
    let (_directory, path) = file(text);
    load_with(Some(&path), |_| None)
}

fn problem(text: &str) -> String {
    load_text(text).unwrap_err().to_string()
}

#[test]
fn the_environment_wins_over_the_file_and_the_file_over_the_defaults() {
    let (_directory, path) = file("[server]\nlisten = \"127.0.0.1:1\"\nmax_connections = 7\n");
    let environment = |name: &str| match name {
        "BROKLE_LISTEN" => Some("0.0.0.0:2".to_owned()),
        "DATABASE_URL" => Some("postgres://db/brokle".to_owned()),
        "BROKLE_ALLOW_PRIVATE_UPSTREAMS" => Some("1".to_owned()),
        "REDIS_URL" => Some(String::new()),
        _ => None,
    };
    let config = load_with(Some(&path), environment).unwrap();
    assert_eq!(config.server.listen.to_string(), "0.0.0.0:2");
    assert_eq!(config.server.max_connections, 7);
    assert_eq!(config.server.max_body_bytes, 32 * 1024 * 1024);
    assert_eq!(config.database_url(), "postgres://db/brokle");
    assert!(config.gateway.allow_private_upstreams);
    assert_eq!(config.storage.redis_url, None, "an empty variable is as good as none");
}

#[test]
fn connections_have_a_thread_for_each_processor_or_as_many_as_are_said() {
    let processors = std::thread::available_parallelism().unwrap();
    assert_eq!(load_text("").unwrap().server.reactors(), processors);
    assert_eq!(load_text("[server]\nthreads = 3\n").unwrap().server.reactors().get(), 3);
}

#[test]
fn a_problem_names_the_key_and_the_place() {
    let unknown = problem("[server]\nlisten_on = \"x\"\n");
    assert!(unknown.contains("listen_on") && unknown.contains("brokle.toml"), "{unknown}");
    let wrong = problem("[server]\nlisten = 8080\n");
    assert!(wrong.contains("server.listen") && wrong.contains("brokle.toml"), "{wrong}");
    let flag = load_with(None, |name| (name == "BROKLE_ALLOW_PRIVATE_UPSTREAMS").then(|| "maybe".to_owned()));
    assert!(flag.unwrap_err().to_string().contains("BROKLE_ALLOW_PRIVATE_UPSTREAMS"));
    let absent = load_with(Some(Path::new("/nowhere/brokle.toml")), |_| None).unwrap_err();
    assert_eq!(absent.to_string(), "/nowhere/brokle.toml: there is no such file");
}

#[test]
fn values_that_make_no_sense_are_refused() {
    let connection = "[[gateway.connections]]\nname = \"a\"\nprovider = \"openai\"\n";
    for (text, key) in [
        ("[server]\nhead_timeout_ms = 0\n".to_owned(), "server.head_timeout_ms"),
        ("[server]\nmax_head_bytes = 100\n".to_owned(), "server.max_head_bytes"),
        ("[server]\nthreads = 2000\n".to_owned(), "server.threads"),
        ("[gateway]\ntotal_ms = 0\n".to_owned(), "gateway.total_ms"),
        ("[cache]\nttl_seconds = 0\n".to_owned(), "cache.ttl_seconds"),
        ("[cache]\nmax_ttl_seconds = 60\n".to_owned(), "cache.ttl_seconds"),
        ("[cache]\nmax_bytes = 10\n".to_owned(), "cache.max_entry_bytes"),
        ("[runtime]\nmemory_mib = 5000\n".to_owned(), "runtime.memory_mib"),
        (format!("{connection}{connection}"), "gateway.connections[1].name"),
        (format!("{connection}base_url = \"ftp://x\"\n"), "gateway.connections[0].base_url"),
        (
            format!("{connection}api_key_env = \"A\"\napi_key_file = \"b\"\n"),
            "gateway.connections[0].api_key_file",
        ),
        (format!("{connection}api_key = \"sk-1\"\n"), "api_key"),
    ] {
        assert!(problem(&text).contains(key), "{}", problem(&text));
    }
}

#[test]
fn odd_values_are_warned_about_and_the_defaults_are_not() {
    assert_eq!(Config::default().warnings(), Vec::<String>::new());
    let odd = "[server]\nlisten = \"0.0.0.0:80\"\n\
               [gateway]\ntotal_ms = 1000\nallow_private_upstreams = true\n";
    let warnings = load_text(odd).unwrap().warnings().join("\n");
    for word in ["gateway.total_ms", "allow_private_upstreams"] {
        assert!(warnings.contains(word), "{word}: {warnings}");
    }
}

const EXAMPLE: &str = include_str!("../../../../brokle.example.toml");

#[test]
fn the_example_shows_every_key_with_its_default() {
    assert_eq!(load_text(EXAMPLE).unwrap(), Config::default());
    let shown: toml::Table = EXAMPLE.parse().unwrap();
    let defaults = toml::Table::try_from(Config::default()).unwrap();
    for (section, keys) in &defaults {
        for key in keys.as_table().into_iter().flatten().map(|(key, _)| key) {
            assert!(shown[section].get(key).is_some(), "{section}.{key} is missing in brokle.example.toml");
        }
    }
}

#[test]
fn what_the_example_has_in_comments_can_be_written() {
    let is_toml = |line: &str| {
        line.starts_with('[') || line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '))
    };
    let text: Vec<&str> = EXAMPLE
        .lines()
        .filter(|line| !line.starts_with("connections = []") && !line.starts_with("registries = []"))
        // A file that is read, of a server with another scheme.
        .filter(|line| !line.starts_with("# redis_ca_file"))
        .map(|line| line.strip_prefix("# ").filter(|rest| is_toml(rest)).unwrap_or(line))
        .collect();
    let config = load_text(&text.join("\n")).unwrap();
    assert_eq!(config.gateway.connections.len(), 1);
    assert_eq!(config.models.len(), 1);
    assert_eq!((config.guardrails.len(), config.exporters.len(), config.recording.len()), (1, 1, 1));
    assert_eq!((config.limits.len(), config.budgets.len()), (1, 1));
    assert_eq!((config.routes.len(), config.routes[0].candidates.len()), (1, 1));
    assert!(config.storage.redis_url.is_some() && config.runtime.license_file.is_some());
}

#[test]
fn a_route_that_cant_be_is_named() {
    let route = |name: &str, candidate: &str| {
        format!("[[routes]]\nname = \"{name}\"\n[[routes.candidates]]\nmodel = \"m\"\n{candidate}\n")
    };
    let good = "provider = \"openai\"";
    assert_eq!(load_text(&route("smart", good)).unwrap().routes.len(), 1);
    for (text, words) in [
        (route("smart", good) + &route("smart", good), "routes.1.name: there are two routes 'smart'"),
        (route("openai/gpt", good), "routes.0.name"),
        (route("smart", ""), "routes.0.candidates.0: either connection or provider"),
        (route("smart", "provider = \"a\"\nconnection = \"b\""), "routes.0.candidates.0: either"),
        (route("smart", "provider = \"a\"\nweight = 1000001"), "routes.0.candidates.0.weight"),
        (route("smart", "provider = \"a\"\nweight = 0"), "routes.0.candidates: one of them needs a weight"),
        ("[[routes]]\nname = \"smart\"\ncandidates = []\n".to_owned(), "routes.0.candidates"),
        (route("smart", "provider = \"a\"\nwheight = 1"), "wheight"),
    ] {
        assert!(problem(&text).contains(words), "{}", problem(&text));
    }
}

#[test]
fn a_limit_that_cant_be_is_named() {
    let limit = |lines: &str| format!("[[limits]]\nname = \"a\"\n{lines}\n");
    let good = limit("by = [\"user\", \"key\", \"user\"]\ntokens_per_day = 5");
    let read = load_text(&good).unwrap().limits[0].to_limit().unwrap();
    assert_eq!((read.who.by.len(), read.amounts.tokens_per_day), (2, Some(5)));
    for (text, words) in [
        (good.clone() + &good, "limits.1.name: there are two limits 'a'"),
        (limit("by = []\ntokens_per_day = 5"), "limits.0.by: at least one of key, user"),
        (limit("by = [\"team\"]\ntokens_per_day = 5"), "team"),
        (limit("by = [\"key\"]"), "limits.0.it limits nothing"),
        (limit("by = [\"key\"]\ntokens_per_day = 1000000001"), "limits.0.tokens_per_day: 0 to 1000000000"),
        (
            limit("by = [\"key\"]\ntokens_per_day = 1\nonly.projects = [\"x\"]"),
            "limits.0.only.projects.0: 'x' is no id",
        ),
        (limit("by = [\"key\"]\ntoken_per_day = 1"), "token_per_day"),
        (good.replace("\"a\"", "\" \""), "limits.0.name: 1 to 64"),
    ] {
        assert!(problem(&text).contains(words), "{}", problem(&text));
    }
}

#[test]
fn a_budget_that_cant_be_is_named() {
    let budget = |lines: &str| format!("[[budgets]]\nname = \"a\"\nby = [\"key\"]\n{lines}\n");
    let good = budget("per = \"week\"\nusd = \"2.50\"");
    let read = load_text(&good).unwrap().budgets[0].to_budget().unwrap();
    assert_eq!((read.limit.to_string().as_str(), read.alert_at.as_slice()), ("2.5", [80].as_slice()));
    for (text, words) in [
        (good.clone() + &good, "budgets.1.name: there are two budgets 'a'"),
        (budget("per = \"year\"\nusd = \"1\""), "year"),
        (budget("per = \"day\""), "budgets.0.usd"),
        (budget("per = \"day\"\nusd = \"1\"\ntokens = 5"), "budgets.0.usd"),
        (budget("per = \"day\"\nusd = 2.5"), "dollars as a string"),
        (budget("per = \"day\"\nusd = \"-1\""), "budgets.0.usd"),
        (budget("per = \"day\"\nusd = 1\nalert_at = [90, 80]"), "budgets.0.alert_at"),
        (budget("per = \"day\"\nusd = 1\nalert_at = [101]"), "budgets.0.alert_at"),
        (budget("per = \"day\"\nusd = 1\non_exceeded = \"warn\""), "warn"),
    ] {
        assert!(problem(&text).contains(words), "{}", problem(&text));
    }
}

#[test]
fn a_guardrail_that_cant_be_is_named() {
    let twice = "[[guardrails]]\nplugin = \"regex\"\n[[guardrails]]\nplugin = \"regex\"\n";
    let error = load_text(twice).unwrap_err().to_string();
    assert!(error.contains("guardrails.1.name") && error.contains("two guardrails"), "{error}");
    let error =
        load_text("[[guardrails]]\nplugin = \"regex\"\nprojects = [\"mine\"]\n").unwrap_err().to_string();
    assert!(error.contains("guardrails.0.projects.0"), "{error}");
    let error = load_text("[[guardrails]]\nplugin = \"regex\"\nmode = \"on\"\n").unwrap_err().to_string();
    assert!(error.contains("enforce"), "{error}");
}
