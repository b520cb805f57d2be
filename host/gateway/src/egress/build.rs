//! Builds the request that really goes out: origin, headers, and last of all the credential.

use brokle_core::clock::Clock;
use brokle_runtime::exchange::{Auth, Sigv4Auth, UpstreamRequest};
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request};

use super::Segments;
use super::sigv4::{self, Signer};
use crate::connections::Connection;
use crate::credentials::AwsCredential;
use crate::keys::Key;
use crate::refusal::Refusal;

/// Builds the request that really goes out, with this one of the connection's keys. `passed` are the caller's headers that belong to the provider, `token` is what
/// was fetched for an authorization by token.
///
/// # Errors
/// 502 naming the plugin, when it asked for something that isn't allowed or known; 502 naming the connection, when its
/// credential is missing or isn't of the kind that the plugin asks for.
#[expect(clippy::too_many_arguments, reason = "each is another one's word on the request")]
pub fn build(
    connection: &Connection,
    key: Option<&Key>,
    request: &UpstreamRequest,
    content_type: Option<&str>,
    body: Segments,
    passed: &HeaderMap,
    token: Option<&HeaderValue>,
    clock: &dyn Clock,
) -> Result<Request<Segments>, Refusal> {
    let plugin_fault = |what: String| {
        let message =
            format!("Plugin {} asked for a request that can't be made: {what}.", connection.plugin.label());
        Refusal { fault: crate::Fault::Plugin, ..Refusal::upstream(502, "plugin_request_refused", message) }
    };
    let secret = || {
        key.map(|key| key.secret.expose()).ok_or_else(|| {
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
    if let Auth::Sigv4(_) = &request.auth {
        // What is signed speaks for the connection: a caller doesn't choose it.
        let signed: Vec<HeaderName> = passed.keys().filter(|name| sigv4::is_amz(name)).cloned().collect();
        for name in signed {
            headers.remove(name);
        }
    }
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
            let bearer = key.and_then(|key| key.bearer.clone());
            headers
                .insert(AUTHORIZATION, bearer.ok_or_else(|| connection.unusable("no header can hold it"))?);
        }
        Auth::Header(header) => {
            let name = HeaderName::from_bytes(header.name.as_bytes());
            let name = name.map_err(|_| plugin_fault(format!("header '{}'", header.name.escape_debug())))?;
            let value = HeaderValue::from_str(&format!("{}{}", header.prefix, secret()?));
            let mut value = value.map_err(|_| connection.unusable("no header can hold it"))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Auth::Sigv4(wanted) => {
            let credential = AwsCredential::parse(secret()?).map_err(|reason| connection.unusable(reason))?;
            sign(connection, wanted, &credential, clock, &mut upstream)?;
        }
        Auth::ClientCredentials(_) | Auth::ServiceAccount(_) => {
            let token = token.ok_or_else(|| connection.unusable("no token was fetched"))?;
            headers.insert(AUTHORIZATION, token.clone());
        }
        Auth::Other(other) => {
            return Err(plugin_fault(format!(
                "authorization scheme '{}', which this host doesn't offer",
                other.scheme.escape_debug()
            )));
        }
    }
    Ok(upstream)
}

/// Signs with the plugin's region, or the connection's (its option `region`), or its credential's.
fn sign(
    connection: &Connection,
    wanted: &Sigv4Auth,
    credential: &AwsCredential,
    clock: &dyn Clock,
    upstream: &mut Request<Segments>,
) -> Result<(), Refusal> {
    let options: Option<RegionOption> = serde_json::from_slice(&connection.options).ok();
    let option = options.and_then(|options| options.region);
    let named = Some(wanted.region.as_str()).filter(|region| !region.is_empty());
    let region = named.or(option.as_deref()).or(credential.region.as_deref()).ok_or_else(|| {
        let message = format!(
            "Connection '{}' names no region: write it into its options, or into its credential.",
            connection.name
        );
        Refusal::upstream(502, "connection_misconfigured", message)
    })?;
    let is_name =
        |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if !is_name(region) || !is_name(&wanted.service) {
        let message = format!("Connection '{}': its region or service is no name.", connection.name);
        return Err(Refusal::upstream(502, "connection_misconfigured", message));
    }
    let signer = Signer { credential, region, service: &wanted.service, now: clock.now() };
    signer.sign(upstream).map_err(|reason| connection.unusable(reason))
}

#[derive(serde::Deserialize)]
struct RegionOption {
    region: Option<String>,
}

/// Headers that belong to one hop or to the host: not a plugin's, and not passed on from the caller.
pub(crate) fn is_reserved(name: &HeaderName) -> bool {
    const RESERVED: [&str; 20] = [
        "accept-encoding",
        "authorization",
        "connection",
        "content-length",
        "cookie",
        "expect",
        "forwarded",
        "host",
        "http2-settings",
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
        "x-goog-api-key",
    ];
    let name = name.as_str();
    RESERVED.binary_search(&name).is_ok() || name.starts_with("x-forwarded-") || name.starts_with("proxy-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_headers_are_known() {
        assert!(is_reserved(&HeaderName::from_static("x-forwarded-for")));
        assert!(
            is_reserved(&HeaderName::from_static("x-api-key")) && is_reserved(&HeaderName::from_static("te"))
        );
        assert!(!is_reserved(&HeaderName::from_static("openai-beta")));
    }
}
