//! Money: United States dollars, as exact decimals.
//!
//! A price list is in dollars per million tokens and a call costs fractions of a cent, so amounts keep
//! up to 28 significant digits and are never floats. On the wire, in files and in databases an amount
//! is a decimal **string** (`"0.000345"`): a JSON number would pass through a float in most readers.
//! Sums saturate instead of overflowing (the limit is near 7.9 × 10²⁸ dollars); the checked forms say so.

use std::borrow::Cow;
use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign};
use std::str::FromStr;

use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An amount of United States dollars, exact.
///
/// Serialized as a string; read from a string or a whole number. A float is refused: `0.1` has no
/// exact binary form, so what would be read isn't what was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Usd(Decimal);

impl Usd {
    /// Nothing.
    pub const ZERO: Self = Self(Decimal::ZERO);
    /// The largest amount that can be held; where sums saturate.
    pub const MAX: Self = Self(Decimal::MAX);

    /// This many dollars.
    #[must_use]
    pub const fn new(dollars: Decimal) -> Self {
        Self(dollars)
    }

    /// The number of dollars.
    #[must_use]
    pub const fn as_decimal(self) -> Decimal {
        self.0
    }

    /// The number of dollars as a float: to compare by, never to add up.
    #[must_use]
    pub fn approximate(self) -> f64 {
        self.0.to_f64().unwrap_or(f64::MAX)
    }

    /// Whether this is less than nothing.
    #[must_use]
    pub fn is_negative(self) -> bool {
        self < Self::ZERO
    }

    /// The sum, or `None` past the limit.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The difference (below zero when `other` is larger), or `None` past the limit.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// `count` times the amount, or `None` past the limit.
    #[must_use]
    pub fn checked_mul(self, count: u64) -> Option<Self> {
        self.0.checked_mul(Decimal::from(count)).map(Self)
    }

    /// A millionth of the amount: turns `count × price per million` into dollars.
    #[must_use]
    pub fn millionth(self) -> Self {
        // Multiplying by at most one can't overflow.
        Self(self.0.checked_mul(Decimal::new(1, 6)).unwrap_or_default())
    }
}

impl Add for Usd {
    type Output = Self;

    /// Saturates at the limit, where a budget is exceeded in any case.
    fn add(self, other: Self) -> Self {
        self.checked_add(other).unwrap_or(if other.is_negative() { Self(Decimal::MIN) } else { Self::MAX })
    }
}

impl AddAssign for Usd {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for Usd {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

impl fmt::Display for Usd {
    /// Plain digits without trailing zeros, an exponent or a currency sign: `0.000345`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.normalize(), out)
    }
}

/// A text that isn't an amount.
#[derive(Debug, thiserror::Error)]
#[error("not an amount in dollars: write plain digits, as in \"0.15\", at most 28 of them")]
pub struct ParseUsdError(#[source] rust_decimal::Error);

impl FromStr for Usd {
    type Err = ParseUsdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Decimal::from_str_exact(text).map(Self).map_err(ParseUsdError)
    }
}

impl Serialize for Usd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Usd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Amount;

        impl Visitor<'_> for Amount {
            type Value = Usd;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("dollars as a string (\"0.15\") or a whole number")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Usd, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, whole: u64) -> Result<Usd, E> {
                Ok(Usd(Decimal::from(whole)))
            }

            fn visit_i64<E: de::Error>(self, whole: i64) -> Result<Usd, E> {
                Ok(Usd(Decimal::from(whole)))
            }
        }

        deserializer.deserialize_any(Amount)
    }
}

impl JsonSchema for Usd {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Usd".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "integer"],
            "pattern": r"^-?[0-9]+(\.[0-9]+)?$",
            "description": "An amount of United States dollars, as a decimal string.",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usd(text: &str) -> Usd {
        text.parse().unwrap()
    }

    #[test]
    fn is_written_without_trailing_zeros_and_without_an_exponent() {
        assert_eq!(usd("0.000345000").to_string(), "0.000345");
        assert_eq!(usd("120.00").to_string(), "120");
        assert_eq!(serde_json::to_string(&usd("0.0000000001")).unwrap(), r#""0.0000000001""#);
    }

    #[test]
    fn is_read_from_strings_and_whole_numbers_but_never_from_floats() {
        assert_eq!(serde_json::from_str::<Usd>(r#""0.10""#).unwrap(), usd("0.1"));
        assert_eq!(serde_json::from_str::<Usd>("3").unwrap(), usd("3"));
        let refused = serde_json::from_str::<Usd>("0.1").unwrap_err().to_string();
        assert!(refused.contains("dollars as a string"), "{refused}");
        for bad in [r#""""#, r#""$1""#, r#""1e-3""#, r#""NaN""#] {
            assert!(serde_json::from_str::<Usd>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sums_are_exact_and_saturate() {
        let dimes: Usd = std::iter::repeat_n(usd("0.1"), 10).sum();
        assert_eq!(dimes, usd("1"));
        assert_eq!(Usd::MAX + usd("1"), Usd::MAX);
        assert_eq!(Usd::MAX.checked_add(usd("1")), None);
        assert_eq!(Usd::MAX.checked_mul(2), None);
        assert_eq!(usd("1").checked_sub(usd("1.5")), Some(usd("-0.5")));
        assert_eq!(usd("2.5").millionth().to_string(), "0.0000025");
    }
}
