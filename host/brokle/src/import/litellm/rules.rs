//! Everything beside deployments and their names: how calls are routed and retried, how much callers may, what is cached.

use brokle_core::money::Usd;
use brokle_gateway::budgets::Period;
use brokle_gateway::who::By;
use serde_json::Value;

use super::super::section::{Section, whole};
use super::super::{Kind, Notes, Written};
use crate::config::{Budget, Limit};

/// The longest that a call may take by default, in milliseconds.
const TOTAL_MS: u64 = 600_000;

pub(super) fn gateway(
    router: &mut Section,
    settings: &mut Section,
    general: &mut Section,
    written: &mut Written,
    notes: &mut Notes,
) {
    let gateway = &mut written.gateway.settings;
    let strategy = router.text("routing_strategy", notes).unwrap_or_else(|| "simple-shuffle".to_owned());
    let policy = match strategy.as_str() {
        "simple-shuffle" => "weighted",
        "least-busy" => "least-busy",
        "latency-based-routing" => "latency",
        "cost-based-routing" => "cost",
        _ => {
            let text = "there is no such policy: `least-busy` takes its place";
            notes.add(Kind::Changed, router.key("routing_strategy"), text);
            "least-busy"
        }
    };
    gateway.insert("policy", policy.into());
    let own = router.count("num_retries", notes);
    if let Some(retries) = own.or_else(|| settings.count("num_retries", notes)) {
        if retries > 5 {
            notes.add(Kind::Changed, router.key("num_retries"), "5 are the most");
        }
        gateway.insert("retries", integer(retries.min(5)));
    }
    settings.take("num_retries");
    let timeout = [router.number("timeout", notes), router.number("stream_timeout", notes)];
    let usual = settings.number("request_timeout", notes);
    if let Some(seconds) = timeout.into_iter().flatten().reduce(f64::max).or(usual).filter(|s| *s > 0.0) {
        let ms = whole(seconds * 1e3).max(1);
        gateway.insert("first_byte_ms", integer(ms));
        if ms > TOTAL_MS {
            gateway.insert("total_ms", integer(ms));
        }
    }
    let mut breaker = toml::Table::new();
    let fails = router.count("allowed_fails", notes);
    if let Some(fails) = fails.or_else(|| settings.count("allowed_fails", notes)) {
        let text =
            "a circuit opens after so many failures in a row, and one more; not after so many in a minute";
        notes.add(Kind::Changed, router.key("allowed_fails"), text);
        breaker.insert("in_a_row".to_owned(), integer(fails.saturating_add(1)));
    }
    if let Some(seconds) = router.number("cooldown_time", notes).filter(|seconds| *seconds > 0.0) {
        let ms = whole(seconds * 1e3).max(1);
        breaker.insert("open_ms".to_owned(), integer(ms));
        breaker.insert("max_open_ms".to_owned(), integer(ms.max(60_000)));
    }
    if !breaker.is_empty() {
        gateway.insert("breaker", breaker.into());
    }
    if let Some(most) = general.count("global_max_parallel_requests", notes).filter(|most| *most > 0) {
        gateway.insert("max_in_flight", integer(most));
    }
}

fn integer(number: u64) -> toml::Value {
    i64::try_from(number).unwrap_or(i64::MAX).into()
}

/// What holds for keys, users and all together.
pub(super) fn limits(
    settings: &mut Section,
    general: &mut Section,
    written: &mut Written,
    notes: &mut Notes,
) {
    let mut by_key = settings.section("default_key_generate_params", notes);
    let mut highest = settings.section("upperbound_key_generate_params", notes);
    let mut limit = Limit { name: "key".to_owned(), by: vec![By::Key], ..Limit::default() };
    let mut either = |name: &str, notes: &mut Notes| {
        let own = by_key.count(name, notes);
        let most = highest.count(name, notes);
        own.or(most)
    };
    limit.requests_per_minute = either("rpm_limit", notes);
    limit.tokens_per_minute = either("tpm_limit", notes);
    let parallel = either("max_parallel_requests", notes);
    limit.concurrent_requests = parallel.or_else(|| general.count("max_parallel_requests", notes));
    if limit.requests_per_minute.or(limit.tokens_per_minute).or(limit.concurrent_requests).is_some() {
        written.limits.push(limit);
    }
    for section in [&mut by_key, &mut highest] {
        budget(section, "max_budget", "budget_duration", "key", By::Key, written, notes);
    }
    let mut user = settings.section("default_internal_user_params", notes);
    budget(&mut user, "max_budget", "budget_duration", "user", By::User, written, notes);
    let (most, per) = ("max_internal_user_budget", "internal_user_budget_duration");
    budget(settings, most, per, "user", By::User, written, notes);
    budget(settings, "max_budget", "budget_duration", "all", By::Organization, written, notes);
    if let Some(amount) = settings.take("max_end_user_budget") {
        let key = settings.key("max_end_user_budget");
        notes.add(Kind::Changed, key, "budgets of users begin anew each month");
        write(&amount, Period::Month, "end-user", By::User, written);
    }
    for section in [by_key, highest, user] {
        section.rest(notes);
    }
}

