//! Every outbound connection is made here.
//!
//! - **Where to**: the connection's own origin, and nowhere else: a plugin gives a path, never a host. The addresses
//!   that are really dialed are checked ([`address`]), so a name can't be pointed elsewhere after it was looked at.
//! - **Secrets** are put in last, marked sensitive, and are in no error and no log.
//! - **HTTP/1.1** with a pool: a canceled stream costs its connection and nothing else, where one HTTP/2 connection
//!   that cancels many streams may be cut by its peer.
//! - **No redirects**: an answer that is one is an error answer.

pub mod address;
mod plugins;
mod segments;

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use brokle_runtime::exchange::{Auth, UpstreamRequest};
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Response, Uri};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
#[expect(clippy::disallowed_types, reason = "this is the egress module")]
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use hyper_util::rt::{TokioExecutor, TokioTimer};

pub use segments::Segments;

use crate::connections::Connection;
use crate::refusal::Refusal;
use address::Policy;

/// The client for everything outside.
#[derive(Clone)]
#[expect(clippy::disallowed_types, reason = "this is the egress module")]
pub struct Egress {
    client: Client<HttpsConnector<HttpConnector<Filtered>>, Segments>,
    policy: Arc<Policy>,
}

impl std::fmt::Debug for Egress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Egress").finish_non_exhaustive()
    }
}

impl Egress {
    /// A client. `allow_private` lifts the filter for private and loopback addresses; the hosts that configured base
    /// URLs name are allowed one by one with [`Egress::allow`].
    #[expect(clippy::disallowed_types, reason = "this is the egress module")]
    pub fn new(allow_private: bool, connect_timeout: Duration) -> Self {
        let policy = Arc::new(Policy { allow_private, named: ArcSwap::from_pointee(HashSet::new()) });
        let resolver = Filtered { inner: GaiResolver::new(), policy: policy.clone() };
        let mut http = HttpConnector::new_with_resolver(resolver);
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(connect_timeout));
        http.set_keepalive(Some(Duration::from_secs(30)));
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_webpki_roots()
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(60))
            .pool_max_idle_per_host(1_024)
            .build(connector);
        Self { client, policy }
    }

    /// Allows a host because configuration names it: a literal address, or `localhost`.
    pub fn allow(&self, host: &str) {
        let host = bare(host).to_ascii_lowercase();
        if host == "localhost" || host.parse::<IpAddr>().is_ok() {
            self.policy.named.rcu(|named| {
                let mut named = HashSet::clone(named);
                named.insert(host.clone());
                named
            });
        }
    }

    /// Sends one request.
    ///
    /// # Errors
    /// 502 when there is no connection or it broke before the answer's head.
    pub async fn send(
        &self,
        connection: &Connection,
        request: Request<Segments>,
    ) -> Result<Response<Incoming>, Refusal> {
        // A literal address needs no resolver, so the resolver's filter doesn't see it.
        let host = request.uri().host().map(bare).unwrap_or_default().to_ascii_lowercase();
        if !connection.trusted {
            self.policy.check_stranger(&host).map_err(|reason| unreachable(connection, &reason))?;
        }
        if let Ok(address) = host.parse::<IpAddr>() {
            self.policy.check(&host, address).map_err(|reason| unreachable(connection, &reason))?;
        }
        self.client.request(request).await.map_err(|error| {
            let reason =
                if error.is_connect() { "no connection could be made" } else { "the connection broke" };
            tracing::info!(
                connection = connection.name,
                error = &error as &dyn std::error::Error,
                "{reason}"
            );
            let mut source: Option<&dyn std::error::Error> = Some(&error);
            while let Some(cause) = source {
                // An I/O error's source is its content's source; the content itself is asked for.
                let inner = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
                if let Some(refused) = inner.and_then(|inner| inner.downcast_ref::<address::Refused>()) {
                    return unreachable(connection, refused);
                }
                source = cause.source();
            }
            let code = if error.is_connect() { "upstream_unreachable" } else { "upstream_disconnected" };
            let message = format!("Provider '{}' can't be reached: {reason}.", connection.provider_name());
            Refusal::upstream(502, code, message)
        })
    }
}

fn unreachable(connection: &Connection, reason: &address::Refused) -> Refusal {
    let message = format!("Provider '{}' can't be reached: {reason}.", connection.provider_name());
    Refusal::upstream(502, "upstream_address_refused", message)
}

/// A host without the brackets of an IPv6 address.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// Resolves names and leaves out the addresses that mustn't be dialed.
#[derive(Clone)]
struct Filtered {
    inner: GaiResolver,
    policy: Arc<Policy>,
}

impl tower_service::Service<Name> for Filtered {
    type Response = std::vec::IntoIter<std::net::SocketAddr>;
    type Error = std::io::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let policy = self.policy.clone();
        let host = name.as_str().to_ascii_lowercase();
        let lookup = self.inner.call(name);
        Box::pin(async move {
            let mut allowed = Vec::new();
            let mut refused = None;
            for address in lookup.await? {
                match policy.check(&host, address.ip()) {
                    Ok(()) => allowed.push(address),
                    Err(reason) => refused = Some(reason),
                }
            }
            match refused {
                Some(reason) if allowed.is_empty() => Err(std::io::Error::other(reason)),
                _ => Ok(allowed.into_iter()),
            }
        })
    }
}

