//! Calendar months (UTC): what observations are filed by.

use std::fmt;

use chrono::{DateTime, Datelike, Utc};
use serde::{Serialize, Serializer};

/// A month of the years 1970 to 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Month {
    year: u16,
    month: u8,
}

impl Month {
    /// The month of this moment; none outside of 1970 to 9999.
    #[must_use]
    pub fn of(time: DateTime<Utc>) -> Option<Self> {
        Self::new(time.year(), time.month())
    }

    /// The month of this many microseconds since the Unix epoch.
    #[must_use]
    pub fn of_micros(micros: i64) -> Option<Self> {
        Self::of(DateTime::from_timestamp_micros(micros)?)
    }

    /// This month (1 to 12) of this year.
    #[must_use]
    pub fn new(year: i32, month: u32) -> Option<Self> {
        let year = u16::try_from(year).ok().filter(|year| (1970..=9999).contains(year))?;
        let month = u8::try_from(month).ok().filter(|month| (1..=12).contains(month))?;
        Some(Self { year, month })
    }

    /// When it begins.
    #[must_use]
    pub fn begin(self) -> DateTime<Utc> {
        let first =
            chrono::NaiveDate::from_ymd_opt(self.year.into(), self.month.into(), 1).unwrap_or_default();
        first.and_time(chrono::NaiveTime::MIN).and_utc()
    }

    /// From `YYYYMM`, as in file names.
    pub(super) fn parse(digits: &str) -> Option<Self> {
        let (year, month) = digits.split_at_checked(4)?;
        (digits.len() == 6 && digits.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| Self::new(year.parse().ok()?, month.parse().ok()?))?
    }
}

/// `YYYYMM`.
impl fmt::Display for Month {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:04}{:02}", self.year, self.month)
    }
}

impl Serialize for Month {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_ends_with_its_last_microsecond() {
        let first: DateTime<Utc> = "2026-03-01T00:00:00Z".parse().unwrap();
        let micros = first.timestamp_micros();
        assert_eq!(Month::of_micros(micros).unwrap().to_string(), "202603");
        assert_eq!(Month::of_micros(micros - 1).unwrap().to_string(), "202602");
    }

    #[test]
    fn text_and_order() {
        let month = Month::new(2026, 3).unwrap();
        assert_eq!(Month::parse("202603"), Some(month));
        assert!(Month::parse("202512").unwrap() < month);
        for bad in ["", "2026", "202600", "202613", "2026031", "+20263", "196912"] {
            assert_eq!(Month::parse(bad), None, "{bad}");
        }
        assert_eq!(Month::of_micros(i64::MAX), None);
        assert_eq!(Month::of_micros(-1), None);
    }
}
