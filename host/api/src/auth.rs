//! Who is calling: the API key in a request's head.
//!
//! `Authorization: Bearer bk_…` (the scheme in any case) or `X-API-Key: bk_…`; the first wins when both are there. A key
//! anywhere else, in the URL for instance, is no key: URLs end up in logs.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{FromRequestParts, OriginalUri};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use brokle_gateway::Dialect;
use brokle_identity::api_key::{self, KeyHash};
use brokle_identity::{AuthError, Principal, Scope};
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{Extensions, HeaderMap, StatusCode};

use crate::app::App;
use crate::error::ApiError;
use crate::server::PeerAddress;

/// A caller whose key is valid. As an extractor it refuses everybody else: 401 `invalid_api_key`, or 503
/// `auth_unavailable` when the database is away and the key isn't in memory.
#[derive(Clone, Debug)]
pub struct Authenticated(pub Arc<Principal>);

impl Authenticated {
    /// Lets only callers pass whose key has the scope.
    ///
    /// # Errors
    /// 403 `insufficient_scope`, with the scope's name.
    pub fn require(&self, scope: Scope) -> Result<(), ApiError> {
        if self.0.scopes.allows(scope) {
            return Ok(());
        }
        let message = format!("This API key lacks the scope `{scope}`.");
        Err(ApiError::new(StatusCode::FORBIDDEN, "insufficient_scope", message))
    }
}

impl FromRequestParts<Arc<App>> for Authenticated {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        authenticate(app, &parts.extensions, &parts.headers).await
    }
}

/// Finds out who is calling, from memory if it can.
///
/// # Errors
/// 429 `too_many_failed_keys` for an address that has tried too many keys; whose
/// key it is, or why it is nobody's, is
/// the inner result.
pub async fn identify(
    app: &App,
    extensions: &Extensions,
    headers: &HeaderMap,
) -> Result<Result<Arc<Principal>, AuthError>, ApiError> {
    whose(app, extensions, headers, presented_key(headers)).await
}

/// The same in a dialect, whose clients may have a header of their own for the key.
///
/// # Errors
/// As [`identify`] says.
pub async fn identify_in(
    app: &App,
    extensions: &Extensions,
    headers: &HeaderMap,
    dialect: Dialect,
) -> Result<Result<Arc<Principal>, AuthError>, ApiError> {
    whose(app, extensions, headers, presented_key_in(headers, dialect)).await
}

/// The same for a WebSocket, which browsers open without headers of their choice: the key may be among the subprotocols.
///
/// # Errors
/// As [`identify`] says.
pub async fn identify_socket(
    app: &App,
    extensions: &Extensions,
    headers: &HeaderMap,
) -> Result<Result<Arc<Principal>, AuthError>, ApiError> {
    let key = presented_key(headers).or_else(|| brokle_gateway::key_in_protocols(headers));
    whose(app, extensions, headers, key).await
}

async fn whose(
    app: &App,
    extensions: &Extensions,
    headers: &HeaderMap,
    key: Option<&str>,
) -> Result<Result<Arc<Principal>, AuthError>, ApiError> {
    let Some(key) = key else { return Ok(Err(AuthError::Missing)) };
    let known = app.keys.cached(key);
    if let Some(Ok(principal)) = known {
        return Ok(admitted(app, extensions, headers, principal));
    }
    let peer = extensions.get().map(|PeerAddress(peer)| peer.ip());
    let address = app.trusted_proxies.client(extensions, headers).or(peer);
    app.failed_keys.check(address)?;
    let found = match known {
        Some(known) => known,
        None => app.keys.authenticate(key).await,
    };
    if let Err(failure) = &found {
        app.failed_keys.note(address, *failure);
    }
    Ok(found.and_then(|principal| admitted(app, extensions, headers, principal)))
}

/// The key's holder, if the key is for this endpoint and for calls from there.
fn admitted(
    app: &App,
    extensions: &Extensions,
    headers: &HeaderMap,
    principal: Arc<Principal>,
) -> Result<Arc<Principal>, AuthError> {
    if !principal.allowed.everything() {
        let path = extensions.get().map(|OriginalUri(uri)| uri.path());
        allowed(&principal, path, app.trusted_proxies.client(extensions, headers))?;
    }
    Ok(principal)
}

/// Where a request comes from and what it asks for: all that a key is judged by, besides itself.
#[derive(Debug)]
pub(crate) struct Visitor {
    extensions: Extensions,
    headers: HeaderMap,
}

impl Visitor {
    pub(crate) fn of(parts: &Parts) -> Self {
        let mut extensions = Extensions::new();
        if let Some(peer) = parts.extensions.get::<PeerAddress>() {
            extensions.insert(*peer);
        }
        if let Some(uri) = parts.extensions.get::<OriginalUri>() {
            extensions.insert(uri.clone());
        }
        Self { extensions, headers: parts.headers.clone() }
    }

    /// Finds out who presents a key; it must have the scope `traces:read`.
    ///
    /// # Errors
    /// As [`authenticate`] and [`Authenticated::require`] say.
    pub(crate) async fn identify(&self, app: &App, key: Option<&str>) -> Result<Lasting, ApiError> {
        let principal = whose(app, &self.extensions, &self.headers, key).await??;
        // It is a key: somebody has it.
        let hash = api_key::parse(key.unwrap_or_default()).map_err(|_| AuthError::Malformed)?;
        self.lasting(app, principal, hash)
    }

    /// The same for a key that isn't there itself.
    ///
    /// # Errors
    /// As [`identify`](Self::identify) says.
    pub(crate) async fn recognize(&self, app: &App, hash: KeyHash) -> Result<Lasting, ApiError> {
        let principal = app.keys.authenticate_hash(hash).await?;
        let principal = admitted(app, &self.extensions, &self.headers, principal)?;
        self.lasting(app, principal, hash)
    }

