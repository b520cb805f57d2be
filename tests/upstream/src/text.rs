//! The content of every answer: the same few words, with characters of one to four bytes.

use crate::{Fault, MalformedSse};
use serde_json::Value;

/// One word for each piece; the first three hold characters of 2, 3 and 4 bytes.
const WORDS: [&str; 8] = ["Héllo", " 漢字", " 🙂", " from", " the", " test", " upstream", "."];

/// The length of the piece that `malformed-sse=huge-line` puts on one line, in bytes.
pub(crate) const HUGE_LINE: usize = 2 * 1024 * 1024;

/// The text that an answer has under this fault: what a correct client reads.
pub fn content(fault: &Fault) -> String {
    pieces(fault).concat()
}

/// The same text, cut as a stream sends it.
pub(crate) fn pieces(fault: &Fault) -> Vec<String> {
    let count = fault.events.unwrap_or(WORDS.len());
    let mut pieces: Vec<String> = WORDS.iter().cycle().take(count).map(|word| (*word).to_owned()).collect();
    if fault.malformed_sse == Some(MalformedSse::HugeLine)
        && let Some(first) = pieces.first_mut()
    {
        pad(first, HUGE_LINE);
    }
    let mut missing = fault.large_body.unwrap_or(0).saturating_sub(pieces.iter().map(String::len).sum());
    for (index, piece) in pieces.iter_mut().enumerate() {
        let share = missing.div_ceil(count - index);
        pad(piece, share);
        missing -= share;
    }
    pieces
}

fn pad(piece: &mut String, bytes: usize) {
    piece.extend(std::iter::repeat_n('x', bytes));
}

/// The number of words in the texts of a request: what its answer counts as prompt tokens.
pub(crate) fn words(value: &Value) -> usize {
    match value {
        Value::String(text) => text.split_whitespace().count(),
        Value::Array(items) => items.iter().map(words).sum(),
        Value::Object(fields) => {
            ["content", "text"].into_iter().filter_map(|name| fields.get(name)).map(words).sum()
        }
        Value::Number(_) => 1,
        Value::Null | Value::Bool(_) => 0,
    }
}

/// A normalised bag of words: each word adds or takes one in the bucket that its hash (FNV-1a) names.
pub(crate) fn embedding(input: &Value, dimensions: usize) -> Vec<f32> {
    let mut buckets = vec![0.0_f32; dimensions];
    for word in tokens(input) {
        let hash = word.to_lowercase().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let index = usize::try_from(hash >> 1).unwrap_or(0).checked_rem(dimensions).unwrap_or(0);
        if let Some(bucket) = buckets.get_mut(index) {
            *bucket += if hash & 1 == 0 { 1.0 } else { -1.0 };
        }
    }
    let length = buckets.iter().map(|value| value * value).sum::<f32>().sqrt();
    if length > 0.0 {
        buckets.iter_mut().for_each(|value| *value /= length);
    }
    buckets
}

/// The words of a text, or the tokens of a list of them.
fn tokens(input: &Value) -> Vec<String> {
    match input {
        Value::String(text) => text.split_whitespace().map(str::to_owned).collect(),
        Value::Array(tokens) => tokens.iter().map(Value::to_string).collect(),
        other => vec![other.to_string()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn large_bodies_have_the_size_that_was_asked_for() {
        for (text, bytes) in
            [("large-body=1000", 1000), ("large-body=1003;events=7", 1003), ("large-body=1", 42)]
        {
            assert_eq!(content(&text.parse().unwrap()).len(), bytes, "{text}");
        }
        let huge = pieces(&"malformed-sse=huge-line".parse().unwrap());
        assert!(huge[0].len() > HUGE_LINE && huge[1].len() < 10);
    }

    #[test]
    fn words_are_counted_in_every_form_of_content() {
        let messages = json!([
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "one two three"}]},
        ]);
        assert_eq!(words(&messages), 5);
    }

    #[test]
    fn equal_texts_are_equal_and_similar_ones_near() {
        let dot = |a: &str, b: &str| -> f32 {
            let (a, b) = (embedding(&json!(a), 64), embedding(&json!(b), 64));
            a.iter().zip(b).map(|(x, y)| x * y).sum()
        };
        let capital = "what is the capital of France";
        assert!(dot(capital, "what is the Capital of france") > 0.999);
        assert!(dot(capital, "what is the capital city of France") > 0.8);
        assert!(dot(capital, "write me some poem about winter") < 0.5);
    }
}
