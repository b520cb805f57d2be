//! What a connection's fields must look like, so that a mistake is told to who makes it and not to who calls through it.
//! Whether an address may be reached at all is egress's to say, at the moment of dialing.

use brokle_storage::sql::connections::Connection;
use http::{HeaderName, HeaderValue, Uri};

use super::ConnectionError;
use super::secrets::SEPARATOR;
use crate::secret::Secret;

const MAX_NAME: usize = 100;
const MAX_PROVIDER: usize = 128;
const MAX_HEADERS: usize = 32;
const MAX_SECRETS: usize = 16;

/// Headers that belong to the message or its transport (RFC 9110), or to the secret.
const RESERVED: [&str; 11] = [
    "authorization",
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

pub(super) fn connection(connection: &Connection) -> Result<(), ConnectionError> {
    if connection.name.trim().is_empty() || connection.name.chars().count() > MAX_NAME {
        return invalid("name", "1 to 100 characters are expected");
    }
    let is_id = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:".contains(&byte);
    if connection.provider.is_empty()
        || connection.provider.len() > MAX_PROVIDER
        || !connection.provider.bytes().all(is_id)
    {
        return invalid("provider", "the id of a provider's plugin is expected");
    }
    if let Some(url) = &connection.base_url {
        base_url(url)?;
    }
    if connection.headers.len() > MAX_HEADERS {
        return invalid("headers", "32 headers at most are expected");
    }
    for (name, value) in &connection.headers {
        header(name, value)?;
    }
    if connection.weight < 0 {
        return invalid("weight", "0 or more is expected");
    }
    if connection.health_check_seconds.is_some_and(|every| !(10..=86_400).contains(&every)) {
        return invalid("health_check_seconds", "10 to 86400 is expected");
    }
    Ok(())
}

pub(super) fn secrets(secrets: &[Secret]) -> Result<(), ConnectionError> {
    if secrets.len() > MAX_SECRETS {
        return invalid("secrets", "16 secrets at most are expected");
    }
    if secrets.iter().any(|secret| secret.expose().is_empty() || secret.expose().contains(SEPARATOR)) {
        return invalid("secrets", "a secret is a text without the control character U+001E");
    }
    let mut others = secrets.iter();
    while let Some(secret) = others.next() {
        if others.clone().any(|other| other == secret) {
            return invalid("secrets", "each secret is expected once");
        }
    }
    Ok(())
}

fn base_url(url: &str) -> Result<(), ConnectionError> {
    let Ok(uri) = url.parse::<Uri>() else { return invalid("base_url", "a URL is expected") };
    if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none_or(str::is_empty) {
        return invalid("base_url", "a URL that begins with https:// or http:// and a host is expected");
    }
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return invalid("base_url", "credentials belong into the secret, not into the URL");
    }
    if uri.query().is_some() || url.contains('#') {
        return invalid("base_url", "a URL without query and fragment is expected");
    }
    Ok(())
}

fn header(name: &str, value: &str) -> Result<(), ConnectionError> {
    let Ok(parsed) = name.parse::<HeaderName>() else {
        return invalid("headers", format!("{name:?} is no header's name"));
    };
    if RESERVED.contains(&parsed.as_str()) {
        return invalid("headers", format!("{parsed} can't be set here"));
    }
    if HeaderValue::from_str(value).is_err() {
        return invalid("headers", format!("the value of {parsed} can't be sent"));
    }
    Ok(())
}

fn invalid(field: &'static str, reason: impl Into<String>) -> Result<(), ConnectionError> {
    Err(ConnectionError::Invalid { field, reason: reason.into() })
}
