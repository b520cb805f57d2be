//! Where a connection's requests go, and nowhere else.
//!
//! A base URL may have placeholders, `{region}`, which the connection's options of these names fill. What fills one is a single
//! label of a host's name (RFC 1123): letters, digits, and hyphens between them, so that it can neither end the host's name nor
//! begin another part of the URL.

use http::Uri;
use http::uri::{Authority, PathAndQuery, Scheme};

use super::encode::percent;

/// Where a connection goes: its base URL, checked once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    scheme: Scheme,
    authority: Authority,
    /// Without a slash at the end.
    prefix: String,
}

/// A base URL, its placeholders filled from these options.
///
/// # Errors
/// An option is missing, or can't stand there; a brace has no other half.
pub fn fill(base_url: &str, options: &serde_json::Map<String, serde_json::Value>) -> Result<String, String> {
    let mut filled = String::with_capacity(base_url.len());
    let mut rest = base_url;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, end) = after
            .split_once('}')
            .ok_or_else(|| format!("the base URL '{base_url}' has a placeholder without an end"))?;
        let value = options.get(name).ok_or_else(|| {
            format!("its option '{}' is missing: the base URL is {base_url}", name.escape_debug())
        })?;
        let value = value.as_str().filter(|value| is_label(value)).ok_or_else(|| {
            format!(
                "its option '{name}' can't stand in the base URL {base_url}: letters, digits and hyphens can"
            )
        })?;
        filled.push_str(before);
        filled.push_str(value);
        rest = end;
    }
    filled.push_str(rest);
    Ok(filled)
}

fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

impl Origin {
    /// Reads a base URL: `http` or `https`, no credentials, query or fragment.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(base_url: &str) -> Result<Self, String> {
        let uri: Uri = base_url.trim().parse().map_err(|error| format!("'{base_url}' is no URL: {error}"))?;
        let scheme = uri.scheme().filter(|s| **s == Scheme::HTTP || **s == Scheme::HTTPS).cloned();
        let scheme = scheme.ok_or("a base URL begins with http:// or https://")?;
        let authority = uri.authority().cloned().ok_or("a base URL names a host")?;
        if authority.as_str().contains('@') {
            return Err("a base URL holds no credentials".into());
        }
        if uri.query().is_some() {
            return Err("a base URL has no query".into());
        }
        Ok(Self { scheme, authority, prefix: uri.path().trim_end_matches('/').to_owned() })
    }

    /// The host that it names.
    pub fn host(&self) -> &str {
        self.authority.host()
    }

    /// Its path, without a slash at the end.
    pub fn path(&self) -> &str {
        &self.prefix
    }

    /// Whether a URL is of this origin: scheme, host and port.
    pub(crate) fn holds(&self, uri: &Uri) -> bool {
        let port = |scheme: &str, port: Option<u16>| port.unwrap_or(if scheme == "https" { 443 } else { 80 });
        let (Some(scheme), Some(host)) = (uri.scheme_str(), uri.host()) else { return false };
        scheme == self.scheme.as_str()
            && host.eq_ignore_ascii_case(self.authority.host())
            && port(scheme, uri.port_u16()) == port(scheme, self.authority.port_u16())
    }

    /// The URL of a plugin's path. The plugin can't leave the origin with it.
    pub(super) fn join(&self, path: &str, query: Option<(&str, &str)>) -> Option<Uri> {
        let plain = path.bytes().all(|b| b.is_ascii_graphic() && b != b'\\' && b != b'#');
        if !path.starts_with('/')
            || path.starts_with("//")
            || !plain
            || path.split(['/', '?']).any(|s| s == "..")
        {
            return None;
        }
        let mut text = format!("{}{path}", self.prefix);
        if let Some((name, secret)) = query {
            text.push(if text.contains('?') { '&' } else { '?' });
            text.push_str(name);
            text.push('=');
            percent(&mut text, secret.as_bytes());
        }
        let path = PathAndQuery::try_from(text).ok()?;
        Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(path)
            .build()
            .ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_on_its_origin() {
        let origin = Origin::parse("https://api.example.com/v1/").unwrap();
        let join = |path| origin.join(path, None).map(|uri| uri.to_string());
        assert_eq!(join("/chat?x=1").as_deref(), Some("https://api.example.com/v1/chat?x=1"));
        for path in [
            "chat",
            "//evil.example/x",
            "/../admin",
            "/a b",
            "/a\\b",
            "/a#b",
            "/a\r\nb",
            "@evil.example/",
            "",
        ] {
            assert_eq!(join(path), None, "{path}");
        }
        let uri = origin.join("/m?a=1", Some(("key", "s+/&"))).unwrap();
        assert_eq!(uri.query(), Some("a=1&key=s%2B%2F%26"));
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let origin = Origin::parse("https://API.example.com/v1").unwrap();
        let holds = |url: &str| origin.holds(&url.parse().unwrap());
        assert!(holds("https://api.example.com/token") && holds("https://api.example.com:443/"));
        for url in
            ["http://api.example.com/", "https://api.example.com:8443/", "https://example.com/", "/token"]
        {
            assert!(!holds(url), "{url}");
        }
    }

    #[test]
    fn what_fills_a_placeholder_is_a_label() {
        let options = |value: serde_json::Value| serde_json::Map::from_iter([("region".to_owned(), value)]);
        let url = "https://bedrock-runtime.{region}.amazonaws.com/{region}";
        let filled = fill(url, &options("eu-west-1".into())).unwrap();
        assert_eq!(filled, "https://bedrock-runtime.eu-west-1.amazonaws.com/eu-west-1");
        assert_eq!(fill("https://x/", &options(1.into())).unwrap(), "https://x/");
        for value in [
            "",
            "evil.example/",
            "a.b",
            "a/b",
            "a@b",
            "a:b",
            "a#",
            "a?",
            "-a",
            "a-",
            "{region}",
            "a\r\n",
            "ä",
        ] {
            assert!(fill(url, &options(value.into())).is_err(), "{value}");
        }
        assert!(
            fill(url, &options(7.into())).is_err() && fill(url, &options("x".repeat(64).into())).is_err()
        );
        let missing = fill(url, &serde_json::Map::new()).unwrap_err();
        assert!(missing.contains("'region' is missing"), "{missing}");
        assert!(fill("https://{region", &options("x".into())).is_err());
    }

    #[test]
    fn bad_base_urls_are_refused() {
        for url in ["ftp://x/", "https://user:pass@x/", "https://x/?q=1", "/v1", "not a url"] {
            assert!(Origin::parse(url).is_err(), "{url}");
        }
    }
}
