//! From a name as a client writes it to a row.

use super::*;

fn resolved(name: &str) -> Option<(&'static str, &'static str)> {
    CATALOGUE.resolve(name).map(|row| (row.provider.as_str(), row.name.as_str()))
}

#[test]
fn a_bare_name_goes_to_who_makes_the_model() {
    assert_eq!(resolved("gpt-4o"), Some(("openai", "gpt-4o")));
    assert_eq!(resolved("gemini-3.5-flash"), Some(("gemini", "gemini-3.5-flash")));
    assert_eq!(resolved("claude-sonnet-5"), Some(("anthropic", "claude-sonnet-5")));
    assert_eq!(resolved("deepseek-v4-pro"), Some(("deepseek", "deepseek-v4-pro")));
    assert_eq!(resolved("gpt-4O"), None, "names match case and all");
    assert_eq!(resolved("gpt-4o "), None);
    assert_eq!(resolved(""), None);
    assert_eq!(resolved(&"x".repeat(100_000)), None);
}

#[test]
fn an_alias_is_as_good_as_a_name() {
    assert_eq!(resolved("gpt-5-2025-08-07"), Some(("openai", "gpt-5")));
    assert_eq!(resolved("claude-sonnet-4-5-20250929"), Some(("anthropic", "claude-sonnet-4-5")));
    // The maker's alias comes before a reseller's name.
    assert_eq!(resolved("mistral-large-2512"), Some(("mistral", "mistral-large-latest")));
}

#[test]
fn patterns_come_after_names() {
    assert_eq!(resolved("gpt-4o-mini-2027-01-01"), Some(("openai", "gpt-4o-mini")));
    assert_eq!(
        resolved("gpt-4o-mini-search-preview-2027-01-01"),
        Some(("openai", "gpt-4o-mini-search-preview"))
    );
    // A fine-tune costs what the table says of fine-tunes of its base, not what the base costs.
    let tuned = CATALOGUE.resolve("ft:gpt-4o-mini-2024-07-18:acme:support:AbC123").unwrap();
    assert_eq!(tuned.name, "ft:gpt-4o-mini-2024-07-18");
    assert_eq!(tuned.prices.input, Some(usd("0.3")));
    // A retired snapshot had another price: what it costs isn't known.
    assert_eq!(CATALOGUE.find("openai", "gpt-4o-2024-05-13"), None);
}

#[test]
fn one_provider_is_asked_by_its_id() {
    assert_eq!(CATALOGUE.find("azure", "gpt-4o").unwrap().provider, "azure");
    assert_eq!(CATALOGUE.find("anthropic", "gpt-4o"), None);
    assert_eq!(CATALOGUE.find("nobody", "gpt-4o"), None);
    assert_eq!(CATALOGUE.find("openai", "openai/gpt-4o"), None, "prefixes are the gateway's");
}

#[test]
fn every_provider_of_a_name_once_the_preferred_first() {
    let of = |name: &str| CATALOGUE.providers_of(name).map(|row| row.provider.as_str()).collect::<Vec<_>>();
    assert_eq!(of("gpt-4o"), ["openai", "azure"]);
    assert_eq!(of("gemini-3.5-flash"), ["gemini", "vertex"]);
    assert_eq!(of("no-such-model"), [""; 0]);
    for row in CATALOGUE.models() {
        assert_eq!(CATALOGUE.providers_of(&row.name).next(), CATALOGUE.resolve(&row.name));
    }
}

#[test]
fn the_longest_literal_prefix_wins() {
    let rows = |patterns: &[(&str, &str, &[&str])]| {
        let overrides = patterns.iter().map(|(provider, name, patterns)| ModelOverride {
            provider: (*provider).to_owned(),
            name: (*name).to_owned(),
            patterns: patterns.iter().map(|glob| (*glob).to_owned()).collect(),
            ..ModelOverride::default()
        });
        CATALOGUE.clone().with_overrides(overrides.collect()).unwrap()
    };
    let catalogue = rows(&[
        ("zeta", "any", &["acme-*"]),
        ("zeta", "large", &["acme-large-*", "*-large-plus"]),
        ("alfa", "same", &["acme-large-*"]),
    ]);
    let resolved = |name| catalogue.resolve(name).map(|row| row.name.as_str());
    assert_eq!(resolved("acme-small"), Some("any"));
    assert_eq!(resolved("acme-large-1"), Some("same"), "equal prefixes: by provider");
    assert_eq!(resolved("own-large-plus"), Some("large"));
    assert_eq!(catalogue.find("zeta", "acme-large-1").unwrap().name, "large");
    assert_eq!(resolved(&format!("acme-{}", "x".repeat(300))), None, "too long for patterns");
}

#[test]
fn near_names_are_offered_nearest_first() {
    let first = |name: &str| CATALOGUE.nearest(name, 3).first().copied();
    assert_eq!(first("gpt4o-mini"), Some("gpt-4o-mini"));
    assert_eq!(first("GPT-4o"), Some("gpt-4o"));
    assert_eq!(first("claude-sonet-4.5"), Some("claude-sonnet-4-5"));
    assert_eq!(first("gemini 2.5 pro"), Some("gemini-2.5-pro"));
    assert!(CATALOGUE.nearest("mistral-large", 9).contains(&"mistral-large-latest"));
    assert_eq!(first("text-embeding-3-smal"), Some("text-embedding-3-small"));
    assert!(CATALOGUE.nearest("gpt-oss-20b", 5).contains(&"openai/gpt-oss-20b"));
    assert_eq!(CATALOGUE.nearest("gpt-4o-mni", 2).len(), 2);
    assert_eq!(CATALOGUE.nearest("gpt-4o", 0), [""; 0]);
}

#[test]
fn nothing_is_offered_for_noise() {
    for noise in ["", "zzzzqqqqzzzz", "日本語のモデル名です", &"gpt-4o".repeat(50), &"é".repeat(129)]
    {
        assert_eq!(CATALOGUE.nearest(noise, 5), [""; 0], "{noise}");
    }
}
