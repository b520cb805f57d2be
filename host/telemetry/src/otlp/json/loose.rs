//! Scalars, whichever way a sender writes them.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};
use serde_json::Value;

use super::super::span::double;

/// A scalar, whichever way it was written.
#[derive(Debug, Default, PartialEq)]
pub(super) enum Loose<'a> {
    #[default]
    Nothing,
    Text(Cow<'a, str>),
    Flag(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
}

impl Loose<'_> {
    pub(super) fn text(&self) -> String {
        match self {
            Self::Nothing => String::new(),
            Self::Text(text) => text.as_ref().to_owned(),
            Self::Flag(flag) => flag.to_string(),
            Self::Unsigned(number) => number.to_string(),
            Self::Signed(number) => number.to_string(),
            Self::Float(number) => number.to_string(),
        }
    }

    /// A whole number; none for anything else.
    pub(super) fn integer(&self) -> Option<i64> {
        match self {
            Self::Text(text) => text.trim().parse().ok(),
            Self::Unsigned(number) => i64::try_from(*number).ok(),
            Self::Signed(number) => Some(*number),
            // 2^53: beyond it a float no longer tells neighbouring whole numbers apart.
            Self::Float(number) if number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0 => {
                Some(*number as i64)
            }
            _ => None,
        }
    }

    /// A time or a count; 0 for anything else. A float may be a time of today: off by a few hundred nanoseconds.
    pub(super) fn number(&self) -> u64 {
        match self {
            Self::Float(number) if number.fract() == 0.0 && (0.0..1.8e19).contains(number) => *number as u64,
            Self::Unsigned(number) => *number,
            Self::Text(text) => text.trim().parse().unwrap_or_default(),
            other => other.integer().and_then(|number| u64::try_from(number).ok()).unwrap_or_default(),
        }
    }

    /// A number of any size; none for anything else.
    pub(super) fn float(&self) -> Option<f64> {
        match self {
            Self::Unsigned(number) => Some(*number as f64),
            Self::Signed(number) => Some(*number as f64),
            Self::Float(number) => Some(*number),
            Self::Text(text) => text.trim().parse().ok(),
            Self::Flag(_) | Self::Nothing => None,
        }
    }

    pub(super) fn double(&self) -> Value {
        match self {
            Self::Unsigned(number) => Value::from(*number),
            Self::Signed(number) => Value::from(*number),
            Self::Float(number) => double(*number),
            Self::Text(text) => text.trim().parse().map_or_else(|_| Value::from(text.as_ref()), double),
            Self::Flag(_) | Self::Nothing => Value::Null,
        }
    }

    /// An enum: its number, or its name's place.
    pub(super) fn name_of(&self, names: &[&str]) -> i64 {
        let named = |text: &str| names.iter().position(|name| *name == text);
        match self {
            Self::Text(text) => named(text)
                .and_then(|at| i64::try_from(at).ok())
                .or_else(|| self.integer())
                .unwrap_or_default(),
            other => other.integer().unwrap_or_default(),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Loose<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Scalar;
        impl<'de> Visitor<'de> for Scalar {
            type Value = Loose<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a text, number or flag")
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Loose::Nothing)
            }

            fn visit_bool<E>(self, flag: bool) -> Result<Self::Value, E> {
                Ok(Loose::Flag(flag))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
                Ok(Loose::Unsigned(number))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
                Ok(Loose::Signed(number))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
                Ok(Loose::Float(number))
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Loose::Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Loose::Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_any(Scalar)
    }
}
