//! Days, weeks and months of the calendar, in UTC.

use std::fmt;

use chrono::{DateTime, Datelike, Days, Months, NaiveDate, NaiveTime, Utc};
use serde::{Deserialize, Serialize};

/// How long a budget lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Period {
    /// From 00:00 to 24:00.
    Day,
    /// From Monday 00:00 on.
    Week,
    /// From the first 00:00 on.
    Month,
}

impl Period {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        }
    }

    fn first_day(self, now: DateTime<Utc>) -> NaiveDate {
        let today = now.date_naive();
        let first = match self {
            Self::Day => Some(today),
            Self::Week => {
                today.checked_sub_days(Days::new(u64::from(today.weekday().num_days_from_monday())))
            }
            Self::Month => today.with_day(1),
        };
        // Before the calendar's first Monday there is none.
        first.unwrap_or(today)
    }

    /// When the period began that this time is in.
    pub(super) fn start_of(self, now: DateTime<Utc>) -> DateTime<Utc> {
        self.first_day(now).and_time(NaiveTime::MIN).and_utc()
    }

    /// When the next one begins.
    pub(super) fn end_of(self, now: DateTime<Utc>) -> DateTime<Utc> {
        let first = self.first_day(now);
        let next = match self {
            Self::Day => first.checked_add_days(Days::new(1)),
            Self::Week => first.checked_add_days(Days::new(7)),
            Self::Month => first.checked_add_months(Months::new(1)),
        };
        next.unwrap_or(NaiveDate::MAX).and_time(NaiveTime::MIN).and_utc()
    }
}

impl fmt::Display for Period {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_the_calendars() {
        for (per, now, start, end) in [
            (Period::Day, "2026-03-01T23:59:59.999999Z", "2026-03-01", "2026-03-02"),
            // 1 March 2026 is a Sunday.
            (Period::Week, "2026-03-01T23:59:59Z", "2026-02-23", "2026-03-02"),
            (Period::Week, "2026-03-02T00:00:00Z", "2026-03-02", "2026-03-09"),
            (Period::Month, "2028-02-29T12:00:00Z", "2028-02-01", "2028-03-01"),
            (Period::Month, "2026-12-31T23:00:00Z", "2026-12-01", "2027-01-01"),
        ] {
            let now: DateTime<Utc> = now.parse().unwrap();
            assert_eq!(per.start_of(now).to_rfc3339(), format!("{start}T00:00:00+00:00"));
            assert_eq!(per.end_of(now).to_rfc3339(), format!("{end}T00:00:00+00:00"));
        }
    }
}
