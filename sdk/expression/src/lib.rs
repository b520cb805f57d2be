//! Conditions over a request, as routes and the policy `conditional` are told them: `tools and input_tokens > 8000`,
//! `metadata.tier in ("gold", "platinum") or key like "batch-*"`.
//!
//! # Language
//! From the weakest to the strongest: `or`, `and`, `not`, comparisons, parentheses. (`||`, `&&` and `!` are the same.)
//!
//! | | |
//! |---|---|
//! | `a == b`, `a != b` | of the same kind |
//! | `a < b`, `<=`, `>`, `>=` | numbers |
//! | `a in ("x", "y")`, `a not in (…)` | texts or numbers |
//! | `a like "gpt-4*"` | a text; `*` is any characters, `?` is one |
//! | `tags contains "x"` | an element of the list; of a text, a part |
//! | `has(user)` | whether the request says it at all |
//! | `"text"`, `8000`, `0.5`, `true`, `false` | literals; `\"` and `\\` within a text |
//!
//! What a condition may ask for is the table [`FACTS`], and `metadata.NAME`. Kinds are checked when it is read: a mistake
//! is told with its column, and an expression that was read can't fail. A comparison with something that the request
//! doesn't say is false, `!=` and `not in` are true.
//!
//! Bounds: 1000 bytes, 32 parentheses deep. Reading a condition is linear in its length; asking it calls for each fact at most
//! as often as it is written.

#![no_std]

extern crate alloc;

mod glob;
mod read;

use alloc::borrow::Cow;
use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

pub use glob::matches;

/// The longest condition, in bytes.
pub const MAX_LENGTH: usize = 1_000;

/// What a fact is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// `true` or `false`.
    Flag,
    /// A number.
    Number,
    /// A text.
    Text,
    /// Texts.
    List,
}

impl Type {
    fn name(self) -> &'static str {
        match self {
            Self::Flag => "true or false",
            Self::Number => "a number",
            Self::Text => "a text",
            Self::List => "a list",
        }
    }
}

/// What conditions may ask for, beside `metadata.NAME`, which is a text.
pub const FACTS: [(&str, Type); 14] = [
    ("body_size", Type::Number),
    ("endpoint", Type::Text),
    ("images", Type::Flag),
    ("input_tokens", Type::Number),
    ("json_schema", Type::Flag),
    ("key", Type::Text),
    ("max_output_tokens", Type::Number),
    ("model", Type::Text),
    ("reasoning", Type::Flag),
    ("session", Type::Text),
    ("stream", Type::Flag),
    ("tags", Type::List),
    ("tools", Type::Flag),
    ("user", Type::Text),
];

/// A fact's value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// `true` or `false`.
    Flag(bool),
    /// A number.
    Number(f64),
    /// A text.
    Text(Cow<'a, str>),
    /// Texts, with commas between them.
    List(Cow<'a, str>),
}

/// What is known of a request.
pub trait Facts {
    /// The fact of this name, of the kind that [`FACTS`] says, or `metadata.NAME`; none: the request doesn't say.
    fn get(&self, name: &str) -> Option<Value<'_>>;
}

/// A condition that can't be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Where: in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "column {}: {}", self.column, self.message)
    }
}

impl core::error::Error for Error {}

/// A condition. Cheap to clone; equal to those with the same text.
#[derive(Clone)]
pub struct Expression {
    text: Arc<str>,
    root: Arc<Node>,
}

impl fmt::Debug for Expression {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, out)
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Expression {}

impl Expression {
    /// Reads a condition.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn read(text: &str) -> Result<Self, Error> {
        Ok(Self { root: Arc::new(read::condition(text)?), text: text.into() })
    }

    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it holds for this request.
    #[must_use]
    pub fn holds(&self, facts: &impl Facts) -> bool {
        self.root.holds(facts)
    }
}

/// A part of a condition that is true or false.
#[derive(Debug)]
enum Node {
    Or(Vec<Node>),
    And(Vec<Node>),
    Not(Box<Node>),
    Literal(bool),
    /// A fact that is true or false; absent: false.
    Flag(String),
    Has(String),
    Compare(Operand, Comparison, Operand),
    /// Whether it is among these, or is not.
    In(Operand, Vec<Operand>, bool),
    Like(Operand, String),
    Contains(Operand, String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equal,
    Unequal,
    Less,
    AtMost,
    More,
    AtLeast,
}

/// Something that has a value.
#[derive(Debug)]
enum Operand {
    Fact(String, Type),
    Literal(Value<'static>),
}

impl Operand {
    fn value<'a>(&'a self, facts: &'a impl Facts) -> Option<Value<'a>> {
        match self {
            Self::Fact(name, _) => facts.get(name),
            Self::Literal(value) => Some(value.clone()),
        }
    }
}

impl Node {
    fn holds(&self, facts: &impl Facts) -> bool {
        match self {
            Self::Or(parts) => parts.iter().any(|part| part.holds(facts)),
            Self::And(parts) => parts.iter().all(|part| part.holds(facts)),
            Self::Not(part) => !part.holds(facts),
            Self::Literal(value) => *value,
            Self::Flag(name) => facts.get(name) == Some(Value::Flag(true)),
            Self::Has(name) => facts.get(name).is_some(),
            Self::Compare(left, comparison, right) => {
                compare(left.value(facts).as_ref(), *comparison, right.value(facts).as_ref())
            }
            Self::In(operand, list, is_in) => {
                let value = operand.value(facts);
                let among = value.is_some() && list.iter().any(|one| one.value(facts) == value);
                among == *is_in
            }
            Self::Like(operand, pattern) => match operand.value(facts) {
                Some(Value::Text(text)) => matches(pattern, &text),
                _ => false,
            },
            Self::Contains(operand, part) => match operand.value(facts) {
                Some(Value::List(list)) => list.split(',').any(|element| element.trim() == part),
                Some(Value::Text(text)) => text.contains(part.as_str()),
                _ => false,
            },
        }
    }
}

fn compare(left: Option<&Value<'_>>, comparison: Comparison, right: Option<&Value<'_>>) -> bool {
    let (Some(left), Some(right)) = (left, right) else { return comparison == Comparison::Unequal };
    match (comparison, left, right) {
        (Comparison::Equal, ..) => left == right,
        (Comparison::Unequal, ..) => left != right,
        (Comparison::Less, Value::Number(left), Value::Number(right)) => left < right,
        (Comparison::AtMost, Value::Number(left), Value::Number(right)) => left <= right,
        (Comparison::More, Value::Number(left), Value::Number(right)) => left > right,
        (Comparison::AtLeast, Value::Number(left), Value::Number(right)) => left >= right,
        _ => false,
    }
}

/// A text of one's own.
fn text(of: &str) -> Value<'static> {
    Value::Text(Cow::Owned(of.to_owned()))
}

#[cfg(test)]
mod tests;
