//! Where a page of a list ended.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// A place in a list: the last row that was answered. Opaque to clients (base64url in text).
///
/// A row's place never changes, so a cursor stays good while rows arrive; it holds no tenant, since the query names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// The row's time, in microseconds.
    pub(super) start_us: i64,
    /// The row's number in its month's file; it orders rows of the same microsecond.
    pub(super) rid: i64,
}

/// A text that no list answered as its cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor: pass the next_cursor of the page before as it is")]
pub struct ParseCursorError;

impl fmt::Display for Cursor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = (u128::from(self.start_us.cast_unsigned()) << 64) | u128::from(self.rid.cast_unsigned());
        formatter.pad(&URL_SAFE_NO_PAD.encode(bytes.to_be_bytes()))
    }
}

impl FromStr for Cursor {
    type Err = ParseCursorError;

    fn from_str(text: &str) -> Result<Self, ParseCursorError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| ParseCursorError)?;
        let both = u128::from_be_bytes(bytes.try_into().map_err(|_| ParseCursorError)?);
        Ok(Self { start_us: ((both >> 64) as u64).cast_signed(), rid: (both as u64).cast_signed() })
    }
}

impl serde::Serialize for Cursor {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_has_a_text() {
        for (start_us, rid) in [(0, 1), (1_772_359_200_000_001, 12), (-1, i64::MAX), (i64::MIN, 0)] {
            let cursor = Cursor { start_us, rid };
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
        for bad in ["", "!", "AAAA", "AAAAAAAAAAAAAAAAAAAAAA==", &"A".repeat(1_000)] {
            assert_eq!(bad.parse::<Cursor>(), Err(ParseCursorError), "{bad}");
        }
    }
}