fn budget(
    section: &mut Section,
    most: &str,
    duration: &str,
    name: &str,
    by: By,
    written: &mut Written,
    notes: &mut Notes,
) {
    let per = section.text(duration, notes);
    let Some(amount) = section.take(most) else { return };
    let period = match per.as_deref() {
        Some("1d" | "24h" | "86400s") => Period::Day,
        Some("7d" | "168h" | "1w") => Period::Week,
        Some("30d" | "31d" | "1mo") => Period::Month,
        _ => {
            notes.add(
                Kind::Changed,
                section.key(duration),
                "budgets are by day, week or month: it is one by month",
            );
            Period::Month
        }
    };
    if !write(&amount, period, name, by, written) {
        notes.add(Kind::NoEqual, section.key(most), "no amount of dollars: left out");
    }
}

/// The first budget of a name counts.
fn write(amount: &Value, per: Period, name: &str, by: By, written: &mut Written) -> bool {
    let text = amount.as_str().map_or_else(|| amount.to_string(), str::to_owned);
    let Ok(usd) = text.trim().parse::<Usd>() else { return false };
    if usd.is_negative() {
        return false;
    }
    if written.budgets.iter().all(|budget| budget.name != name) {
        written.budgets.push(Budget::dollars(name, by, per, usd));
    }
    true
}

pub(super) fn cache(router: &mut Section, settings: &mut Section, written: &mut Written, notes: &mut Notes) {
    let enabled = settings.flag("cache");
    let mut params = settings.section("cache_params", notes);
    let kind = params.text("type", notes).unwrap_or_else(|| "local".to_owned());
    let ttl = params.number("ttl", notes);
    if enabled {
        written.cache.insert("enabled", true.into());
        if let Some(seconds) = ttl.map(whole).filter(|seconds| *seconds > 0) {
            written.cache.insert("ttl_seconds", integer(seconds));
            written.cache.insert("max_ttl_seconds", integer(seconds.max(86_400)));
        }
        match kind.as_str() {
            "local" => {}
            "redis" => {
                let text = "answers are kept in each server's memory; Redis shares limits";
                notes.add(Kind::Changed, params.key("type"), text);
            }
            _ => notes.add(
                Kind::NoEqual,
                params.key("type"),
                "answers are found by the same request only, in memory",
            ),
        }
    }
    let (mut url, mut key) = (None, String::new());
    for (section, prefix) in [(&mut params, ""), (router, "redis_")] {
        let mut member = |name: &str| section.take(&format!("{prefix}{name}"));
        let (host, port, password) = (member("host"), member("port"), member("password"));
        let port =
            port.map_or_else(|| "6379".to_owned(), |port| port.to_string().trim_matches('"').to_owned());
        let Some(host) = host.as_ref().and_then(Value::as_str) else { continue };
        key = section.key(&format!("{prefix}host"));
        let plain = |text: &str| !text.contains("os.environ/");
        url = (password.is_none() && plain(host) && plain(&port)).then(|| format!("redis://{host}:{port}"));
    }
    if key.is_empty() {
        params.rest(notes);
        return;
    }
    match url {
        Some(url) => drop(written.storage.insert("redis_url", url.into())),
        None => notes.add(
            Kind::Todo,
            key,
            "set REDIS_URL (redis://HOST:PORT, without TLS), so that servers share limits",
        ),
    }
    params.rest(notes);
}

/// What is a secret, or names one: nothing is copied.
pub(super) fn secrets(file: &mut Section, general: &mut Section, notes: &mut Notes) {
    if general.take("master_key").is_some() {
        let text = "BROKLE_BOOTSTRAP_API_KEY takes a key of the form bk_ and 40 characters; without it the first start prints one";
        notes.add(Kind::Todo, general.key("master_key"), text);
    }
    if general.take("database_url").is_some() {
        let text = "LiteLLM's database isn't read: make its keys anew with `brokle key create`; DATABASE_URL must name another database";
        notes.add(Kind::Todo, general.key("database_url"), text);
    }
    let variables = file.section("environment_variables", notes);
    let path = variables.path.clone();
    for (name, _) in variables.into_members() {
        notes.add(
            Kind::Todo,
            format!("{path}.{name}"),
            "set it in the server's environment: it isn't copied",
        );
    }
}
