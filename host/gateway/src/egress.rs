//! Every outbound connection is made here.
//!
//! - **Where to**: the connection's own origin, and nowhere else: a plugin gives a path, never a host. The addresses
//!   that are really dialed are checked ([`address`]), so a name can't be pointed elsewhere after it was looked at.
//! - **Secrets** are put in last ([`build()`]), marked sensitive, and are in no error and no log.
//! - **HTTP/1.1** with a pool for each reactor, since a connection is read where it was opened: a canceled stream costs its
//!   connection and nothing else, where one HTTP/2 connection that cancels many streams may be cut by its peer.
//! - **No redirects**: an answer that is one is an error answer.

pub mod address;
mod body;
mod build;
mod encode;
mod origin;
mod outgoing;
mod plugins;
mod resolver;
mod segments;
mod sigv4;

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use brokle_core::reactor;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
#[expect(clippy::disallowed_types, reason = "this is the egress module")]
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::GaiResolver;
use hyper_util::rt::{TokioExecutor, TokioTimer};

pub(crate) use body::planned;
pub use build::build;
pub(crate) use build::is_reserved;
pub(crate) use encode::{decoded, form_value};
pub use origin::{Origin, fill};
pub use outgoing::{BodyError, CallerBody, Outgoing, Streamed};
pub use segments::Segments;

use crate::connections::Connection;
use crate::refusal::Refusal;
use address::Policy;
use resolver::Filtered;

#[expect(clippy::disallowed_types, reason = "this is the egress module")]
type Pool = Client<HttpsConnector<HttpConnector<Filtered<GaiResolver>>>, Outgoing>;

/// The client for everything outside.
#[derive(Clone)]
pub struct Egress {
    /// Each reactor's, by its number.
    pools: Arc<[Pool]>,
    /// Everybody else's.
    shared: Pool,
    policy: Arc<Policy>,
}

impl std::fmt::Debug for Egress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Egress").finish_non_exhaustive()
    }
}

impl Egress {
    /// A client for so many reactors and all other threads. `allow_private` lifts the filter for private and loopback addresses; the
    /// hosts that configured base URLs name are allowed one by one with [`Egress::allow`].
    #[expect(clippy::disallowed_types, reason = "this is the egress module")]
    pub fn new(allow_private: bool, connect_timeout: Duration, reactors: usize) -> Self {
        let policy = Arc::new(Policy { allow_private, named: ArcSwap::from_pointee(HashSet::new()) });
        let resolver = Filtered::new(GaiResolver::new(), policy.clone());
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
        let pool = || {
            Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(Duration::from_secs(60))
                .pool_max_idle_per_host(1_024)
                .build(connector.clone())
        };
        Self { pools: (0..reactors).map(|_| pool()).collect(), shared: pool(), policy }
    }

    /// This thread's.
    fn pool(&self) -> &Pool {
        reactor::current().and_then(|number| self.pools.get(number)).unwrap_or(&self.shared)
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

    /// Whether a host that a tenant named may be dialed, as far as its name tells.
    pub(crate) fn check_stranger(&self, host: &str) -> Result<(), address::Refused> {
        self.policy.check_stranger(&bare(host).to_ascii_lowercase())
    }

    /// Sends one request.
    ///
    /// # Errors
    /// 502 when there is no connection or it broke before the answer's head.
    pub async fn send(
        &self,
        connection: &Connection,
        request: Request<impl Into<Outgoing>>,
    ) -> Result<Response<Incoming>, Refusal> {
        // A literal address needs no resolver, so the resolver's filter doesn't see it.
        let host = request.uri().host().map(bare).unwrap_or_default().to_ascii_lowercase();
        if !connection.trusted {
            self.check_stranger(&host).map_err(|reason| unreachable(connection, &reason))?;
        }
        if let Ok(address) = host.parse::<IpAddr>() {
            self.policy.check(&host, address).map_err(|reason| unreachable(connection, &reason))?;
        }
        self.pool().request(request.map(Into::into)).await.map_err(|error| {
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

#[cfg(test)]
mod tests {
    use std::ptr;

    use super::*;

    #[test]
    fn each_reactor_has_connections_of_its_own() {
        let egress = Egress::new(false, Duration::from_secs(1), 2);
        let mine = |egress: &Egress, number| {
            egress.pools.get(number).is_some_and(|pool| ptr::eq(egress.pool(), pool))
        };
        assert!(ptr::eq(egress.pool(), &raw const egress.shared), "this thread is none");
        for number in 0..2 {
            let egress = egress.clone();
            let there = move || {
                reactor::enter(number);
                mine(&egress, number)
            };
            assert!(std::thread::spawn(there).join().unwrap());
        }
    }
}
