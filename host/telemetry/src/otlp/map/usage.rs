//! Tokens by type, and what they cost.
//!
//! **Parts and wholes.** Brokle counts cached tokens as a part of the input and reasoning as a part of the output, as
//! OpenTelemetry says. Senders that count a part beside its whole are recognized by their total (it is the sum of all of
//! them), or by a part that is larger than its whole; then the part is added. Otherwise counts are taken as they are.

use brokle_core::catalogue::Catalogue;
use brokle_core::money::Usd;
use brokle_core::observation::Observation;
use brokle_core::usage::Usage;
use serde_json::{Map, Value};

use super::number;
use super::places::Places;
use super::table;

/// The span's tokens; none when it says nothing of any.
pub(super) fn tokens(places: &mut Places<'_>) -> Option<Usage> {
    if let Some(usage) = places.take(&[table::USAGE_OBJECT], |value| from_object(&object(value)?)) {
        return Some(usage);
    }
    let mut take = |names: &[&str]| places.take(names, count);
    let (input, output, total) =
        (take(table::INPUT_TOKENS), take(table::OUTPUT_TOKENS), take(table::TOTAL_TOKENS));
    let parts = [
        take(table::CACHED_READ_TOKENS),
        take(table::CACHE_WRITE_TOKENS),
        take(table::REASONING_TOKENS),
        take(table::AUDIO_INPUT_TOKENS),
        take(table::AUDIO_OUTPUT_TOKENS),
        take(table::IMAGE_INPUT_TOKENS),
        take(table::IMAGE_OUTPUT_TOKENS),
    ];
    if input.or(output).or(total).is_none() && parts.iter().all(Option::is_none) {
        return None;
    }
    let [cached_read, cache_write, reasoning, audio_input, audio_output, image_input, image_output] =
        parts.map(Option::unwrap_or_default);
    // With a total alone nobody knows more: all of it went in.
    let input = input.unwrap_or_else(|| total.unwrap_or_default().saturating_sub(output.unwrap_or_default()));
    let output = output.unwrap_or_else(|| total.unwrap_or_default().saturating_sub(input));
    let usage = Usage {
        input,
        output,
        cached_read,
        cache_write,
        reasoning,
        audio_input,
        audio_output,
        image_input,
        image_output,
        estimated: false,
    };
    Some(whole(usage, total))
}

/// Adds parts that were counted beside their whole.
fn whole(mut usage: Usage, total: Option<u64>) -> Usage {
    let cached = usage.cached_read.saturating_add(usage.cache_write);
    let both = usage.total();
    let says = |sum: u64| total == Some(sum) && sum != both;
    let everything = both.saturating_add(cached).saturating_add(usage.reasoning);
    let is_input_beside = says(both.saturating_add(cached)) || says(everything) || cached > usage.input;
    let is_output_beside =
        says(both.saturating_add(usage.reasoning)) || says(everything) || usage.reasoning > usage.output;
    if is_input_beside {
        usage.input = usage.input.saturating_add(cached);
    }
    if is_output_beside {
        usage.output = usage.output.saturating_add(usage.reasoning);
    }
    usage
}

/// Langfuse's counts: OpenAI's own usage object, or a map of types of which each is counted once (`input`,
/// `input_cached_tokens`, `cache_read_input_tokens`, `output`, `output_reasoning_tokens`, `total`, …).
fn from_object(object: &Map<String, Value>) -> Option<Usage> {
    if object.keys().any(|key| key.ends_with("_details") || key == "prompt_tokens") {
        return Usage::from_openai(&serde_json::to_vec(object).ok()?);
    }
    let get = |names: &[&str]| names.iter().find_map(|name| object.get(*name).and_then(count));
    let (mut input, mut output) = (get(&["input", "input_tokens"]), get(&["output", "output_tokens"]));
    let total = get(&["total", "total_tokens"]);
    let part = |names: &[&str]| get(names).unwrap_or_default();
    let usage = Usage {
        cached_read: part(&["cache_read_input_tokens", "input_cached_tokens", "input_cache_read"]),
        cache_write: part(&["cache_creation_input_tokens", "input_cache_creation", "input_cache_write"]),
        reasoning: part(&["output_reasoning_tokens", "output_reasoning", "reasoning_tokens"]),
        audio_input: part(&["input_audio_tokens"]),
        audio_output: part(&["output_audio_tokens"]),
        ..Usage::default()
    };
    if input.or(output).or(total).is_none() && usage.is_empty() {
        return None;
    }
    let both = input.unwrap_or_default().saturating_add(output.unwrap_or_default());
    if total != Some(both) {
        // Each type once: the whole is the sum.
        let inside = [usage.cached_read, usage.cache_write, usage.audio_input];
        let outside = [usage.reasoning, usage.audio_output];
        let sum = |parts: &[u64]| parts.iter().fold(0_u64, |sum, part| sum.saturating_add(*part));
        if sum(&inside) > 0 {
            input = Some(input.unwrap_or_default().saturating_add(sum(&inside)));
        }
        if sum(&outside) > 0 {
            output = Some(output.unwrap_or_default().saturating_add(sum(&outside)));
        }
    }
    let input = input.unwrap_or_else(|| total.unwrap_or_default().saturating_sub(output.unwrap_or_default()));
    Some(Usage { input, output: output.unwrap_or_default(), ..usage })
}

/// What the sender says it cost, else what the catalogue says. A sender that couldn't price the call sends 0.
pub(super) fn cost(places: &mut Places<'_>, made: &Observation, catalogue: &Catalogue) -> Option<Usd> {
    let said = places.take(table::COST, |value| {
        let cost = match object(value) {
            Some(parts) => match parts.get("total").and_then(dollars) {
                Some(total) => total,
                None => parts.values().filter_map(dollars).sum(),
            },
            None => dollars(value)?,
        };
        (cost > Usd::ZERO).then_some(cost)
    });
    if let Some(cost) = said {
        places.attributes.insert("brokle.cost.source".to_owned(), Value::from("client"));
        return Some(cost);
    }
    let usage = made.usage.filter(|usage| !usage.is_empty())?;
    let names = [made.model_served.as_deref(), made.model_requested.as_deref()];
    names.into_iter().flatten().find_map(|model| {
        let bare = || model.rsplit('/').next().unwrap_or(model);
        let row = match made.provider.as_deref() {
            Some(provider) => catalogue
                .find(provider, model)
                .or_else(|| catalogue.find(provider, bare()))
                .or_else(|| catalogue.resolve(model)),
            None => catalogue.resolve(model).or_else(|| catalogue.resolve(bare())),
        };
        row?.cost(&usage)
    })
}

/// An object, also where it is JSON in a text.
fn object(value: &Value) -> Option<Map<String, Value>> {
    match value {
        Value::Object(object) => Some(object.clone()),
        Value::String(text) if text.starts_with('{') => serde_json::from_str(text).ok(),
        _ => None,
    }
}

/// A count, also where it is written as a text or a whole float.
fn count(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| {
        let number = number(value)?;
        // 2^53: beyond it a float no longer tells neighbouring whole numbers apart.
        (number.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&number)).then_some(number as u64)
    })
}

/// An amount, exact where it is a text and to a billionth of a cent where it is a float.
fn dollars(value: &Value) -> Option<Usd> {
    let exact = match value {
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    let amount = exact.or_else(|| {
        let number = number(value).filter(|number| (0.0..=1e12).contains(number))?;
        format!("{number:.11}").parse().ok()
    })?;
    (amount >= Usd::ZERO).then_some(amount)
}
