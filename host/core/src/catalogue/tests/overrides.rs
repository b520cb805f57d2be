//! The operator's rows, as they stand in the configuration file.

use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Config {
    models: Vec<ModelOverride>,
}

fn with(config: &str) -> Result<Catalogue, CatalogueError> {
    let config: Config = toml::from_str(config).unwrap();
    CATALOGUE.clone().with_overrides(config.models)
}

#[track_caller]
fn refused(config: &str) -> String {
    with(config).unwrap_err().to_string()
}

#[test]
fn a_partial_row_changes_what_it_says() {
    let catalogue = with(
        r#"
        [[models]]
        provider = "openai"
        name = "gpt-4o"
        context_window = 64000
        prices = { input = "2.00", per_image = 1 }
        "#,
    )
    .unwrap();
    let row = catalogue.resolve("gpt-4o").unwrap();
    let listed = model("openai", "gpt-4o");
    assert_eq!((row.prices.input, row.prices.per_image), (Some(usd("2")), Some(usd("1"))));
    assert_eq!((row.prices.output, row.max_output), (listed.prices.output, listed.max_output));
    assert_eq!((row.context_window, &row.capabilities), (Some(64_000), &listed.capabilities));
    assert_eq!((row.source.as_deref(), row.as_of), (Some("configuration"), None));
    assert_eq!(catalogue.models().count(), CATALOGUE.models().count());
    assert_eq!(
        catalogue.find("azure", "gpt-4o"),
        CATALOGUE.find("azure", "gpt-4o"),
        "another provider's row"
    );
}

#[test]
fn sizes_alone_leave_the_prices_their_source() {
    let catalogue = with("[[models]]\nprovider = 'openai'\nname = 'gpt-4o'\nmax_output = 9\n").unwrap();
    let row = catalogue.resolve("gpt-4o").unwrap();
    assert_eq!(*row, Model { max_output: Some(9), ..model("openai", "gpt-4o").clone() });
}

#[test]
fn a_new_row_knows_what_it_says_and_no_more() {
    let catalogue = with(
        r#"
        [[models]]
        provider = "acme"
        name = "acme-1"
        aliases = ["acme-latest", "gpt-4o"]
        patterns = ["acme-1-*"]
        mode = "embedding"
        capabilities = ["vision"]
        prices = { input = "0.5" }
        tiers = [{ above = 1000, prices = { input = "1" } }]
        "#,
    )
    .unwrap();
    let row = catalogue.resolve("acme-1").unwrap();
    assert_eq!((row.mode, row.context_window, row.supports("vision")), (Mode::Embedding, None, true));
    assert_eq!(row.cost(&Usage { input: 2000, ..Usage::default() }), Some(usd("0.002")));
    for name in ["acme-latest", "acme-1-2027"] {
        assert_eq!(catalogue.resolve(name), Some(row));
    }
    // A provider that only the configuration knows takes no bare name from one that the table knows.
    assert_eq!(catalogue.resolve("gpt-4o").unwrap().provider, "openai");
    assert_eq!(catalogue.providers_of("gpt-4o").last(), Some(row));
    assert_eq!(catalogue.nearest("acme-latst", 1), ["acme-latest"]);
}

#[test]
fn a_base_lends_everything_but_its_names() {
    let catalogue = with(
        r#"
        [[models]]
        provider = "azure"
        name = "chat-prod"
        base = "gpt-4o"

        [[models]]
        provider = "acme"
        name = "chat"
        base = "azure/chat-prod"
        prices = { output = "1" }
        "#,
    )
    .unwrap();
    let listed = model("azure", "gpt-4o");
    let deployment = catalogue.find("azure", "chat-prod").unwrap();
    assert_eq!((&deployment.prices, deployment.mode), (&listed.prices, listed.mode));
    assert!(deployment.aliases.is_empty() && !listed.aliases.is_empty());
    let other = catalogue.find("acme", "chat").unwrap();
    assert_eq!((other.prices.input, other.prices.output), (listed.prices.input, Some(usd("1"))));
}

#[test]
fn a_snapshot_gets_a_row_of_its_own() {
    // `gpt-5-2025-08-07` is an alias of `gpt-5` in the table.
    let catalogue =
        with("[[models]]\nprovider = 'openai'\nname = 'gpt-5-2025-08-07'\nprices = { input = '1' }\n")
            .unwrap();
    assert_eq!(catalogue.resolve("gpt-5-2025-08-07").unwrap().prices.input, Some(usd("1")));
    assert_eq!(catalogue.resolve("gpt-5"), CATALOGUE.resolve("gpt-5"));
    // By pattern, too.
    let tuned = "ft:gpt-4o-mini-2024-07-18:acme::1";
    let catalogue =
        with(&format!("[[models]]\nprovider = 'openai'\nname = '{tuned}'\nmax_output = 5\n")).unwrap();
    let row = catalogue.resolve(tuned).unwrap();
    assert_eq!((row.name.as_str(), row.prices.input), (tuned, Some(usd("0.3"))));
}

