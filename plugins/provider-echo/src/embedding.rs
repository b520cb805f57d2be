//! `embeddings`: a unit vector that follows from the text (FNV-1a over its bytes seeds a
//! xorshift), so that equal texts are equally embedded and different ones almost surely aren't.

use base64::Engine;
use brokle_plugin::Problem;
use brokle_plugin::provider::{Call, Output};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{error, tokens, write};

/// The length of a vector when the caller doesn't say.
const DIMENSIONS: u64 = 8;
/// The most dimensions on offer, those of the largest model at OpenAI.
const MOST_DIMENSIONS: u64 = 3072;

#[derive(Deserialize)]
pub(crate) struct Request {
    input: Input,
    #[serde(default)]
    dimensions: Option<u64>,
    #[serde(default)]
    encoding_format: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Input {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<u64>),
    TokenLists(Vec<Vec<u64>>),
}

/// One text or list of tokens: what is hashed, and how many tokens it has.
fn item_of_text(text: &str) -> (Vec<u8>, u64) {
    (text.as_bytes().to_vec(), tokens::count(text))
}

fn item_of_tokens(tokens: &[u64]) -> (Vec<u8>, u64) {
    (tokens.iter().flat_map(|token| token.to_le_bytes()).collect(), tokens.len() as u64)
}

pub(crate) fn answer(call: &Call, request: &Request) -> Result<Vec<Output>, Problem> {
    let dimensions = request.dimensions.unwrap_or(DIMENSIONS);
    if !(1..=MOST_DIMENSIONS).contains(&dimensions) {
        return Err(Problem::invalid("dimensions", format!("'dimensions' must be 1 to {MOST_DIMENSIONS}.")));
    }
    let base64 = match request.encoding_format.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(other) => {
            let message = format!("'encoding_format' must be float or base64, not '{other}'.");
            return Err(Problem::invalid("encoding_format", message));
        }
    };
    if let Input::Text(text) = &request.input
        && let Some(problem) = error::asked_for(text)
    {
        return Err(problem);
    }
    let items = match &request.input {
        Input::Text(text) => vec![item_of_text(text)],
        Input::Texts(texts) => texts.iter().map(|text| item_of_text(text)).collect(),
        Input::Tokens(tokens) => vec![item_of_tokens(tokens)],
        Input::TokenLists(lists) => lists.iter().map(|list| item_of_tokens(list)).collect(),
    };
    if items.is_empty() {
        return Err(Problem::invalid("input", "'input' must not be empty."));
    }
    let data: Vec<_> = items
        .iter()
        .enumerate()
        .map(|(index, (bytes, _))| {
            let vector = vector(bytes, dimensions);
            let embedding: Value = match base64 {
                true => {
                    let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
                    base64::engine::general_purpose::STANDARD.encode(bytes).into()
                }
                false => vector.into(),
            };
            json!({"object": "embedding", "index": index, "embedding": embedding})
        })
        .collect();
    let usage = write::usage(items.iter().map(|(_, tokens)| tokens).sum(), 0);
    let counts = json!({"prompt_tokens": usage.prompt_tokens, "total_tokens": usage.total_tokens});
    let document = json!({"object": "list", "data": data, "model": call.model, "usage": counts});
    Ok(vec![write::entries(&usage), Output::json(&document)])
}

fn vector(bytes: &[u8], dimensions: u64) -> Vec<f32> {
    let mut state = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    }) | 1;
    let numbers: Vec<f64> = (0..dimensions)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
        })
        .collect();
    let length = numbers.iter().map(|number| number * number).sum::<f64>().sqrt();
    numbers.iter().map(|number| (number / length) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_of_unit_length_and_follow_from_the_text() {
        for dimensions in [1, 8, 1536] {
            let vector = vector(b"text", dimensions);
            let length = vector.iter().map(|number| f64::from(*number).powi(2)).sum::<f64>().sqrt();
            assert!((length - 1.0).abs() < 1e-5, "{length}");
        }
        assert_eq!(vector(b"a", 8), vector(b"a", 8));
        assert_ne!(vector(b"a", 8), vector(b"b", 8));
    }
}
