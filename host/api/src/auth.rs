//! Who is calling: the API key in a request's head.
//!
//! `Authorization: Bearer bk_…` (the scheme in any case) or `X-API-Key: bk_…`; the first wins when both are there. A key
//! anywhere else, in the URL for instance, is no key: URLs end up in logs.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use brokle_gateway::Dialect;
use brokle_identity::{AuthError, Principal, Scope};
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, StatusCode};

use crate::app::App;
use crate::error::ApiError;

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
        Ok(authenticate(app, &parts.headers).await?)
    }
}

/// Finds out who is calling, from memory if it can, and notes it in the request's span.
///
/// # Errors
/// As [`AuthError`] says.
pub async fn authenticate(app: &App, headers: &HeaderMap) -> Result<Authenticated, AuthError> {
    let key = presented_key(headers).ok_or(AuthError::Missing)?;
    let principal = match app.keys.cached(key) {
        Some(known) => known?,
        None => app.keys.authenticate(key).await?,
    };
    let span = tracing::Span::current();
    span.record("organization_id", tracing::field::display(principal.tenant.organization));
    span.record("project_id", tracing::field::display(principal.tenant.project));
    span.record("environment_id", tracing::field::display(principal.tenant.environment));
    span.record("key_id", tracing::field::display(principal.key_id));
    Ok(Authenticated(principal))
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
}
