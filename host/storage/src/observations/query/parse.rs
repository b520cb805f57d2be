//! From a filter's text to its meaning.
//!
//! ```text
//! filter = { term }                                   all must hold
//! term   = [ "-" ] ( key ":" test | text )            "-": it must not
//! key    = a field's name | "metadata." text | "scores." text
//! test   = value { "," value } | ( ">" | ">=" | "<" | "<=" ) value | [ value ] ".." [ value ] | "*"
//! text   = characters without white space, quotes and commas (and colons, before the colon) | '"' any, with \" and \\ '"'
//! ```
//!
//! At most [`MAX_BYTES`] bytes, [`MAX_TERMS`] terms and [`MAX_VALUES`] values. An error says at which byte it is.

use std::str::FromStr;

use brokle_core::ids::RequestId;
use brokle_core::observation::{Kind as ObservationKind, SpanId, Status, TraceId};
use chrono::{DateTime, NaiveDate, Utc};

use super::fields::{Key, Kind, Subject};
use super::filter::{Field, Filter, Op, Term, Test, Value};

/// Bytes of a filter at most.
pub const MAX_BYTES: usize = 4_096;
/// Terms of a filter at most.
pub const MAX_TERMS: usize = 32;
/// Values of a filter at most.
pub const MAX_VALUES: usize = 200;

/// A filter that can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at byte {at}: {message}")]
pub struct FilterError {
    /// Where, in bytes from the beginning.
    pub at: usize,
    /// What is wrong.
    pub message: String,
}

impl Filter {
    /// Reads a filter for rows of the subject. The empty text passes everything.
    ///
    /// # Errors
    /// At the first place where it makes no sense.
    pub fn parse(text: &str, subject: Subject) -> Result<Self, FilterError> {
        if text.len() > MAX_BYTES {
            return fail(MAX_BYTES, format!("a filter has at most {MAX_BYTES} bytes"));
        }
        let mut parser = Parser { text, at: 0, values: 0 };
        let mut terms = Vec::new();
        while parser.skip_space() {
            if terms.len() == MAX_TERMS {
                return fail(parser.at, format!("a filter has at most {MAX_TERMS} terms"));
            }
            terms.push(parser.term(subject)?);
        }
        Ok(Self { terms })
    }
}

fn fail<T>(at: usize, message: impl Into<String>) -> Result<T, FilterError> {
    Err(FilterError { at, message: message.into() })
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    values: usize,
}

/// A piece of text, and whether it was quoted.
struct Word {
    text: String,
    quoted: bool,
    at: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn eat(&mut self, token: &str) -> bool {
        let is_next = self.rest().starts_with(token);
        if is_next {
            self.at += token.len();
        }
        is_next
    }

    /// False at the end.
    fn skip_space(&mut self) -> bool {
        self.at = self.text.len() - self.rest().trim_start().len();
        self.at < self.text.len()
    }

    fn term(&mut self, subject: Subject) -> Result<Term, FilterError> {
        let negated = self.eat("-");
        let begun = self.at;
        let mut word = self.word(&[':'])?;
        if ["metadata.", "scores."].contains(&word.text.as_str()) && self.rest().starts_with('"') {
            word.text.push_str(&self.word(&[])?.text);
        }
        if self.rest().starts_with(':') && !word.quoted {
            let field = self.field(&word, subject)?;
            self.at += 1;
            let test = self.test(field)?;
            self.end()?;
            return Ok(Term { negated, test });
        }
        self.end()?;
        if word.text.is_empty() {
            return fail(begun, "a word is expected");
        }
        self.count(begun)?;
        Ok(Term { negated, test: Test::Words(word.text) })
    }

    fn end(&self) -> Result<(), FilterError> {
        match self.peek() {
            Some(next) if !next.is_whitespace() => {
                fail(self.at, format!("{next:?} isn't expected here: quote texts that have such characters"))
            }
            _ => Ok(()),
        }
    }

    /// Quoted, or up to white space, a quote, a comma or one of `ends`. May be empty when it isn't quoted.
    fn word(&mut self, ends: &[char]) -> Result<Word, FilterError> {
        let at = self.at;
        if !self.eat("\"") {
            let is_end = |c: char| c.is_whitespace() || c == '"' || c == ',' || ends.contains(&c);
            let text = self.rest().split(is_end).next().unwrap_or_default().to_owned();
            self.at += text.len();
            return Ok(Word { text, quoted: false, at });
        }
        let mut text = String::new();
        loop {
            let Some(next) = self.peek() else { return fail(at, "this quote isn't closed") };
            self.at += next.len_utf8();
            match next {
                '"' => return Ok(Word { text, quoted: true, at }),
                '\\' => match self.peek() {
                    Some(escaped @ ('"' | '\\')) => {
                        self.at += 1;
                        text.push(escaped);
                    }
                    _ => return fail(self.at - 1, "a backslash stands before a quote or a backslash only"),
                },
                other => text.push(other),
            }
        }
    }

