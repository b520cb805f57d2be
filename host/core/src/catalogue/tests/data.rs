//! Every row that ships is usable, and says where it comes from.

use std::collections::HashSet;

use super::*;

#[test]
fn every_row_is_valid_and_finds_itself() {
    assert!(CATALOGUE.models().count() >= 800);
    for row in CATALOGUE.models() {
        let label = format!("{}/{}", row.provider, row.name);
        assert_eq!(row.problem(), None, "{label}");
        assert!(
            CATALOGUE.providers.contains(&row.provider),
            "{label}: its provider has no place in the order"
        );
        assert!(row.as_of.is_some(), "{label}");
        for name in row.aliases.iter().chain([&row.name]) {
            let found = CATALOGUE.find(&row.provider, name).unwrap();
            assert!(std::ptr::eq(found, row), "{label}: {name} finds {}", found.name);
        }
    }
}

#[test]
fn at_least_four_hundred_models_are_priced() {
    let priced = CATALOGUE.models().filter(|row| row.prices.iter().next().is_some()).count();
    assert!(priced >= 1800, "{priced}");
    let sourced = CATALOGUE.models().filter(|row| row.source.is_some()).count();
    assert!(sourced >= 1000, "{sourced}");
}

#[test]
fn nothing_is_past_its_end() {
    for row in CATALOGUE.models() {
        assert!(row.deprecated.is_none_or(|end| Some(end) >= row.as_of), "{}/{}", row.provider, row.name);
    }
}

#[test]
fn no_row_is_free_by_accident() {
    let free: Vec<_> = CATALOGUE
        .models()
        .filter(|row| row.cost(&Usage { input: 1000, output: 1000, ..Usage::default() }) == Some(Usd::ZERO))
        .map(|row| format!("{}/{}", row.provider, row.name))
        .collect();
    let expected = [
        "openai/omni-moderation-latest",
        "zai/glm-4.5-flash",
        "zai/glm-4.7-flash",
        "echo/echo-1",
        "echo/echo-embedding",
    ];
    assert_eq!(free, expected);
}

#[test]
fn a_tier_is_never_cheaper_than_what_it_replaces() {
    for row in CATALOGUE.models() {
        let mut below = row.prices;
        for tier in &row.tiers {
            let here = tier.prices.or(&row.prices);
            for (kind, price) in below.iter() {
                let above = here.iter().find(|(other, _)| *other == kind).unwrap().1;
                assert!(above >= price, "{}/{}: {kind} above {}", row.provider, row.name, tier.above);
            }
            below = here;
        }
    }
}

#[test]
fn the_tables_name_source_version_date_and_licence() {
    let [public, own] = CATALOGUE.tables() else { panic!("two tables") };
    assert!(public.source.contains("model_prices_and_context_window"));
    assert_eq!((public.license.as_str(), own.license.as_str()), ("MIT", "Apache-2.0"));
    assert!(public.source_version.split('.').count() >= 3);
    assert_eq!(model("openai", "gpt-4o").as_of, Some(public.as_of));
}

#[test]
fn capability_names_are_those_of_the_data() {
    let used: HashSet<Capability> =
        CATALOGUE.models().flat_map(|row| row.capabilities.iter().copied()).collect();
    assert_eq!(used.len(), 13);
    for capability in used {
        assert_eq!(serde_json::to_value(capability).unwrap(), capability.name());
    }
    let gpt = model("openai", "gpt-4o");
    assert!(gpt.supports("tools") && gpt.supports("vision") && gpt.supports("json_schema"));
    assert!(!gpt.supports("reasoning") && !gpt.supports("telepathy"));
    assert_eq!((gpt.context_window, gpt.max_output), (Some(128_000), Some(16_384)));
}

#[test]
fn the_documentation_lists_every_provider_in_order() {
    let page = include_str!("../../../../../docs/model-catalogue.md");
    let listed: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | ").map(|(id, _)| id))
        .filter(|id| CATALOGUE.models().any(|row| row.provider == *id))
        .collect();
    assert_eq!(listed, CATALOGUE.providers);
}
