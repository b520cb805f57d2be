//! What a request says about the cache: `Cache-Control` (RFC 9111, the directives that make sense here) and
//! `x-brokle-cache-ttl`.

use std::time::Duration;

use http::HeaderMap;
use http::header::CACHE_CONTROL;

use super::Settings;
use crate::refusal::Refusal;

/// By which a caller asks for less than what means the same.
const SEMANTIC: &str = "x-brokle-cache-semantic";

/// What a request says about the cache.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(crate) struct Control {
    /// Ask the provider.
    pub(super) no_cache: bool,
    /// Neither look nor store.
    pub(super) no_store: bool,
    /// Nothing that is older.
    pub(super) max_age: Option<Duration>,
    /// How long the answer is kept.
    pub(super) ttl: Option<Duration>,
    /// Nothing that only means the same.
    pub(super) exact_only: bool,
    /// Nothing whose question isn't so near at least, 0 to 1.
    pub(super) near: f64,
}

impl Control {
    /// Reads the headers. Directives that aren't known are passed over, as the RFC says.
    ///
    /// # Errors
    /// 400 for an `x-brokle-cache-ttl` that is no number of seconds, and an `x-brokle-cache-semantic` that says neither `off`
    /// nor how near.
    pub(super) fn read(headers: &HeaderMap, settings: &Settings) -> Result<Self, Refusal> {
        let mut control = Self::default();
        for value in headers.get_all(CACHE_CONTROL) {
            for directive in value.to_str().unwrap_or_default().split(',') {
                let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
                match name.trim().to_ascii_lowercase().as_str() {
                    "no-cache" => control.no_cache = true,
                    "no-store" => control.no_store = true,
                    "max-age" => {
                        // One that can't be read counts as stale.
                        let seconds = value.trim().trim_matches('"').parse().unwrap_or(0);
                        control.max_age = Some(Duration::from_secs(seconds));
                    }
                    _ => {}
                }
            }
        }
        if let Some(ttl) = headers.get("x-brokle-cache-ttl") {
            let seconds = ttl.to_str().ok().and_then(|ttl| ttl.trim().parse::<u64>().ok());
            let seconds = seconds.ok_or_else(|| {
                Refusal::invalid("x-brokle-cache-ttl", "'x-brokle-cache-ttl' must be a number of seconds.")
            })?;
            control.no_store |= seconds == 0;
            control.ttl = Some(Duration::from_secs(seconds).min(settings.max_ttl));
        }
        if let Some(near) = headers.get(SEMANTIC) {
            let near = near.to_str().unwrap_or_default().trim();
            control.exact_only = near == "off";
            if !control.exact_only {
                let number = near.parse().ok().filter(|near| *near > 0.0 && *near <= 1.0);
                control.near = number.ok_or_else(|| {
                    let message = format!("'{SEMANTIC}' must be 'off' or a number above 0, up to 1.");
                    Refusal::invalid(SEMANTIC, message)
                })?;
            }
        }
        Ok(control)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    fn read(pairs: &[(&'static str, &'static str)]) -> Result<Control, Refusal> {
        let pairs = pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        Control::read(&pairs.collect(), &Settings::default())
    }

    #[test]
    fn directives_are_read_and_others_passed_over() {
        assert_eq!(read(&[]).unwrap(), Control::default());
        let control = read(&[("cache-control", "No-Cache, max-age=60, private=\"x\"")]).unwrap();
        assert!(control.no_cache && !control.no_store);
        assert_eq!(control.max_age, Some(Duration::from_secs(60)));
        assert_eq!(read(&[("cache-control", "max-age=soon")]).unwrap().max_age, Some(Duration::ZERO));
        assert!(read(&[("cache-control", "no-store")]).unwrap().no_store);
        assert!(read(&[("x-brokle-cache-ttl", "0")]).unwrap().no_store);
        let ttl = read(&[("x-brokle-cache-ttl", "999999999999")]).unwrap().ttl;
        assert_eq!(ttl, Some(Settings::default().max_ttl));
        assert_eq!(read(&[("x-brokle-cache-ttl", "1h")]).unwrap_err().status, 400);
        assert!(read(&[(SEMANTIC, "off")]).unwrap().exact_only);
        assert_eq!(read(&[(SEMANTIC, "0.98")]).unwrap().near, 0.98);
        for odd in ["0", "1.1", "-1", "NaN", "on", ""] {
            assert_eq!(read(&[(SEMANTIC, odd)]).unwrap_err().status, 400, "{odd}");
        }
    }
}
