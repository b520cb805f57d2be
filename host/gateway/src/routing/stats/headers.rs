//! What an answer's head says of the vendor's limits: `Retry-After` (RFC 9110 §10.2.3, seconds or a date; the date form
//! is left to the plugin), or the finer `retry-after-ms`; and what is left, with until when: in the headers that the
//! provider's manifest names (`rate_limits`), otherwise in OpenAI's `x-ratelimit-remaining-*` with `x-ratelimit-reset-*`. A
//! reset is a span (`20ms`, `1s`, `6m0s`) or a time (RFC 3339).

use std::time::Duration;

use brokle_runtime::{RateLimitHeaders, RemainingHeaders};
use chrono::{DateTime, Utc};
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

/// How long a head asks to be left alone.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse().ok();
    number("retry-after-ms")
        .map(Duration::from_millis)
        .or_else(|| number("retry-after").map(Duration::from_secs))
}

/// Reads a head. `declared` is of the provider's manifest.
pub(crate) fn read(headers: &HeaderMap, declared: Option<&RateLimitHeaders>, now: DateTime<Utc>) -> Told {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let left = |named: Option<&RemainingHeaders>, remaining: &str, reset: &str| {
        let (remaining, reset) =
            named.map_or((remaining, reset), |named| (named.remaining.as_str(), named.reset.as_str()));
        let left = text(remaining)?.parse().ok()?;
        let good = text(reset).and_then(|text| span(text).or_else(|| until(text, now)));
        Some((left, good.unwrap_or(GOOD).min(AT_MOST)))
    };
    let requests = declared.and_then(|declared| declared.requests.as_ref());
    let tokens = declared.and_then(|declared| declared.tokens.as_ref());
    Told {
        retry_after: retry_after(headers),
        requests: left(requests, "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
        tokens: left(tokens, "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    }
}

/// How long it is until this time; none if it isn't one. One that is past is now.
fn until(text: &str, now: DateTime<Utc>) -> Option<Duration> {
    let time = DateTime::parse_from_rfc3339(text).ok()?;
    Some((time.with_timezone(&Utc) - now).to_std().unwrap_or_default())
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
    fn what_is_left_is_read_where_the_provider_says_it_is() {
        let headers: HeaderMap = [
            ("x-vendor-left", "7"),
            ("x-vendor-again", "2026-01-01T00:01:30Z"),
            ("x-ratelimit-remaining-tokens", "900"),
            ("x-ratelimit-reset-tokens", "6m0s"),
            ("retry-after", "2"),
            ("retry-after-ms", "250"),
        ]
        .into_iter()
        .map(|(name, value)| (http::HeaderName::from_static(name), http::HeaderValue::from_static(value)))
        .collect();
        let now = "2026-01-01T00:01:00Z".parse().unwrap();
        let named = RemainingHeaders { remaining: "x-vendor-left".into(), reset: "x-vendor-again".into() };
        let declared = RateLimitHeaders { requests: None, tokens: Some(named) };
        let told = read(&headers, Some(&declared), now);
        assert_eq!(told.tokens, Some((7, Duration::from_secs(30))));
        assert_eq!((told.requests, told.retry_after), (None, Some(Duration::from_millis(250))));
        assert_eq!(read(&headers, None, now).tokens, Some((900, Duration::from_secs(360))));
        // A time that is past says nothing of what is left by then.
        let later = now + chrono::TimeDelta::hours(2);
        assert_eq!(read(&headers, Some(&declared), later).tokens, Some((7, Duration::ZERO)));
        assert_eq!(until("soon", now), None);
    }

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
