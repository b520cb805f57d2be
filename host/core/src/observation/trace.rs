//! W3C Trace Context's two ids: raw bytes in memory and in databases, lower-case hexadecimal in text.

use std::fmt;
use std::str::FromStr;

use crate::random::Random;

/// A text that is not a trace or span id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a trace or span id: 32 or 16 lower-case hexadecimal digits are expected, not all of them 0")]
pub struct ParseTraceIdError;

macro_rules! hex_ids {
    ($($(#[$doc:meta])* $name:ident($size:literal);)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name([u8; $size]);

        impl $name {
            /// A new id; never all zeros, which W3C Trace Context calls invalid.
            #[must_use]
            pub fn generate(random: &dyn Random) -> Self {
                let mut bytes = [0; $size];
                while bytes == [0; $size] {
                    random.fill(&mut bytes);
                }
                Self(bytes)
            }

            /// The id that these bytes are.
            ///
            /// # Errors
            /// When they are all zero.
            pub fn from_bytes(bytes: [u8; $size]) -> Result<Self, ParseTraceIdError> {
                if bytes == [0; $size] { Err(ParseTraceIdError) } else { Ok(Self(bytes)) }
            }

            /// The id's bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $size] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut text = [0; $size * 2];
                for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
                    pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
                }
                formatter.pad(std::str::from_utf8(&text).unwrap_or_default())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = ParseTraceIdError;

            fn from_str(text: &str) -> Result<Self, ParseTraceIdError> {
                let mut bytes = [0; $size];
                if text.len() != $size * 2 {
                    return Err(ParseTraceIdError);
                }
                for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
                    for digit in pair {
                        *byte = *byte << 4 | value(*digit)?;
                    }
                }
                Self::from_bytes(bytes)
            }
        }

        impl TryFrom<String> for $name {
            type Error = ParseTraceIdError;

            fn try_from(text: String) -> Result<Self, ParseTraceIdError> {
                text.parse()
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )+};
}

hex_ids! {
    /// A trace: everything that happened for one request, over all services.
    TraceId(16);
    /// One span of a trace.
    SpanId(8);
}

impl TraceId {
    /// A new id that begins with its time: 48 bits of milliseconds since the Unix epoch, then 80 random ones, of which the
    /// last 56 are those that W3C Trace Context level 2 wants random. Ids of one moment are neighbors in an index, so a
    /// batch of them fills a few pages of it instead of touching one each.
    #[must_use]
    pub fn generate_at(start_us: i64, random: &dyn Random) -> Self {
        let mut bytes = Self::generate(random).0;
        let [_, _, time @ ..] = (start_us / 1_000).max(1).to_be_bytes();
        for (byte, time) in bytes.iter_mut().zip(time) {
            *byte = time;
        }
        Self(bytes)
    }
}

const fn digit(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 }
}

/// W3C Trace Context allows lower case only.
const fn value(digit: u8) -> Result<u8, ParseTraceIdError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(ParseTraceIdError),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SeededRandom;

    #[test]
    fn text_and_json_are_lower_case_hexadecimal() {
        let text = "4bf92f3577b34da6a3ce929d0e0e4736";
        let id: TraceId = text.parse().unwrap();
        assert_eq!(id.as_bytes()[..3], [0x4b, 0xf9, 0x2f]);
        assert_eq!(id.to_string(), text);
        assert_eq!(serde_json::to_string(&id).unwrap(), format!("\"{text}\""));
        assert_eq!(serde_json::from_str::<TraceId>(&format!("\"{text}\"")).unwrap(), id);
        let span = SpanId::generate(&SeededRandom::new(1));
        assert_eq!(span.to_string().parse(), Ok(span));
    }

    #[test]
    fn later_traces_have_greater_ids_whose_end_is_random() {
        let random = SeededRandom::new(1);
        let ids: Vec<TraceId> = [0, 1_000, 255_000, 256_000, 1_700_000_000_000_000]
            .map(|at| TraceId::generate_at(at, &random))
            .into();
        assert!(ids.is_sorted_by(|one, other| one.as_bytes()[..6] <= other.as_bytes()[..6]), "{ids:?}");
        assert!(
            ids.iter().all(|id| ids
                .iter()
                .filter(|other| other.as_bytes()[9..] == id.as_bytes()[9..])
                .count()
                == 1)
        );
        let hex = TraceId::generate_at(1_700_000_000_123_456, &random).to_string();
        assert_eq!(hex.get(..12), Some("018bcfe5687b"));
    }

    #[test]
    fn what_the_specification_calls_invalid_is_refused() {
        for text in ["", "00", "0000000000000000", "00F067AA0BA902B7", "00f067aa0ba902b", "00f067aa0ba902bé"]
        {
            assert_eq!(text.parse::<SpanId>(), Err(ParseTraceIdError), "{text}");
        }
        assert_eq!(TraceId::from_bytes([0; 16]), Err(ParseTraceIdError));
    }
}
