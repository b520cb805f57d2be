//! Access tokens: bought when they are needed, kept until they are about to expire.
//!
//! - **Kept** in memory, for the connection, the credential and what the plugin asked for (scheme, scope, audience): a
//!   changed credential finds no old token. Until [`MARGIN`] before the token expires, or half its life where that is
//!   longer; one that doesn't say is taken to live [`UNSAID`] (RFC 6749 leaves it to the server's documentation).
//! - **Bought once**: calls that find none wait for the one that asks, and share its failure. The next call asks again.
//! - **Refused** by the vendor with 401, a token is bought anew, once a call.
//! - **Where**: the URL that the credential itself names, else the plugin's, which must be on the connection's own
//!   origin. `https`, or `http` to a loopback address; the address is judged as every other
//!   ([`address`](crate::egress::address)). No redirects; 64 KiB of an answer are read; the answer has the time that a
//!   provider has for its first byte.
//! - **Told**: 502 `upstream_auth_failed` with the status and the standard's error code (section 5.2). Neither the
//!   request nor anything else of the answer is in an error or a log: endpoints quote what they were sent.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use brokle_runtime::capabilities::http::{HttpTransport as _, Outbound};
use brokle_runtime::exchange::Auth;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Request, Uri};
use moka::sync::Cache;
use ring::digest;
use serde::Deserialize;

use super::oauth::ClientCredential;
use super::service_account::ServiceAccount;
use crate::connections::Connection;
use crate::gateway::Gateway;
use crate::keys::Key;
use crate::refusal::Refusal;

/// How long before its end a token isn't used any more.
const MARGIN: TimeDelta = TimeDelta::seconds(60);
/// The life of a token that doesn't say how long it lives.
const UNSAID: TimeDelta = TimeDelta::minutes(5);
/// The longest life that is believed.
const LONGEST: TimeDelta = TimeDelta::hours(24);
/// What is read of an answer.
const MAX_ANSWER: usize = 64 << 10;
/// Tokens that nobody asked for in this time are forgotten.
const IDLE: Duration = Duration::from_secs(3_600);
const MAX_TOKENS: u64 = 10_000;

/// All tokens of a server.
#[derive(Debug)]
pub(crate) struct Tokens {
    slots: Cache<[u8; 32], Arc<Slot>>,
}

impl Default for Tokens {
    fn default() -> Self {
        Self { slots: Cache::builder().max_capacity(MAX_TOKENS).time_to_idle(IDLE).build() }
    }
}

/// One token's place.
#[derive(Debug, Default)]
struct Slot {
    held: ArcSwapOption<Held>,
    /// How often a token was asked for and an answer came.
    asked: AtomicU64,
    /// Whoever holds it asks. What the last answer was, if there is no token.
    asking: tokio::sync::Mutex<Option<Refusal>>,
}

/// A token, and how long it is used. Its header is marked sensitive, so `Debug` doesn't show it.
#[derive(Debug, Clone)]
struct Held {
    header: HeaderValue,
    until: DateTime<Utc>,
}

impl Slot {
    fn usable(&self, now: DateTime<Utc>, refused: Option<&HeaderValue>) -> Option<HeaderValue> {
        let held = self.held.load();
        let held = held.as_ref().filter(|held| now < held.until && refused != Some(&held.header))?;
        Some(held.header.clone())
    }
}

impl Tokens {
    /// The `Authorization` for a scheme that needs a token; none for the others. `refused` is one that the vendor didn't
    /// take.
    ///
    /// # Errors
    /// 502: the credential isn't of the scheme's kind, or there is no token for it.
    pub(crate) async fn authorization(
        &self,
        gateway: &Gateway,
        connection: &Connection,
        key: Option<&Key>,
        auth: &Auth,
        refused: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>, Refusal> {
        match Wanted::of(auth) {
            None => Ok(None),
            // In a box: most calls need none of it, and would carry its room about.
            Some(wanted) => Box::pin(self.token(gateway, connection, key, &wanted, refused)).await.map(Some),
        }
    }

    async fn token(
        &self,
        gateway: &Gateway,
        connection: &Connection,
        key: Option<&Key>,
        wanted: &Wanted<'_>,
        refused: Option<&HeaderValue>,
    ) -> Result<HeaderValue, Refusal> {
        let slot = self.slots.get_with(wanted.slot(connection, key), Arc::default);
        let clock = &*gateway.parts.clock;
        if let Some(header) = slot.usable(clock.now(), refused) {
            return Ok(header);
        }
        let before = slot.asked.load(Ordering::Acquire);
        // Who leaves while asking lets go of the lock, and the next one asks.
        let mut failed = slot.asking.lock().await;
        if let Some(header) = slot.usable(clock.now(), refused) {
            return Ok(header);
        }
        if let Some(refusal) = failed.as_ref().filter(|_| slot.asked.load(Ordering::Acquire) != before) {
            return Err(refusal.clone());
        }
        let bought = wanted.buy(gateway, connection, key).await;
        slot.asked.fetch_add(1, Ordering::Release);
        match bought {
            Ok(held) => {
                *failed = None;
                slot.held.store(Some(Arc::new(held.clone())));
                Ok(held.header)
            }
            Err(refusal) => {
                tracing::warn!(connection = connection.name, "{}", refusal.message);
                *failed = Some(refusal.clone());
                Err(refusal)
            }
        }
    }
}

/// What the plugin asks for.
struct Wanted<'a> {
    scheme: &'static str,
    token_url: &'a str,
    scope: &'a str,
    audience: &'a str,
}