/// Where a connection goes: its base URL, checked once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    scheme: Scheme,
    authority: Authority,
    /// Without a slash at the end.
    prefix: String,
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

    /// The URL of a plugin's path. The plugin can't leave the origin with it.
    fn join(&self, path: &str, query: Option<(&str, &str)>) -> Option<Uri> {
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
            for byte in secret.bytes() {
                match byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                    true => text.push(char::from(byte)),
                    false => text.push_str(&format!("%{byte:02X}")),
                }
            }
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

/// Builds the request that really goes out. `passed` are the caller's headers that belong to the provider.
///
/// # Errors
/// 502 naming the plugin, when it asked for something that isn't allowed or known.
pub fn build(
    connection: &Connection,
    request: &UpstreamRequest,
    content_type: Option<&str>,
    body: Segments,
    passed: &HeaderMap,
) -> Result<Request<Segments>, Refusal> {
    let plugin_fault = |what: String| {
        let message =
            format!("Plugin {} asked for a request that can't be made: {what}.", connection.plugin.label());
        Refusal { fault: crate::Fault::Plugin, ..Refusal::upstream(502, "plugin_request_refused", message) }
    };
    let secret = || {
        connection.secret.as_ref().map(brokle_identity::Secret::expose).ok_or_else(|| {
            let message = format!("Connection '{}' has no credential.", connection.name);
            Refusal::upstream(502, "connection_without_credential", message)
        })
    };
    let query = match &request.auth {
        Auth::Query(name) => Some((name.as_str(), secret()?)),
        _ => None,
    };
    let origin =
        connection.origin.as_ref().ok_or_else(|| plugin_fault("the connection has no base URL".into()))?;
    let uri = origin
        .join(&request.path, query)
        .ok_or_else(|| plugin_fault(format!("'{}' is no path", request.path.escape_debug())))?;
    let method = Method::from_bytes(request.method.as_bytes())
        .map_err(|_| plugin_fault(format!("'{}' is no method", request.method.escape_debug())))?;
    let mut upstream = Request::new(body);
    *upstream.method_mut() = method;
    *upstream.uri_mut() = uri;
    let headers = upstream.headers_mut();
    headers.clone_from(passed);
    for (name, value) in &connection.headers {
        headers.insert(name.clone(), value.clone());
    }
    for header in &request.headers {
        let name = HeaderName::from_bytes(header.name.as_bytes()).ok().filter(|name| !is_reserved(name));
        let name = name.ok_or_else(|| plugin_fault(format!("header '{}'", header.name.escape_debug())))?;
        let value = HeaderValue::from_str(&header.value);
        headers
            .insert(name, value.map_err(|_| plugin_fault(format!("a value for header '{}'", header.name)))?);
    }
    if let Some(value) = content_type.and_then(|text| HeaderValue::from_str(text).ok()) {
        headers.insert(http::header::CONTENT_TYPE, value);
    }
    match &request.auth {
        Auth::None | Auth::Query(_) => {}
        Auth::Bearer => {
            secret()?;
            headers.extend(connection.bearer.clone().map(|value| (AUTHORIZATION, value)));
        }
        Auth::Header(header) => {
            let name = HeaderName::from_bytes(header.name.as_bytes());
            let name = name.map_err(|_| plugin_fault(format!("header '{}'", header.name.escape_debug())))?;
            let value = HeaderValue::from_str(&format!("{}{}", header.prefix, secret()?));
            let mut value = value.map_err(|_| plugin_fault("a credential that no header can hold".into()))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Auth::Sigv4(_) | Auth::ClientCredentials(_) | Auth::ServiceAccount(_) | Auth::Other(_) => {
            return Err(plugin_fault("an authorization scheme that this host doesn't offer".into()));
        }
    }
    Ok(upstream)
}

/// Headers that belong to one hop or to the host: not a plugin's, and not passed on from the caller.
pub(crate) fn is_reserved(name: &HeaderName) -> bool {
    const RESERVED: [&str; 18] = [
        "accept-encoding",
        "authorization",
        "connection",
        "content-length",
        "cookie",
        "expect",
        "forwarded",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "set-cookie",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "via",
        "x-api-key",
    ];
    let name = name.as_str();
    RESERVED.binary_search(&name).is_ok() || name.starts_with("x-forwarded-") || name.starts_with("proxy-")
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
    fn bad_base_urls_are_refused() {
        for url in ["ftp://x/", "https://user:pass@x/", "https://x/?q=1", "/v1", "not a url"] {
            assert!(Origin::parse(url).is_err(), "{url}");
        }
        assert!(is_reserved(&HeaderName::from_static("x-forwarded-for")));
        assert!(
            is_reserved(&HeaderName::from_static("x-api-key")) && is_reserved(&HeaderName::from_static("te"))
        );
        assert!(!is_reserved(&HeaderName::from_static("openai-beta")));
    }
}
