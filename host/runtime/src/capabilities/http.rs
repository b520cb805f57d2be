//! `brokle:host/http`: requests to named upstreams.
//!
//! # The way of a request
//! 1. The upstream must be granted, the host one of its hosts, the method one of its methods. Which it isn't is in the
//!    `denied` error, since the plugin's author needs it and the manifest says it anyway.
//! 2. Path and headers are checked: no way to another origin, no header that belongs to the host or to one hop.
//! 3. One of the plugin's permits and one of the tenant's are taken, or the answer is `busy`: nothing queues.
//! 4. The secret is put in, last, marked sensitive; the guest never had it.
//! 5. [`HttpTransport`] sends it (the gateway's egress, with its filter for addresses), under the upstream's timeout,
//!    which covers the body too. Bodies are cut off at the granted size while they are read.
//! 6. The secret is masked in whatever comes back, in case the upstream echoes it.

use std::collections::HashMap;
use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;

use base64::Engine as _;
use brokle_core::tenancy::Tenant;
use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use http::{Method, Request, Response, Uri};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::prepare::{Instance, PluginCapabilities};
use super::redact;
use super::secrets::SecretValue;
use crate::bindings::capabilities::brokle::host::http as wit;
use crate::bindings::capabilities::brokle::host::http::{Credential, Error, Host};
use crate::capabilities::HostPattern;
use crate::grants::{HttpGrant, UpstreamGrant};
use crate::instance::State;

/// Headers of one request, and of one response.
const MAX_HEADERS: usize = 64;

/// Bytes of a path with its query.
const MAX_PATH: usize = 8 << 10;

/// Headers that belong to one hop, to the host, or to credentials.
const RESERVED: [&str; 16] = [
    "accept-encoding",
    "authorization",
    "connection",
    "content-length",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-forwarded-for",
];

/// What sends plugins' requests.
pub trait HttpTransport: Send + Sync + Debug {
    /// Sends a request and reads its response. Follows no redirect; gives up on a body that is larger than the limit
    /// without reading on. Dropping the future cancels the request.
    fn fetch(
        &self,
        outbound: Outbound,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, TransportError>> + Send + '_>>;
}

/// A request that was checked.
#[derive(Debug)]
pub struct Outbound {
    /// With an absolute URI; secrets are in it, in sensitive headers.
    pub request: Request<Bytes>,
    /// The largest body that is read.
    pub max_response_bytes: usize,
    /// An operator named this very host, not a pattern: a private address is meant, if it is one.
    pub named: bool,
}

/// Why there is no response.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// The address isn't one that may be dialed.
    #[error("its address may not be dialed")]
    AddressRefused,
    /// No connection.
    #[error("no connection could be made")]
    Unreachable,
    /// It broke before the response was whole.
    #[error("the connection broke")]
    Broken,
    /// The response is larger than the limit.
    #[error("the response is too large")]
    TooLarge,
}

/// How many requests are under way.
#[derive(Debug)]
pub(crate) struct Permits {
    plugin: Arc<Semaphore>,
    tenants: Mutex<HashMap<Tenant, usize>>,
    per_tenant: usize,
}

/// A request that is under way.
struct Permit<'a> {
    permits: &'a Permits,
    tenant: Tenant,
    _plugin: OwnedSemaphorePermit,
}

impl Permits {
    pub(crate) fn new(grant: Option<&HttpGrant>) -> Self {
        let (plugin, per_tenant) =
            grant.map_or((0, 0), |grant| (grant.max_in_flight, grant.max_in_flight_per_tenant));
        Self { plugin: Arc::new(Semaphore::new(plugin)), tenants: Mutex::default(), per_tenant }
    }

    fn take(&self, tenant: Tenant) -> Option<Permit<'_>> {
        let plugin = self.plugin.clone().try_acquire_owned().ok()?;
        let mut tenants = self.tenants.lock();
        let under_way = tenants.entry(tenant).or_default();
        if *under_way >= self.per_tenant {
            return None;
        }
        *under_way += 1;
        Some(Permit { permits: self, tenant, _plugin: plugin })
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut tenants = self.permits.tenants.lock();
        if let Some(under_way) = tenants.get_mut(&self.tenant) {
            *under_way -= 1;
            if *under_way == 0 {
                tenants.remove(&self.tenant);
            }
        }
    }
}