    fn lasting(&self, app: &App, principal: Arc<Principal>, hash: KeyHash) -> Result<Lasting, ApiError> {
        let caller = noted(principal);
        caller.require(Scope::TracesRead)?;
        let path = self.extensions.get().map(|OriginalUri(uri)| uri.path().to_owned());
        let address = app.trusted_proxies.client(&self.extensions, &self.headers);
        Ok(Lasting { principal: caller.0, hash, path, address })
    }
}

/// A caller whose request goes on for long: its key is asked about again and again.
#[derive(Debug)]
pub(crate) struct Lasting {
    principal: Arc<Principal>,
    hash: KeyHash,
    path: Option<String>,
    address: Option<IpAddr>,
}

impl Lasting {
    pub(crate) fn principal(&self) -> &Principal {
        &self.principal
    }

    pub(crate) fn hash(&self) -> KeyHash {
        self.hash
    }

    /// Whether the key is still good for what it was good for. While nobody can tell, it is.
    ///
    /// # Errors
    /// As [`AuthError`] says.
    pub(crate) async fn check(&self, app: &App) -> Result<(), AuthError> {
        match app.keys.authenticate_hash(self.hash).await {
            Err(AuthError::Unavailable) => Ok(()),
            Err(error) => Err(error),
            Ok(principal) if !principal.scopes.allows(Scope::TracesRead) => Err(AuthError::Revoked),
            Ok(principal) => allowed(&principal, self.path.as_deref(), self.address),
        }
    }
}

fn allowed(principal: &Principal, path: Option<&str>, address: Option<IpAddr>) -> Result<(), AuthError> {
    let allowed = &principal.allowed;
    if allowed.everything() {
        return Ok(());
    }
    if !allowed.endpoint(path) {
        return Err(AuthError::Endpoint);
    }
    if allowed.address(address) { Ok(()) } else { Err(AuthError::Address) }
}

/// Finds out who is calling, and notes it in the request's span.
///
/// # Errors
/// As [`AuthError`] and [`identify`] say.
pub async fn authenticate(
    app: &App,
    extensions: &Extensions,
    headers: &HeaderMap,
) -> Result<Authenticated, ApiError> {
    Ok(noted(identify(app, extensions, headers).await??))
}

/// The same for a caller who may also send a key pair, as `Authorization: Basic`: the password is the API key, and the user's
/// name says nothing.
///
/// # Errors
/// As [`authenticate`] says.
pub(crate) async fn authenticate_pair(
    app: &App,
    extensions: &Extensions,
    headers: &HeaderMap,
) -> Result<Authenticated, ApiError> {
    let pair = presented_pair(headers);
    let key = pair.as_deref().or_else(|| presented_key(headers));
    Ok(noted(whose(app, extensions, headers, key).await??))
}

fn noted(principal: Arc<Principal>) -> Authenticated {
    let tenant = &principal.tenant;
    // At once: each time costs a look for the span.
    tracing::record_all!(
        tracing::Span::current(),
        organization_id = %tenant.organization,
        project_id = %tenant.project,
        environment_id = %tenant.environment,
        key_id = %principal.key_id
    );
    Authenticated(principal)
}

/// The key in a request's head, as it was sent.
#[must_use]
pub fn presented_key(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| {
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    });
    bearer.or_else(|| headers.get("x-api-key")?.to_str().ok().map(str::trim))
}

/// The password of HTTP's basic authentication (RFC 7617).
fn presented_pair(headers: &HeaderMap) -> Option<String> {
    let (scheme, pair) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(BASE64.decode(pair.trim()).ok()?).ok()?;
    pair.split_once(':').map(|(_, password)| password.to_owned())
}

/// The same in a dialect: Google's clients have a header of their own, which comes last.
#[must_use]
pub fn presented_key_in(headers: &HeaderMap, dialect: Dialect) -> Option<&str> {
    let own = || match dialect {
        Dialect::GeminiGenerateContent => headers.get("x-goog-api-key")?.to_str().ok().map(str::trim),
        Dialect::AnthropicMessages | Dialect::OpenAiResponses => None,
    };
    presented_key(headers).or_else(own)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn key(pairs: &[(&'static str, &'static str)]) -> Option<String> {
        let headers: HeaderMap = pairs
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
            .collect();
        presented_key(&headers).map(str::to_owned)
    }

    #[test]
    fn a_key_is_taken_from_two_places_only() {
        assert_eq!(key(&[("authorization", "bearer  bk_a ")]).as_deref(), Some("bk_a"));
        assert_eq!(key(&[("x-api-key", "bk_b")]).as_deref(), Some("bk_b"));
        assert_eq!(key(&[("x-api-key", "bk_b"), ("authorization", "Bearer bk_a")]).as_deref(), Some("bk_a"));
        assert_eq!(key(&[("x-api-key", "bk_b"), ("authorization", "Basic eA==")]).as_deref(), Some("bk_b"));
        assert_eq!(key(&[("authorization", "bk_a")]), None);
        assert_eq!(key(&[("api-key", "bk_a"), ("cookie", "key=bk_a")]), None);
    }

    #[test]
    fn a_key_pairs_secret_is_its_password() {
        let pair = |value: &'static str| {
            presented_pair(&HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static(value))]))
        };
        // pk:bk_a:b, and what isn't a pair.
        assert_eq!(pair("basic  cGs6YmtfYTpi ").as_deref(), Some("bk_a:b"));
        for bad in ["Basic cGs=", "Basic !", "Basic /w==", "Basic", "Bearer cGs6YmtfYQ=="] {
            assert_eq!(pair(bad), None, "{bad}");
        }
    }
}
