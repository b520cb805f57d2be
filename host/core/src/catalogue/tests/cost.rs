//! What calls cost. Expected amounts are worked out by hand from the price table's own literals, which
//! stand beside them in dollars per million tokens.

use proptest::prelude::*;

use super::*;

#[track_caller]
fn costs(provider: &str, name: &str, usage: Usage, dollars: &str) {
    assert_eq!(model(provider, name).cost(&usage), Some(usd(dollars)), "{provider}/{name}");
}

#[test]
fn plain_and_cached_input() {
    // 0.15 in, 0.075 cached, 0.60 out: 600 × 0.15 + 400 × 0.075 + 500 × 0.6 = 420.
    let usage = Usage { input: 1000, cached_read: 400, output: 500, ..Usage::default() };
    costs("openai", "gpt-4o-mini", usage, "0.00042");
    // 1.32 in, 0.044 cached, 3.96 out: 100 × 1.32 + 900 × 0.044 + 10 × 3.96 = 211.2.
    let usage = Usage { input: 1000, cached_read: 900, output: 10, ..Usage::default() };
    costs("deepseek", "deepseek-v4-pro", usage, "0.0002112");
    // 0.02 in.
    costs("openai", "text-embedding-3-small", Usage { input: 8000, ..Usage::default() }, "0.00016");
}

#[test]
fn cache_writes_cost_their_own_price() {
    // 3 in, 0.30 cached, 3.75 written, 15 out: 2000 × 3 + 6000 × 0.3 + 2000 × 3.75 + 1000 × 15 = 30300.
    let usage =
        Usage { input: 10_000, cached_read: 6000, cache_write: 2000, output: 1000, ..Usage::default() };
    costs("anthropic", "claude-sonnet-4-5", usage, "0.0303");
}

#[test]
fn a_tier_prices_the_whole_call() {
    // 1.25 in and 10 out up to 200,000 tokens in; above, 2.50 and 15, cached 0.25.
    let at = Usage { input: 200_000, output: 10, ..Usage::default() };
    costs("gemini", "gemini-2.5-pro", at, "0.2501");
    costs("gemini", "gemini-2.5-pro", Usage { input: 200_001, ..at }, "0.5001525");
    costs("gemini", "gemini-2.5-pro", Usage { input: 200_001, cached_read: 200_001, ..at }, "0.05015025");
}

#[test]
fn reasoning_is_part_of_the_output() {
    // 1.20 out, 4 reasoning; above 256,000 tokens in: 3.60 and 12 (and 1.20 in).
    let usage = Usage { output: 100, reasoning: 60, ..Usage::default() };
    costs("dashscope", "qwen-plus-2025-07-28", usage, "0.000288");
    costs("dashscope", "qwen-plus-2025-07-28", Usage { input: 300_000, ..usage }, "0.360864");
    // Without a price of its own it costs what output costs: 10.
    let usage = Usage { output: 100, reasoning: 100, ..Usage::default() };
    costs("openai", "gpt-5", usage, "0.001");
}

#[test]
fn audio_and_images_cost_their_own_price() {
    // 4 in, 0.40 cached, 32 audio in, 5 images in, 16 out, 64 audio out.
    let usage = Usage {
        input: 100,
        cached_read: 20,
        audio_input: 50,
        image_input: 10,
        output: 30,
        audio_output: 25,
        ..Usage::default()
    };
    // 20 × 4 + 20 × 0.4 + 50 × 32 + 10 × 5 + 5 × 16 + 25 × 64 = 3418.
    costs("openai", "gpt-realtime", usage, "0.003418");
}

#[test]
fn parts_are_never_charged_twice() {
    let mini = model("openai", "gpt-4o-mini");
    // Parts that overlap and claim 1,500 of 1,000 tokens: 900 cached at 0.075, then 100 audio at 0.15.
    let usage = Usage { input: 1000, cached_read: 900, audio_input: 600, ..Usage::default() };
    assert_eq!(mini.cost(&usage), Some(usd("0.0000825")));
    // A vendor that counts the cached tokens beside the input: the input is at least what was cached.
    let usage = Usage { input: 10, cached_read: 1000, ..Usage::default() };
    assert_eq!(mini.cost(&usage), Some(usd("0.000075")));
}

#[test]
fn an_unknown_price_makes_an_unknown_cost() {
    let one_sided =
        Model { prices: Prices { input: Some(usd("1")), ..Prices::default() }, ..Model::default() };
    assert_eq!(one_sided.cost(&Usage { input: 5, ..Usage::default() }), Some(usd("0.000005")));
    assert_eq!(one_sided.cost(&Usage { input: 5, output: 1, ..Usage::default() }), None);
    let part_only = Model {
        prices: Prices { output: Some(usd("1")), cached_read: Some(usd("0.1")), ..Prices::default() },
        ..Model::default()
    };
    assert_eq!(
        part_only.cost(&Usage { input: 5, cached_read: 5, ..Usage::default() }),
        Some(usd("0.0000005"))
    );
    assert_eq!(part_only.cost(&Usage { input: 6, cached_read: 5, ..Usage::default() }), None);
    assert_eq!(Model::default().cost(&Usage::default()), None, "no price at all isn't free");
    assert_eq!(
        Model::default().cost_with_units(&Usage::default(), &Units { images: 1, ..Units::default() }),
        None
    );
}

#[test]
fn echo_is_really_free() {
    let usage = Usage { input: 1000, output: 1000, ..Usage::default() };
    costs("echo", "echo-1", usage, "0");
    costs("echo", "echo-embedding", usage, "0");
    assert_eq!(CATALOGUE.find("echo", "echo-embedding").unwrap().mode, Mode::Embedding);
}

