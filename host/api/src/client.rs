//! Where a request comes from: the connection's other end, or whom proxies that are trusted say.
//!
//! `server.trusted_proxies` lists the networks of load balancers. A request from one of them comes from the last address in
//! `X-Forwarded-For` that isn't a trusted proxy's own; what stands further left is the client's word, and isn't looked at.
//! Without the header it comes from the proxy. From anybody else the header means nothing.

use std::net::{IpAddr, SocketAddr};

use brokle_identity::allowed::{contains, network};
use http::{Extensions, HeaderMap, HeaderName};
use ipnet::IpNet;

use crate::server::PeerAddress;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Proxies whose word counts.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Reads networks and addresses.
    ///
    /// # Errors
    /// The first entry that is neither.
    pub fn parse(entries: &[String]) -> Result<Self, &str> {
        let all: Result<_, &str> = entries.iter().map(|text| network(text).ok_or(text.as_str())).collect();
        all.map(Self)
    }

    /// Whose request it is; none if that can't be told.
    #[must_use]
    pub fn client(&self, extensions: &Extensions, headers: &HeaderMap) -> Option<IpAddr> {
        let PeerAddress(peer) = extensions.get()?;
        let peer = peer.ip().to_canonical();
        if !contains(&self.0, peer) {
            return Some(peer);
        }
        let mut last = peer;
        for line in headers.get_all(FORWARDED_FOR).iter().rev() {
            for hop in line.to_str().ok()?.rsplit(',') {
                last = address(hop.trim())?;
                if !contains(&self.0, last) {
                    return Some(last);
                }
            }
        }
        Some(last)
    }
}

/// An address, to which some proxies add a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let with_port = || text.parse().ok().map(|address: SocketAddr| address.ip());
    bare.parse().ok().or_else(with_port).map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn client(trusted: &[&str], peer: &str, forwarded: &[&'static str]) -> Option<String> {
        let trusted: Vec<String> = trusted.iter().map(|text| (*text).to_owned()).collect();
        let mut extensions = Extensions::new();
        extensions.insert(PeerAddress(SocketAddr::new(peer.parse().unwrap(), 1)));
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append(FORWARDED_FOR, HeaderValue::from_static(line));
        }
        let proxies = TrustedProxies::parse(&trusted).unwrap();
        proxies.client(&extensions, &headers).map(|address| address.to_string())
    }

    #[test]
    fn only_trusted_proxies_speak_for_others() {
        let says = |peer, forwarded: &[&'static str]| {
            client(&["10.0.0.0/8", "2001:db8::1"], peer, forwarded).unwrap_or_default()
        };
        assert_eq!(says("192.0.2.1", &["198.51.100.1"]), "192.0.2.1", "nobody asked it");
        assert_eq!(says("10.0.0.1", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(says("::ffff:10.0.0.1", &["198.51.100.1:4711"]), "198.51.100.1");
        assert_eq!(says("2001:db8::1", &["[2001:db8::9]:443"]), "2001:db8::9");
        assert_eq!(says("10.0.0.1", &["1.1.1.1, 198.51.100.1, 10.0.0.2"]), "198.51.100.1", "a forged one");
        assert_eq!(says("10.0.0.1", &["1.1.1.1", "198.51.100.1 ,10.0.0.2"]), "198.51.100.1");
        assert_eq!(says("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(says("10.0.0.1", &["10.0.0.3"]), "10.0.0.3");
        assert_eq!(says("10.0.0.1", &["unknown"]), "", "nobody can tell");
        assert_eq!(client(&[], "10.0.0.1", &["198.51.100.1"]).unwrap(), "10.0.0.1");
        assert_eq!(TrustedProxies::parse(&["10.0.0.0/8".into(), "proxy".into()]).unwrap_err(), "proxy");
    }
}
