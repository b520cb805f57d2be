//! What an answer's head says of the vendor's limits: `Retry-After` (RFC 9110 §10.2.3, seconds or a date; the date form
//! is left to the plugin) and OpenAI's `x-ratelimit-remaining-*` with `x-ratelimit-reset-*` (`20ms`, `1s`, `6m0s`).

use std::time::Duration;

use http::HeaderMap;

/// How long a count is good whose vendor doesn't say.
const GOOD: Duration = Duration::from_secs(60);
/// How long it is good at most.
const AT_MOST: Duration = Duration::from_secs(3600);

/// What was told.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) retry_after: Option<Duration>,
    /// What is left, and for how long that is good.
    pub(crate) requests: Option<(u64, Duration)>,
    pub(crate) tokens: Option<(u64, Duration)>,
}

pub(crate) fn read(headers: &HeaderMap) -> Told {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let left = |remaining: &str, reset: &str| {
        let left = text(remaining)?.parse().ok()?;
        let good = text(reset).and_then(span).unwrap_or(GOOD).min(AT_MOST);
        Some((left, good))
    };
    Told {
        retry_after: text("retry-after").and_then(|text| text.parse().ok()).map(Duration::from_secs),
        requests: left("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
        tokens: left("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    }
}

/// A span as Go writes it, `1h2m3.5s` or `20ms`; a bare number is seconds.
fn span(text: &str) -> Option<Duration> {
    // No vendor's is longer.
    if text.is_empty() || text.len() > 32 {
        return None;
    }
    let mut seconds = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at_checked(digits)?;
        let number: f64 = number.parse().ok()?;
        let letters = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(letters)?;
        seconds += number
            * match unit {
                "h" => 3600.0,
                "m" => 60.0,
                "s" | "" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                _ => return None,
            };
        rest = after;
    }
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_as_vendors_write_them() {
        let millis = |text| span(text).map(|span| span.as_millis());
        assert_eq!(millis("20ms"), Some(20));
        assert_eq!(millis("1s"), Some(1_000));
        assert_eq!(millis("6m0s"), Some(360_000));
        assert_eq!(millis("1h2m3.5s"), Some(3_723_500));
        assert_eq!(millis("12"), Some(12_000));
        for odd in ["", "soon", "5 days", "1s!", "ms", "..s", "2026-01-01T00:00:00Z", &"9".repeat(400)] {
            assert_eq!(span(odd), None, "{odd}");
        }
    }
}