impl Host for State {
    async fn send(&mut self, request: wit::Request) -> wasmtime::Result<Result<wit::Response, Error>> {
        let granted = self.granted("http", |instance| {
            let http = instance.plugin.grants.http.as_ref();
            http.is_some_and(|http| http.upstreams.contains_key(&request.upstream))
        });
        let Some(instance) = granted else {
            let name: String = request.upstream.chars().take(64).collect();
            return Ok(Err(Error::Denied(format!("the upstream '{}'", name.escape_debug()))));
        };
        let (plugin, tenant) = (instance.plugin.clone(), instance.tenant);
        let prepared = prepare(instance, request);
        match prepared {
            Ok(prepared) => Ok(send(&plugin, tenant, prepared).await),
            Err(error) => {
                if let Error::Denied(what) = &error {
                    plugin.deny("http", what);
                }
                Ok(Err(error))
            }
        }
    }
}

struct Prepared {
    outbound: Outbound,
    timeout: std::time::Duration,
    /// To be masked in the response: the secret, and the header value that holds it.
    secrets: Vec<SecretValue>,
}

fn prepare(instance: &Instance, request: wit::Request) -> Result<Prepared, Error> {
    let plugin = &instance.plugin;
    let upstream = plugin.grants.http.as_ref().and_then(|http| http.upstreams.get(&request.upstream));
    let upstream = upstream.ok_or_else(|| Error::Denied("the upstream".into()))?;
    let (origin, named) = origin(upstream, request.host.as_deref())?;
    if !upstream.methods.contains(&request.method) {
        return Err(Error::Denied(format!("the method '{}'", shown(&request.method))));
    }
    if request.body.len() > upstream.max_request_bytes {
        return Err(Error::RequestTooLarge(upstream.max_request_bytes as u64));
    }
    let uri = uri(&origin, &request.path)?;
    let method = Method::from_bytes(request.method.as_bytes());
    let method = method.map_err(|_| Error::Invalid("the method".into()))?;
    let mut outbound = Request::new(Bytes::from(request.body));
    *outbound.method_mut() = method;
    *outbound.uri_mut() = uri;
    if request.headers.len() > MAX_HEADERS {
        return Err(Error::Invalid(format!("more than {MAX_HEADERS} headers")));
    }
    for header in &request.headers {
        let (name, value) = (header_name(&header.name)?, HeaderValue::from_str(&header.value));
        let value = value.map_err(|_| Error::Invalid(format!("the value of the header '{name}'")))?;
        outbound.headers_mut().append(name, value);
    }
    let secrets = credential(plugin, upstream, &request.credential, &mut outbound)?;
    Ok(Prepared {
        outbound: Outbound { request: outbound, max_response_bytes: upstream.max_response_bytes, named },
        timeout: upstream.timeout,
        secrets,
    })
}

/// A guest's text in an error: short, and without control characters.
fn shown(text: &str) -> String {
    text.chars().take(64).collect::<String>().escape_debug().to_string()
}

/// The one origin meant, and whether the operator named it.
fn origin(upstream: &UpstreamGrant, host: Option<&str>) -> Result<(HostPattern, bool), Error> {
    let Some(host) = host else {
        let [only] = upstream.hosts.as_slice() else {
            return Err(Error::Invalid("the upstream has several hosts: name one".into()));
        };
        return if only.is_open() {
            Err(Error::Invalid(format!("the upstream's hosts are '{only}': name one")))
        } else {
            Ok((only.clone(), true))
        };
    };
    let wanted: HostPattern =
        host.parse().map_err(|_| Error::Invalid(format!("'{}' is no host", shown(host))))?;
    if wanted.is_open() {
        return Err(Error::Invalid(format!("'{wanted}' is no single host")));
    }
    let covering = upstream.hosts.iter().filter(|granted| granted.covers(&wanted));
    let open: Vec<bool> = covering.map(HostPattern::is_open).collect();
    if open.is_empty() {
        return Err(Error::Denied(format!("the host '{wanted}'")));
    }
    Ok((wanted, open.contains(&false)))
}

