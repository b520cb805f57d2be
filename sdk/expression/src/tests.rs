extern crate std;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::string::{String, ToString};
use std::{format, vec};

use super::{Expression, FACTS, Facts, Value, matches};

struct Request(BTreeMap<&'static str, Value<'static>>);

impl Facts for Request {
    fn get(&self, name: &str) -> Option<Value<'_>> {
        self.0.get(name).cloned()
    }
}

fn request() -> Request {
    let text = |text: &'static str| Value::Text(Cow::Borrowed(text));
    Request(BTreeMap::from([
        ("model", text("gpt-4o")),
        ("endpoint", text("chat")),
        ("stream", Value::Flag(true)),
        ("tools", Value::Flag(false)),
        ("input_tokens", Value::Number(9_000.0)),
        ("tags", Value::List(Cow::Borrowed("batch, night"))),
        ("metadata.tier", text("gold")),
        ("metadata.with-dash", text("é \"quoted\"")),
    ]))
}

#[test]
fn a_condition_holds_or_it_doesnt() {
    let request = request();
    for (text, expected) in [
        ("true", true),
        ("stream", true),
        ("tools", false),
        ("images", false),
        ("not tools and stream", true),
        ("!tools && !stream || false", false),
        ("tools and tools or stream", true),
        ("tools and (tools or stream)", false),
        ("not not stream", true),
        ("stream == true and tools != true", true),
        ("input_tokens > 8000", true),
        ("8000 < input_tokens", true),
        ("input_tokens >= 9000 and input_tokens <= 9000", true),
        ("input_tokens < 9e3", false),
        ("input_tokens > -1", true),
        ("input_tokens in (1, 9000)", true),
        ("model == \"gpt-4o\"", true),
        ("model == 'gpt-4o'", true),
        ("model like \"gpt-4*\" and not (model like \"*mini\")", true),
        ("model contains 'pt-'", true),
        ("tags contains \"night\"", true),
        ("tags contains \"nigh\"", false),
        ("metadata.tier in (\"gold\", \"platinum\")", true),
        ("metadata.tier not in ('gold')", false),
        ("metadata.with-dash == \"é \\\"quoted\\\"\"", true),
        // What the request doesn't say.
        ("user == 'ann'", false),
        ("user != 'ann'", true),
        ("user in ('ann')", false),
        ("user not in ('ann')", true),
        ("user like '*'", false),
        ("max_output_tokens < 5 or max_output_tokens >= 5", false),
        ("user == metadata.none", false),
        ("has(user)", false),
        ("has(metadata.tier) and not has(metadata.none)", true),
        ("has(tools)", true),
    ] {
        let condition = Expression::read(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(condition.holds(&request), expected, "{text}");
        assert_eq!((condition.text(), condition.to_string().as_str()), (text, text));
    }
}

#[test]
fn a_mistake_is_told_with_its_column() {
    for (text, column, words) in [
        ("", 1, "a fact or a value is expected, not the end"),
        ("streem", 1, "there is no fact 'streem'; there are body_size,"),
        ("stream and", 11, "not the end"),
        ("stream tools", 8, "'and', 'or' or the end is expected, not 'tools'"),
        ("(stream", 8, "')' is expected, not the end"),
        ("stream)", 7, "not ')'"),
        ("model = 'x'", 7, "'==' compares"),
        ("model == 5", 10, "a text is compared with a number"),
        ("'é' == model and model > 'a'", 18, "this comparison isn't for a text"),
        ("stream in (true)", 1, "in isn't for true or false"),
        ("model in ('a', 5)", 16, "a text is compared with a number"),
        ("model in 'a'", 10, "'(' is expected, not \"a\""),
        ("model in ()", 11, "a fact or a value"),
        ("input_tokens like '5*'", 1, "like isn't for a number"),
        ("model like metadata.x", 12, "a text in quotes"),
        ("tags == 'a'", 1, "this comparison isn't for a list"),
        ("model", 6, "a comparison of a text is expected, not the end"),
        ("input_tokens and stream", 14, "a comparison of a number"),
        ("model == 'x", 10, "the text doesn't end"),
        ("model == 'é\\n'", 13, "\\n is no escape"),
        ("input_tokens > 5x", 16, "'5x' is no number"),
        ("input_tokens > 1e999", 16, "is no number"),
        ("metadata.", 1, "a name of 1 to 64 characters"),
        ("has('x')", 5, "a fact is expected"),
        ("stream ; tools", 8, "';' means nothing here"),
        ("stream and not", 15, "not the end"),
    ] {
        let error = Expression::read(text).expect_err(text);
        assert_eq!(error.column, column, "{text}: {error}");
        assert!(error.message.contains(words), "{text}: {error}");
    }
}

#[test]
fn size_and_depth_are_bounded() {
    let deep = |depth: usize| format!("{}stream{}", "(".repeat(depth), ")".repeat(depth));
    assert!(Expression::read(&deep(32)).is_ok());
    assert!(Expression::read(&deep(33)).is_err());
    assert!(Expression::read(&format!("{}stream", "not ".repeat(33))).is_err());
    let long = vec!["stream"; 100].join(" or ");
    assert!(long.len() < 1_000 && Expression::read(&long).is_ok());
    let error = Expression::read(&(long + &" ".repeat(1_000))).unwrap_err();
    assert!(error.message.contains("1000 bytes"), "{error}");
}

#[test]
fn whatever_is_read_never_panics() {
    // Each prefix, suffix and single change of conditions that exercise every token.
    let text = "not (has(user) or tags contains 'é') and metadata.a-b not in (\"x\\\"\", 'y') && input_tokens >= -1.5e3";
    let cuts: vec::Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
    for &cut in &cuts {
        let _ = Expression::read(&text[..cut]);
        let _ = Expression::read(&text[cut..]);
        for other in ["(", "'", "é", "=", "\\", "9", " "] {
            let changed: String = [&text[..cut], other, &text[cut..]].concat();
            if let Ok(read) = Expression::read(&changed) {
                let _ = read.holds(&request());
            }
        }
    }
}

#[test]
fn patterns() {
    for (pattern, text, expected) in [
        ("*", "", true),
        ("", "", true),
        ("", "a", false),
        ("gpt-4*", "gpt-4o", true),
        ("gpt-4*", "gpt-4", true),
        ("gpt-4*", "gpt-3", false),
        ("*mini", "gpt-4o-mini", true),
        ("a*b*c", "aXbXbc", true),
        ("a*b*c", "aXbXbd", false),
        ("?", "é", true),
        ("?", "", false),
        ("a?c*", "abc", true),
        ("**a", "bca", true),
        ("GPT*", "gpt", false),
    ] {
        assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
    }
}

#[test]
fn facts_are_sorted() {
    assert!(FACTS.is_sorted_by_key(|(name, _)| *name));
}