#[test]
fn replacing_forgets_the_built_in_row() {
    let catalogue =
        with("[[models]]\nprovider = 'openai'\nname = 'gpt-4o'\nreplace = true\nprices = { input = '1' }\n")
            .unwrap();
    let row = catalogue.resolve("gpt-4o").unwrap();
    assert_eq!((row.prices.output, row.context_window), (None, None));
    assert_eq!(row.cost(&Usage { input: 1, output: 1, ..Usage::default() }), None);
}

#[test]
fn aliases_and_patterns_move_to_the_operators_row() {
    let catalogue = with(
        r#"
        [[models]]
        provider = "openai"
        name = "mine"
        aliases = ["gpt-5-2025-08-07"]
        patterns = ["gpt-4o-mini-20*"]
        "#,
    )
    .unwrap();
    assert_eq!(catalogue.resolve("gpt-5-2025-08-07").unwrap().name, "mine");
    assert!(catalogue.resolve("gpt-5").unwrap().aliases.is_empty());
    assert_eq!(catalogue.resolve("gpt-4o-mini-2027-01-01").unwrap().name, "mine");
}

#[test]
fn a_bad_row_is_refused_by_name() {
    let row = "[[models]]\nprovider = 'openai'\nname = 'gpt-4o'\n";
    for (rest, says) in [
        ("prices = { input = '-1' }", "the price `input` is negative"),
        ("tiers = [{ above = 5, prices = { output = '-1' } }]", "the price `output` is negative"),
        ("tiers = [{ above = 0, prices = { input = '1' } }]", "the tier above 0 tokens"),
        ("tiers = [{ above = 5, prices = {} }]", "the tier above 5 tokens"),
        ("context_window = 0", "`context_window` is 0"),
        ("aliases = ['gpt-4o']", "`aliases` has \"gpt-4o\""),
        ("aliases = [' x']", "`aliases` has \" x\""),
        ("aliases = ['gpt-4o-mini']", "the alias \"gpt-4o-mini\" already means \"gpt-4o-mini\""),
        ("patterns = ['gpt']", "the pattern \"gpt\""),
        ("patterns = ['**']", "the pattern \"**\""),
        ("base = 'nothing'", "`base` is \"nothing\""),
        ("base = 'anthropic/gpt-4o'", "`base` is \"anthropic/gpt-4o\""),
    ] {
        let refusal = refused(&format!("{row}{rest}\n"));
        assert!(
            refusal.starts_with("models: openai/gpt-4o: ") && refusal.contains(says),
            "{rest}: {refusal}"
        );
    }
    assert!(refused(&format!("{row}{row}")).ends_with("openai/gpt-4o: the row is there twice"));
    assert!(refused("[[models]]\nprovider = ''\nname = 'x'\n").contains("`provider` has \"\""));
    assert!(refused("[[models]]\nprovider = 'a/b'\nname = 'x'\n").contains("`provider` has \"a/b\""));
    let twice = "[[models]]\nprovider = 'a'\nname = 'x'\naliases = ['z']\n\
                 [[models]]\nprovider = 'a'\nname = 'y'\naliases = ['z']\n";
    assert_eq!(refused(twice), "models: a/y: the alias \"z\" already means \"x\"");
}

#[test]
fn a_row_with_a_typo_or_a_float_is_no_row() {
    let row = "provider = 'openai'\nname = 'gpt-4o'\n";
    for (rest, says) in [
        ("price = { input = '1' }", "unknown field `price`"),
        ("prices = { inputs = '1' }", "unknown field `inputs`"),
        ("prices = { input = 0.15 }", "dollars as a string"),
        ("prices = { input = 'cheap' }", "not an amount in dollars"),
        ("capabilities = ['telepathy']", "unknown variant `telepathy`"),
    ] {
        let error = toml::from_str::<ModelOverride>(&format!("{row}{rest}\n")).unwrap_err().to_string();
        assert!(error.contains(says), "{rest}: {error}");
    }
}

#[test]
fn the_documented_rows_work() {
    let page = include_str!("../../../../../docs/model-catalogue.md");
    let sample = page.split_once("```toml\n").unwrap().1.split_once("```").unwrap().0;
    let catalogue = with(sample).unwrap();
    assert_eq!(catalogue.resolve("gpt-4o").unwrap().prices.output, Some(usd("8")));
    assert_eq!(catalogue.resolve("acme-1-2027").unwrap().provider, "acme");
    assert_eq!(catalogue.find("azure", "chat-prod").unwrap().mode, Mode::Chat);
}

#[test]
fn the_schema_of_a_row_says_what_is_required() {
    let schema = schemars::schema_for!(ModelOverride);
    assert_eq!(schema.get("required").unwrap(), &serde_json::json!(["provider", "name"]));
    assert_eq!(schema.get("additionalProperties").unwrap(), false);
}