#[test]
fn batch_jobs_have_prices_of_their_own() {
    let usage = Usage { input: 1000, output: 100, ..Usage::default() };
    // 0.075 in and 0.30 out.
    assert_eq!(model("openai", "gpt-4o-mini").batch_cost(&usage), Some(usd("0.000105")));
    // 1.50 in, 0.15 cached.
    let cached = Usage { input: 1000, cached_read: 1000, ..Usage::default() };
    assert_eq!(model("anthropic", "claude-sonnet-4-5").batch_cost(&cached), Some(usd("0.00015")));
    assert_eq!(model("groq", "openai/gpt-oss-20b").batch_cost(&usage), None);
}

#[test]
fn units_that_are_not_tokens() {
    let none = Usage::default();
    let whisper = model("openai", "whisper-1");
    assert_eq!(whisper.cost(&Usage { input: 100, ..none }), None, "billed by the second");
    assert_eq!(whisper.cost_with_units(&none, &Units::default()), None, "nobody counted the seconds");
    let sound = Units { milliseconds: 90_500, ..Units::default() };
    assert_eq!(whisper.cost_with_units(&none, &sound), Some(usd("0.00905")));

    let speech = Units { characters: 2000, ..Units::default() };
    assert_eq!(model("openai", "tts-1").cost_with_units(&none, &speech), Some(usd("0.03")));
    let search = Units { queries: 3, ..Units::default() };
    assert_eq!(model("cohere", "rerank-v3.5").cost_with_units(&none, &search), Some(usd("0.006")));
    let images = Units { images: 2, ..Units::default() };
    assert_eq!(model("stability", "sd3.5-large").cost_with_units(&none, &images), Some(usd("0.13")));

    // Beside tokens: 0.8 per million and 0.00006 an image; 1 and 1 per million and 0.008 a search.
    let both = model("bedrock", "amazon.titan-embed-image-v1");
    assert_eq!(both.cost_with_units(&Usage { input: 100, ..none }, &images), Some(usd("0.0002")));
    let sonar = model("perplexity", "sonar");
    let searched = Units { web_searches: 1, ..Units::default() };
    let usage = Usage { input: 100, output: 100, ..none };
    assert_eq!(sonar.cost_with_units(&usage, &searched), Some(usd("0.0082")));
    let silent = model("mistral", "mistral-large-latest");
    assert_eq!(silent.cost_with_units(&usage, &searched), None, "a search of unknown price");
    assert_eq!(silent.cost_with_units(&usage, &Units::default()), silent.cost(&usage));
}

#[test]
fn an_estimate_costs_the_same() {
    let usage = Usage { input: 10, output: 10, ..Usage::default() };
    let mini = model("openai", "gpt-4o-mini");
    assert_eq!(mini.cost(&usage), mini.cost(&Usage { estimated: true, ..usage }));
}

/// The nine counts, each with the wholes that grow with it.
const KINDS: [(&str, Option<&str>); 9] = [
    ("input", None),
    ("output", None),
    ("cached_read", Some("input")),
    ("cache_write", Some("input")),
    ("reasoning", Some("output")),
    ("audio_input", Some("input")),
    ("audio_output", Some("output")),
    ("image_input", Some("input")),
    ("image_output", Some("output")),
];

fn any_usage(most: u64) -> impl Strategy<Value = Usage> {
    prop::array::uniform9(0..=most).prop_map(|counts| {
        let mut usage = Usage::default();
        for ((kind, _), count) in KINDS.into_iter().zip(counts) {
            assert!(usage.set(kind, count));
        }
        usage
    })
}

fn with_more(usage: &Usage, kind: &str, more: u64) -> Usage {
    let mut grown = *usage;
    assert!(grown.set(kind, count(usage, kind) + more));
    grown
}

fn count(usage: &Usage, kind: &str) -> u64 {
    usage.counts().into_iter().find(|(name, _)| *name == kind).unwrap().1
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Any count at all, on any row: an amount that isn't negative, or nothing; never a panic.
    #[test]
    fn cost_never_panics(at in 0_usize..10_000, usage in any_usage(u64::MAX), units in prop::array::uniform5(any::<u64>())) {
        let at = at % CATALOGUE.models().count();
        let model = CATALOGUE.models().nth(at).unwrap();
        let [images, milliseconds, characters, queries, web_searches] = units;
        let units = Units { images, milliseconds, characters, queries, web_searches };
        for cost in [model.cost(&usage), model.batch_cost(&usage), model.cost_with_units(&usage, &units)] {
            prop_assert!(cost.is_none_or(|cost| !cost.is_negative()));
        }
    }

    /// More tokens of any kind (a part's whole grows with it) never cost less, across tiers too, as
    /// long as no part is larger than its whole.
    #[test]
    fn cost_grows_with_every_count(
        at in 0_usize..10_000, usage in any_usage(300_000), kind in prop::sample::select(&KINDS), more in 1_u64..200_000,
    ) {
        let at = at % CATALOGUE.models().count();
        let model = CATALOGUE.models().nth(at).unwrap();
        let mut usage = usage;
        for (part, whole) in KINDS.into_iter().filter_map(|(part, whole)| Some((part, whole?))) {
            let missing = count(&usage, part).saturating_sub(count(&usage, whole));
            usage = with_more(&usage, whole, missing);
        }
        let mut larger = with_more(&usage, kind.0, more);
        if let Some(whole) = kind.1 {
            larger = with_more(&larger, whole, more);
        }
        if let (Some(less), Some(more)) = (model.cost(&usage), model.cost(&larger)) {
            prop_assert!(more >= less, "{}/{}: {usage:?} {less}, {larger:?} {more}", model.provider, model.name);
        }
    }
}
