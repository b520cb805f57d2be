//! Where a page of an ordered list ended.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{Sort, SortBy};

/// A place in a list: the last row that was answered. Opaque to clients (base64url of JSON in text). It holds no tenant,
/// since the query names it. A place in one order says nothing in another, so it names its order.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    sort: Sort,
    /// The value that the list is ordered by.
    pub(in super::super) value: f64,
    /// The row's time, in microseconds.
    pub(in super::super) start_us: i64,
    /// The row's number in its file.
    pub(in super::super) rid: i64,
    /// The row's key, where it has no number.
    pub(in super::super) key: String,
}

/// A text that no list answered as its cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor of this list in this order: pass the next_cursor of the page before as it is")]
pub struct ParsePlaceError;

/// Texts beyond this are no cursor of ours: a key has at most some hundred bytes.
const MAX_TEXT: usize = 16 * 1024;

impl Place {
    pub(in super::super) fn new(sort: Sort, value: f64, start_us: i64, rid: i64, key: &str) -> Self {
        Self { sort, value, start_us, rid, key: key.to_owned() }
    }

    /// Whether it is a place in this order.
    #[must_use]
    pub fn is_in(&self, sort: Sort) -> bool {
        self.sort == sort
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sort { by, descending } = self.sort;
        // The value's bits, since a reader of JSON may round a float.
        let parts = (by.as_str(), descending, self.value.to_bits(), self.start_us, self.rid, &self.key);
        let json = serde_json::to_vec(&parts).map_err(|_| fmt::Error)?;
        formatter.pad(&URL_SAFE_NO_PAD.encode(json))
    }
}

impl FromStr for Place {
    type Err = ParsePlaceError;

    fn from_str(text: &str) -> Result<Self, ParsePlaceError> {
        if text.len() > MAX_TEXT {
            return Err(ParsePlaceError);
        }
        let json = URL_SAFE_NO_PAD.decode(text).map_err(|_| ParsePlaceError)?;
        let (by, descending, bits, start_us, rid, key): (String, bool, u64, i64, i64, String) =
            serde_json::from_slice(&json).map_err(|_| ParsePlaceError)?;
        let by = SortBy::ALL.iter().find(|(name, _)| *name == by).ok_or(ParsePlaceError)?.1;
        let value = f64::from_bits(bits);
        if value.is_nan() {
            return Err(ParsePlaceError);
        }
        Ok(Self { sort: Sort { by, descending }, value, start_us, rid, key })
    }
}

impl serde::Serialize for Place {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
