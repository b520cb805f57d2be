//! Where an upstream may be: `api.example.com`, `*.example.com:8443`, `http://127.0.0.1:9000`, `*`.
//!
//! Without a scheme a pattern means `https`: plain HTTP is never reached by leaving something out. Without a port it
//! means the scheme's own, except in `*`, which stands for every host and every port. `*.example.com` stands for each
//! name below `example.com`, at any depth, and not for `example.com` itself nor for an address.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A set of origins.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostPattern {
    tls: bool,
    host: Host,
    /// None: the scheme's own; any, if the host is any.
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Host {
    Any,
    /// Names that end with this; it begins with a dot.
    Below(String),
    /// A name, or an address without brackets.
    Exactly(String),
}

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no host pattern: [http://|https://](name|address|*.name|*)[:port], without a path")]
pub struct BadPattern(String);

impl HostPattern {
    /// Whether it stands for more than one host.
    pub fn is_open(&self) -> bool {
        !matches!(self.host, Host::Exactly(_))
    }

    /// The one origin that it stands for: scheme, host (an IPv6 address without brackets), port. None if it is open.
    pub fn origin(&self) -> Option<(&'static str, &str, u16)> {
        match &self.host {
            Host::Exactly(host) => Some((self.scheme(), host, self.port.unwrap_or(self.default_port()))),
            Host::Any | Host::Below(_) => None,
        }
    }

    /// Whether every origin of `other` is one of its own.
    pub fn covers(&self, other: &Self) -> bool {
        if self.tls != other.tls {
            return false;
        }
        let ports = match (&self.host, self.port) {
            (Host::Any, None) => true,
            _ => self.port.unwrap_or(self.default_port()) == other.port.unwrap_or(other.default_port()),
        };
        // `*` has every port, which no pattern but `*` covers.
        let ports = ports && (other.host != Host::Any || other.port.is_some() || self.port.is_none());
        ports
            && match (&self.host, &other.host) {
                (Host::Any, _) => true,
                (_, Host::Any) => false,
                (Host::Below(suffix), Host::Below(inner)) => inner.ends_with(suffix.as_str()),
                (Host::Below(suffix), Host::Exactly(name)) => {
                    name.len() > suffix.len() && name.ends_with(suffix.as_str())
                }
                (Host::Exactly(_), Host::Below(_)) => false,
                (Host::Exactly(mine), Host::Exactly(name)) => mine == name,
            }
    }

    fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }

    fn default_port(&self) -> u16 {
        if self.tls { 443 } else { 80 }
    }
}

impl FromStr for HostPattern {
    type Err = BadPattern;

    fn from_str(text: &str) -> Result<Self, BadPattern> {
        let bad = || BadPattern(text.escape_debug().to_string());
        let (tls, rest) = match text.split_once("://") {
            None => (true, text),
            Some(("https", rest)) => (true, rest),
            Some(("http", rest)) => (false, rest),
            Some(_) => return Err(bad()),
        };
        let (host, port) = split_port(rest).ok_or_else(bad)?;
        let port =
            port.map(|port| port.parse().ok().filter(|port| *port != 0).ok_or_else(bad)).transpose()?;
        let host = match host {
            "*" => Host::Any,
            _ => match host.strip_prefix('*') {
                Some(suffix) => {
                    let name = suffix.strip_prefix('.').filter(|name| is_name(name) && !is_address(name));
                    Host::Below(format!(".{}", name.ok_or_else(bad)?))
                }
                None if is_name(host) || is_address(host) => Host::Exactly(host.to_owned()),
                None => return Err(bad()),
            },
        };
        Ok(Self { tls, host, port })
    }
}

/// `name`, `name:port`, `[address]`, `[address]:port`; the host without brackets.
fn split_port(text: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        let port = if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) };
        return host.parse::<std::net::Ipv6Addr>().ok().map(|_| (host, port));
    }
    Some(match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    })
}

fn is_address(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok()
}

/// A DNS name in lower case. Its last label isn't a number: `127.1` and `0x7f.1` are addresses to a resolver.
fn is_name(host: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.len() <= 253
        && host.split('.').all(label)
        && host
            .rsplit('.')
            .next()
            .is_some_and(|last| last.bytes().next().is_some_and(|b| !b.is_ascii_digit()))
}

impl TryFrom<String> for HostPattern {
    type Error = BadPattern;

    fn try_from(text: String) -> Result<Self, BadPattern> {
        text.parse()
    }
}

impl From<HostPattern> for String {
    fn from(pattern: HostPattern) -> Self {
        pattern.to_string()
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.tls {
            f.write_str("http://")?;
        }
        match &self.host {
            Host::Any => f.write_str("*")?,
            Host::Below(suffix) => write!(f, "*{suffix}")?,
            Host::Exactly(host) if host.contains(':') => write!(f, "[{host}]")?,
            Host::Exactly(host) => f.write_str(host)?,
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> HostPattern {
        text.parse().unwrap()
    }

    #[test]
    fn a_pattern_covers_what_it_says_and_no_more() {
        let covers = |wide: &str, narrow: &str| pattern(wide).covers(&pattern(narrow));
        for (wide, narrow) in [
            ("a.example", "a.example"),
            ("a.example", "https://a.example:443"),
            ("*.example", "a.example"),
            ("*.example", "*.a.example"),
            ("*", "a.example:8443"),
            ("*", "*.example"),
            ("*", "*"),
            ("*:8443", "a.example:8443"),
            ("http://*", "http://127.0.0.1:9000"),
            ("http://[::1]:80", "http://[::1]"),
        ] {
            assert!(covers(wide, narrow), "{wide} covers {narrow}");
        }
        for (wide, narrow) in [
            ("a.example", "b.example"),
            ("a.example", "a.example:8443"),
            ("a.example", "http://a.example"),
            ("*.example", "example"),
            ("*.example.com", "evil-example.com"),
            ("*.example.com", "example.com.evil"),
            ("*.a.example", "*.example"),
            ("*", "http://a.example"),
            ("*.example", "*"),
            ("*:8443", "*"),
            ("*:443", "*"),
        ] {
            assert!(!covers(wide, narrow), "{wide} doesn't cover {narrow}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in [
            "",
            "A.example",
            "a.example/",
            "a.example/x",
            "user@a.example",
            "a.example:0",
            "a.example:70000",
            "ftp://a.example",
            "a..example",
            "-a.example",
            "*a.example",
            "a.*.example",
            "*.",
            "**",
            "[::1",
            "::1",
            "127.1",
            "0x7f.1",
            "a example",
            "a.example:",
            "https://",
        ] {
            assert!(text.parse::<HostPattern>().is_err(), "'{text}'");
        }
        for text in ["a.example", "http://127.0.0.1:9000", "[::1]:8080", "*.example:8443", "*", "http://*"] {
            assert_eq!(pattern(text).to_string(), text);
        }
    }
}
