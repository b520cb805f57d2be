//! What a filter says, once it is read: terms that must all hold.
//!
//! A [`Filter`] knows nothing of a database; each store turns it into its own language with every value as a
//! parameter. [`Filter`]'s `Display` is its canonical text, which reads back as the same filter.

use std::fmt;

use super::fields::{Key, Kind};

/// Under which names senders put what their users call metadata; see `docs/telemetry.md`.
pub(in super::super) const METADATA: [&str; 7] = [
    "",
    "metadata.",
    "brokle.metadata.",
    "langfuse.trace.metadata.",
    "langfuse.observation.metadata.",
    "ai.telemetry.metadata.",
    "traceloop.association.properties.",
];

/// Terms that must all hold; none: everything passes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// In the order they were written.
    pub terms: Vec<Term>,
}

/// One condition, or that it doesn't hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Term {
    /// Rows pass for which the test doesn't hold; a row that says nothing of the field is one.
    pub negated: bool,
    /// The condition.
    pub test: Test,
}

/// A condition.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// The text is in the name, the input or the output, in any case.
    Words(String),
    /// The field has one of these values.
    AnyOf(Field, Vec<Value>),
    /// The field compares so.
    Compare(Field, Op, Value),
    /// The field is within, bounds included; at least one is there.
    Range(Field, Option<Value>, Option<Value>),
    /// The field says anything at all.
    Present(Field),
}

/// What a condition is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// One that every row has.
    Key(Key),
    /// A name of the metadata: `metadata.NAME`.
    Metadata(String),
    /// The scores of this name on the observation, its trace or its session: `scores.NAME`.
    Score(String),
}

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// `>`
    Greater,
    /// `>=`
    AtLeast,
    /// `<`
    Less,
    /// `<=`
    AtMost,
}

impl Op {
    /// As it is written, in filters and in SQL.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Greater => ">",
            Self::AtLeast => ">=",
            Self::Less => "<",
            Self::AtMost => "<=",
        }
    }
}

/// A value of the field's kind, in the form it is stored in.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A text.
    Text(String),
    /// Finite. Durations are microseconds, money is dollars.
    Number(f64),
    /// Microseconds since the Unix epoch.
    Time(i64),
    /// An id's bytes.
    Id(Vec<u8>),
    /// Yes or no.
    Flag(bool),
}

impl Field {
    /// What values it has; metadata and scores have any.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Key(key) => key.kind(),
            Self::Metadata(_) | Self::Score(_) => Kind::Any,
        }
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, term) in self.terms.iter().enumerate() {
            if at > 0 {
                out.write_str(" ")?;
            }
            fmt::Display::fmt(term, out)?;
        }
        Ok(())
    }
}

impl fmt::Display for Term {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.negated {
            out.write_str("-")?;
        }
        let key = |out: &mut fmt::Formatter<'_>, field: &Field| match field {
            Field::Key(key) => write!(out, "{}:", key.as_str()),
            Field::Metadata(name) => write!(out, "metadata.{}:", Quoted(name)),
            Field::Score(name) => write!(out, "scores.{}:", Quoted(name)),
        };
        match &self.test {
            Test::Words(text) => fmt::Display::fmt(&Quoted(text), out),
            Test::AnyOf(field, values) => {
                key(out, field)?;
                for (at, value) in values.iter().enumerate() {
                    let comma = if at > 0 { "," } else { "" };
                    write!(out, "{comma}{}", Shown(field, value))?;
                }
                Ok(())
            }
            Test::Compare(field, op, value) => {
                key(out, field)?;
                write!(out, "{}{}", op.as_str(), Shown(field, value))
            }
            Test::Range(field, from, to) => {
                key(out, field)?;
                if let Some(from) = from {
                    Shown(field, from).fmt(out)?;
                }
                out.write_str("..")?;
                to.as_ref().map_or(Ok(()), |to| Shown(field, to).fmt(out))
            }
            Test::Present(field) => {
                key(out, field)?;
                out.write_str("*")
            }
        }
    }
}

/// A text between quotes.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "\"{}\"", self.0.replace('\\', "\\\\").replace('"', "\\\""))
    }
}

struct Shown<'a>(&'a Field, &'a Value);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.1, self.0.kind()) {
            (Value::Text(text), _) => Quoted(text).fmt(out),
            (Value::Number(micros), Kind::Duration) => write!(out, "{micros}us"),
            (Value::Number(number), _) => write!(out, "{number}"),
            (Value::Flag(flag), _) => write!(out, "{flag}"),
            (Value::Time(micros), _) => {
                let time = chrono::DateTime::from_timestamp_micros(*micros).unwrap_or_default();
                out.write_str(&time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true))
            }
            (Value::Id(bytes), Kind::Ulid) => {
                let number = bytes.iter().fold(0, |number, byte| number << 8 | u128::from(*byte));
                write!(out, "{}", brokle_core::ids::RequestId::from_u128(number))
            }
            (Value::Id(bytes), _) => bytes.iter().try_for_each(|byte| write!(out, "{byte:02x}")),
        }
    }
}