impl<'a> Wanted<'a> {
    fn of(auth: &'a Auth) -> Option<Self> {
        match auth {
            Auth::ClientCredentials(auth) => Some(Self {
                scheme: "client-credentials",
                token_url: &auth.token_url,
                scope: &auth.scope,
                audience: "",
            }),
            Auth::ServiceAccount(auth) => Some(Self {
                scheme: "service-account",
                token_url: &auth.token_url,
                scope: &auth.scope,
                audience: &auth.audience,
            }),
            _ => None,
        }
    }

    fn slot(&self, connection: &Connection, key: Option<&Key>) -> [u8; 32] {
        let mut hash = digest::Context::new(&digest::SHA256);
        let secret = key.map_or("", |key| key.secret.expose());
        for part in [&connection.id, self.scheme, self.token_url, self.scope, self.audience, secret] {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        let mut slot = [0; 32];
        slot.copy_from_slice(hash.finish().as_ref());
        slot
    }

    async fn buy(
        &self,
        gateway: &Gateway,
        connection: &Connection,
        key: Option<&Key>,
    ) -> Result<Held, Refusal> {
        let unusable = |reason| connection.unusable(reason);
        let secret = key.ok_or_else(|| unusable("there is none"))?.secret.expose();
        let now = gateway.parts.clock.now();
        let (uri, header, form) = if self.scheme == "client-credentials" {
            let credential = ClientCredential::parse(secret).map_err(unusable)?;
            let uri = self.place(gateway, connection, credential.token_url.as_deref())?;
            let (header, form) = credential.request(self.scope);
            (uri, header, form)
        } else {
            let account = ServiceAccount::parse(secret).map_err(unusable)?;
            let uri = self.place(gateway, connection, account.token_uri.as_deref())?;
            let url = uri.to_string();
            let audience = if self.audience.is_empty() { &url } else { self.audience };
            (uri, None, account.request(self.scope, audience, now).map_err(unusable)?)
        };
        let mut request = Request::new(Bytes::from(form));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.extend(header.map(|header| (AUTHORIZATION, header)));
        let outbound = Outbound { request, max_response_bytes: MAX_ANSWER, named: false };
        let failed = |what: String| {
            let message = format!("Connection '{}' gets no access token: {what}.", connection.name);
            Refusal::upstream(502, "upstream_auth_failed", message)
        };
        let limit = gateway.parts.timeouts.first_byte;
        let answer = tokio::time::timeout(limit, gateway.parts.egress.fetch(outbound)).await;
        let answer = answer
            .map_err(|_| failed(format!("the token endpoint didn't answer in {} s", limit.as_secs_f32())))?
            .map_err(|error| failed(format!("the token endpoint can't be asked: {error}")))?;
        let (head, body) = answer.into_parts();
        if !head.status.is_success() {
            let code = serde_json::from_slice::<Denied>(&body).ok().and_then(|denied| denied.code());
            let code = code.map(|code| format!(" ({code})")).unwrap_or_default();
            return Err(failed(format!("the token endpoint answered {}{code}", head.status.as_u16())));
        }
        let granted: Option<Granted> = serde_json::from_slice(&body).ok();
        let held = granted.and_then(|granted| granted.held(now));
        held.ok_or_else(|| failed("the token endpoint's answer has no bearer token".into()))
    }

    /// Where the token is bought.
    fn place(&self, gateway: &Gateway, connection: &Connection, named: Option<&str>) -> Result<Uri, Refusal> {
        let misconfigured = |what: &str| {
            let message = format!("Connection '{}' gets no access token: {what}.", connection.name);
            Refusal::upstream(502, "connection_misconfigured", message)
        };
        let url = named.unwrap_or(self.token_url);
        if url.is_empty() {
            return Err(misconfigured("neither its credential nor its plugin names a token URL"));
        }
        let uri: Uri = url.parse().map_err(|_| misconfigured("the token URL is no URL"))?;
        let authority = uri.authority().ok_or_else(|| misconfigured("the token URL is no URL"))?;
        let loopback = is_loopback(authority.host());
        if !connection.trusted && gateway.parts.egress.check_stranger(authority.host()).is_err() {
            return Err(misconfigured("the token URL is a private address"));
        }
        let scheme = uri.scheme_str();
        if authority.as_str().contains('@')
            || !(scheme == Some("https") || scheme == Some("http") && loopback)
        {
            return Err(misconfigured("the token URL must begin with https://, and hold no credentials"));
        }
        let own = connection.origin.as_ref().is_some_and(|origin| origin.holds(&uri));
        if named.is_none() && !own {
            let what = "the token URL isn't of the connection's own origin; write it into the credential (`token_url`)";
            return Err(misconfigured(what));
        }
        Ok(uri)
    }
}

fn is_loopback(host: &str) -> bool {
    let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    literal.map_or_else(|_| host.eq_ignore_ascii_case("localhost"), |address| address.is_loopback())
}

/// A successful answer (RFC 6749, section 5.1).
#[derive(Deserialize)]
struct Granted {
    access_token: String,
    token_type: Option<String>,
    expires_in: Option<Seconds>,
}

/// Some write the number as text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Number(f64),
    Text(String),
}