    fn field(&self, word: &Word, subject: Subject) -> Result<Field, FilterError> {
        let named = |prefix| word.text.strip_prefix(prefix).map(str::to_owned);
        if let Some(name) = named("metadata.") {
            return self.name(name, word.at).map(Field::Metadata);
        }
        if let Some(name) = named("scores.").filter(|_| subject == Subject::Observations) {
            return self.name(name, word.at).map(Field::Score);
        }
        Key::named(&word.text, subject).map(Field::Key).ok_or_else(|| {
            let known = Key::ALL.iter().filter(|key| key.is_of(subject)).map(|key| key.as_str());
            let known = known.collect::<Vec<_>>().join(", ");
            let more = if subject == Subject::Observations {
                ", metadata.…, scores.…"
            } else {
                ", metadata.…"
            };
            FilterError { at: word.at, message: format!("there is no such field; there are {known}{more}") }
        })
    }

    fn name(&self, name: String, at: usize) -> Result<String, FilterError> {
        if name.is_empty() { fail(at, "a name is expected after the dot") } else { Ok(name) }
    }

    fn test(&mut self, field: Field) -> Result<Test, FilterError> {
        let at = self.at;
        let kind = field.kind();
        let ops = [(">=", Op::AtLeast), (">", Op::Greater), ("<=", Op::AtMost), ("<", Op::Less)];
        for (token, op) in ops {
            if self.eat(token) {
                let value = self.word(&[])?;
                let value = self.ordered(kind, &value)?;
                return Ok(Test::Compare(field, op, value));
            }
        }
        let first = self.word(&[])?;
        if !first.quoted && first.text == "*" {
            return Ok(Test::Present(field));
        }
        // `..` is part of a text where there is no order.
        if kind.has_order()
            && !first.quoted
            && let Some((from, to)) = first.text.split_once("..")
        {
            let bound = |text: &str, at| {
                Some(Word { text: text.to_owned(), quoted: false, at }).filter(|word| !word.text.is_empty())
            };
            let (from, to) = (bound(from, at), bound(to, at + from.len() + 2));
            if from.is_none() && to.is_none() {
                return fail(at, "a range has at least one bound");
            }
            let from = from.map(|from| self.ordered(kind, &from)).transpose()?;
            let to = to.map(|to| self.ordered(kind, &to)).transpose()?;
            return Ok(Test::Range(field, from, to));
        }
        let mut values = vec![self.value(kind, &first)?];
        while self.eat(",") {
            let word = self.word(&[])?;
            values.push(self.value(kind, &word)?);
        }
        Ok(Test::AnyOf(field, values))
    }

    fn count(&mut self, at: usize) -> Result<(), FilterError> {
        self.values += 1;
        if self.values > MAX_VALUES {
            return fail(at, format!("a filter has at most {MAX_VALUES} values"));
        }
        Ok(())
    }

    /// For a comparison: metadata and scores compare as numbers.
    fn ordered(&mut self, kind: Kind, word: &Word) -> Result<Value, FilterError> {
        if !kind.has_order() {
            return fail(
                word.at,
                "this field has no order: only `key:value`, `key:a,b` and `key:*` are understood",
            );
        }
        self.value(if kind == Kind::Any { Kind::Number } else { kind }, word)
    }

    fn value(&mut self, kind: Kind, word: &Word) -> Result<Value, FilterError> {
        self.count(word.at)?;
        let text = &word.text;
        let value = match kind {
            Kind::Text | Kind::Any => Some(text.clone()).filter(|text| !text.is_empty()).map(Value::Text),
            Kind::ObservationKind => named::<ObservationKind>(text),
            Kind::Status => named::<Status>(text),
            Kind::Number => number(text).map(Value::Number),
            Kind::Duration => duration(text).map(Value::Number),
            Kind::Time => time(text).map(Value::Time),
            Kind::TraceId => text.parse().ok().map(|id: TraceId| Value::Id(id.as_bytes().to_vec())),
            Kind::SpanId => text.parse().ok().map(|id: SpanId| Value::Id(id.as_bytes().to_vec())),
            Kind::Ulid => {
                text.parse().ok().map(|id: RequestId| Value::Id(id.as_u128().to_be_bytes().to_vec()))
            }
            Kind::Flag => text.parse().ok().map(Value::Flag),
        };
        value.ok_or_else(|| FilterError { at: word.at, message: kind.expected().to_owned() })
    }
}

fn named<T: FromStr>(text: &str) -> Option<Value> {
    text.parse::<T>().ok().map(|_| Value::Text(text.to_owned()))
}

/// Finite, in digits: `inf` and `nan` are words.
pub(crate) fn number(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    text.parse().ok().filter(|number: &f64| plain && number.is_finite())
}

/// In microseconds.
fn duration(text: &str) -> Option<f64> {
    let units = [("us", 1.0), ("ms", 1e3), ("s", 1e6), ("m", 6e7), ("h", 3.6e9)];
    let (digits, scale) = units
        .iter()
        .find_map(|(unit, scale)| Some((text.strip_suffix(unit)?, *scale)))
        .unwrap_or((text, 1e3));
    number(digits).map(|number| number * scale).filter(|number| number.is_finite())
}

/// In microseconds since the epoch; a day is its first moment, UTC.
fn time(text: &str) -> Option<i64> {
    let day = || Some(text.parse::<NaiveDate>().ok()?.and_hms_opt(0, 0, 0)?.and_utc());
    text.parse::<DateTime<Utc>>().ok().or_else(day).map(|time| time.timestamp_micros())
}
