//! Tokens as this provider counts them: a run of letters and digits is one, a run of anything
//! else that isn't space is one. "Hello, world!" has four.

/// Whether two neighbors belong to one token.
fn class(character: char) -> u8 {
    match character {
        character if character.is_whitespace() => 0,
        character if character.is_alphanumeric() || character == '_' => 1,
        _ => 2,
    }
}

/// How many tokens there are.
pub(crate) fn count(text: &str) -> u64 {
    let classes = text.chars().map(class);
    let before = std::iter::once(0).chain(text.chars().map(class));
    classes.zip(before).filter(|(now, before)| *now != 0 && now != before).count() as u64
}

/// The text's beginning with at most this many tokens, the space after them left out.
pub(crate) fn truncate(text: &str, tokens: u64) -> &str {
    let (mut seen, mut before) = (0, 0);
    for (at, character) in text.char_indices() {
        let now = class(character);
        seen += u64::from(now != 0 && now != before);
        if seen > tokens {
            return text.get(..at).unwrap_or(text).trim_end();
        }
        before = now;
    }
    text
}

/// The text in words, each with the space before it; joined they are the text again.
pub(crate) fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let (mut start, mut in_word) = (0, false);
    for (at, character) in text.char_indices() {
        let space = character.is_whitespace();
        if space && in_word {
            words.push(text.get(start..at).unwrap_or_default());
            start = at;
        }
        in_word = !space;
    }
    if start < text.len() {
        words.push(text.get(start..).unwrap_or_default());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_runs() {
        for (text, tokens) in
            [("", 0), ("  \n", 0), ("Hello, world!", 4), ("a--b", 3), ("ça_va 42", 2), ("¿qué?", 3)]
        {
            assert_eq!(count(text), tokens, "{text:?}");
        }
    }

    #[test]
    fn a_truncated_text_has_that_many_tokens() {
        let text = "One, two...\n three — four";
        for limit in 0..=count(text) {
            assert_eq!(count(truncate(text, limit)), limit);
            assert!(text.starts_with(truncate(text, limit)));
        }
        assert_eq!(truncate("One, two", 2), "One,");
        assert_eq!(truncate(text, 100), text);
    }

    #[test]
    fn words_join_to_the_text() {
        for text in ["", " ", "a", " a  b\n", "one two", "\u{3000}全角 空白 "] {
            assert_eq!(words(text).concat(), text);
        }
        assert_eq!(words("one two  three"), ["one", " two", "  three"]);
    }
}