impl Granted {
    fn held(self, now: DateTime<Utc>) -> Option<Held> {
        let is_bearer = self.token_type.is_none_or(|kind| kind.eq_ignore_ascii_case("bearer"));
        if !is_bearer || self.access_token.is_empty() {
            return None;
        }
        let mut header = HeaderValue::from_str(&format!("Bearer {}", self.access_token)).ok()?;
        header.set_sensitive(true);
        let seconds = match self.expires_in {
            None => None,
            Some(Seconds::Number(seconds)) => Some(seconds),
            Some(Seconds::Text(text)) => Some(text.trim().parse::<f64>().ok()?),
        };
        let life = seconds.map_or(UNSAID, |seconds| {
            // Whatever isn't a sensible number comes out as one.
            TimeDelta::milliseconds((seconds.clamp(0.0, LONGEST.as_seconds_f64()) * 1_000.0) as i64)
        });
        Some(Held { header, until: now + (life - MARGIN).max(life / 2) })
    }
}

/// A refusal (RFC 6749, section 5.2).
#[derive(Deserialize)]
struct Denied {
    error: String,
}

impl Denied {
    /// The code, if it is one of the standard's: anything else may be a quote.
    fn code(&self) -> Option<&'static str> {
        const CODES: [&str; 9] = [
            "access_denied",
            "invalid_client",
            "invalid_grant",
            "invalid_request",
            "invalid_scope",
            "server_error",
            "temporarily_unavailable",
            "unauthorized_client",
            "unsupported_grant_type",
        ];
        CODES.into_iter().find(|code| *code == self.error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_used_until_shortly_before_its_end() {
        let now = DateTime::UNIX_EPOCH;
        let until = |text: &str| {
            let granted: Granted = serde_json::from_str(text).unwrap();
            granted.held(now).map(|held| (held.until - now).num_seconds())
        };
        for (expires, used) in [
            ("3600", 3_540),
            ("\"3600\"", 3_540),
            ("90", 45),
            ("10", 5),
            ("0", 0),
            ("-5", 0),
            ("1e300", 86_340),
        ] {
            let text = format!(r#"{{"access_token":"t","token_type":"bearer","expires_in":{expires}}}"#);
            assert_eq!(until(&text), Some(used), "{expires}");
        }
        assert_eq!(until(r#"{"access_token":"t"}"#), Some(240));
        for text in [
            r#"{"access_token":""}"#,
            r#"{"access_token":"t","token_type":"mac"}"#,
            r#"{"access_token":"a\nb"}"#,
            r#"{"access_token":"t","expires_in":"soon"}"#,
        ] {
            assert_eq!(until(text), None, "{text}");
        }
    }

    #[test]
    fn only_codes_of_the_standard_are_repeated() {
        let code = |error: &str| Denied { error: error.into() }.code();
        assert_eq!(code("invalid_client"), Some("invalid_client"));
        assert_eq!(code("client secret hunter2 is wrong"), None);
        assert!(is_loopback("127.0.0.1") && is_loopback("[::1]") && is_loopback("LOCALHOST"));
        assert!(!is_loopback("10.0.0.1") && !is_loopback("localhost.example") && !is_loopback(""));
    }
}