fn uri(origin: &HostPattern, path: &str) -> Result<Uri, Error> {
    let plain = path.bytes().all(|b| b.is_ascii_graphic() && b != b'\\' && b != b'#');
    if !plain || !path.starts_with('/') || path.starts_with("//") || path.len() > MAX_PATH {
        return Err(Error::Invalid("the path: it begins with one '/', has no fragment and no spaces".into()));
    }
    let (scheme, host, port) = origin.origin().ok_or_else(|| Error::Invalid("the host".into()))?;
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let authority = match (scheme, port) {
        ("https", 443) | ("http", 80) => host,
        _ => format!("{host}:{port}"),
    };
    let uri = Uri::builder().scheme(scheme).authority(authority).path_and_query(path).build();
    uri.map_err(|_| Error::Invalid("the path".into()))
}

fn header_name(name: &str) -> Result<HeaderName, Error> {
    let parsed = HeaderName::from_bytes(name.as_bytes());
    let parsed = parsed.map_err(|_| Error::Invalid(format!("the header '{}'", shown(name))))?;
    let text = parsed.as_str();
    if RESERVED.contains(&text) || text.starts_with("proxy-") || text.starts_with("x-forwarded-") {
        return Err(Error::Invalid(format!("the header '{text}' is the host's")));
    }
    Ok(parsed)
}

/// Puts the secret in, and gives what must be masked in the response.
fn credential(
    plugin: &PluginCapabilities,
    upstream: &UpstreamGrant,
    credential: &Credential,
    outbound: &mut Request<Bytes>,
) -> Result<Vec<SecretValue>, Error> {
    let secret = |name: &str| {
        let granted = upstream.secrets.contains(name);
        let secret = plugin.secrets.iter().find(|secret| granted && secret.name == name);
        secret
            .map(|secret| secret.value.clone())
            .ok_or_else(|| Error::Denied(format!("the secret '{}' for this upstream", shown(name))))
    };
    let (name, value, secret) = match credential {
        Credential::None => return Ok(Vec::new()),
        Credential::Bearer(name) => {
            let secret = secret(name)?;
            (AUTHORIZATION, [b"Bearer ", secret.expose().trim_ascii()].concat(), secret)
        }
        Credential::Header(header) => {
            let secret = secret(&header.secret)?;
            let name = header_name(&header.name)?;
            (name, [header.prefix.as_bytes(), secret.expose().trim_ascii()].concat(), secret)
        }
        Credential::Basic(basic) => {
            let secret = secret(&basic.secret)?;
            if basic.username.contains(':') {
                return Err(Error::Invalid("a user name with a colon".into()));
            }
            let pair = [basic.username.as_bytes(), b":", secret.expose().trim_ascii()].concat();
            let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
            (AUTHORIZATION, format!("Basic {encoded}").into_bytes(), secret)
        }
    };
    let mut header = HeaderValue::from_bytes(&value)
        .map_err(|_| Error::Invalid("the secret can't stand in a header".into()))?;
    header.set_sensitive(true);
    outbound.headers_mut().insert(name, header);
    let token = value.rsplit(|byte| *byte == b' ').next().unwrap_or_default().to_vec();
    Ok(vec![SecretValue::new(secret.expose().trim_ascii()), SecretValue::new(token)])
}

async fn send(
    plugin: &PluginCapabilities,
    tenant: Tenant,
    prepared: Prepared,
) -> Result<wit::Response, Error> {
    let Prepared { outbound, timeout, secrets } = prepared;
    let _permit = plugin.permits.take(tenant).ok_or(Error::Busy)?;
    let most = outbound.max_response_bytes;
    let response = tokio::time::timeout(timeout, plugin.services.http.fetch(outbound)).await;
    let response = response.map_err(|_| Error::Timeout)?.map_err(|error| match error {
        TransportError::TooLarge => Error::ResponseTooLarge(most as u64),
        other => Error::Unreachable(other.to_string()),
    })?;
    let (head, body) = response.into_parts();
    if body.len() > most {
        return Err(Error::ResponseTooLarge(most as u64));
    }
    let mut body = Vec::from(body);
    let mut headers = Vec::new();
    for (name, value) in head.headers.iter().take(MAX_HEADERS) {
        let mut value = value.as_bytes().to_vec();
        for secret in &secrets {
            redact::bytes(&mut value, secret.expose());
        }
        // What isn't text is left out.
        if let Ok(value) = String::from_utf8(value) {
            headers.push(wit::Header { name: name.as_str().to_owned(), value });
        }
    }
    for secret in &secrets {
        if redact::bytes(&mut body, secret.expose()) {
            tracing::warn!(plugin = %plugin.label, "an upstream gave back the secret that it was sent");
        }
    }
    Ok(wit::Response { status: head.status.as_u16(), headers, body })
}
