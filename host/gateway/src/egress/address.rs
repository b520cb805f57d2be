//! Which addresses may be dialed.
//!
//! Refused always: cloud metadata, link-local, unspecified, multicast, broadcast and reserved ranges. Refused unless
//! an operator says otherwise: loopback, private (RFC 1918, RFC 4193), carrier-grade NAT (RFC 6598). An IPv4 address
//! inside an IPv6 one (mapped, compatible, NAT64, 6to4) is judged as what it is.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use arc_swap::ArcSwap;

/// The rules of one server.
#[derive(Debug)]
pub struct Policy {
    pub(super) allow_private: bool,
    /// Literal addresses and `localhost`, as configured base URLs name them.
    pub(super) named: ArcSwap<HashSet<String>>,
}

/// An address that isn't dialed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Never.
    #[error("{0} is an address that is never dialed")]
    Never(IpAddr),
    /// Not unless it is allowed.
    #[error(
        "{0} is a private address; name it in a configured base URL, or set BROKLE_ALLOW_PRIVATE_UPSTREAMS"
    )]
    Private(IpAddr),
}

impl Policy {
    /// The same for a host in the URL of a tenant, whom what operators named for themselves doesn't serve: otherwise one
    /// service of theirs on loopback would open all others there.
    ///
    /// # Errors
    /// Why not.
    pub fn check_stranger(&self, host: &str) -> Result<(), Refused> {
        let address = host.parse().ok().or((host == "localhost").then_some(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        match address {
            Some(address) if class(address) == Class::Private && !self.allow_private => {
                Err(Refused::Private(address))
            }
            _ => Ok(()),
        }
    }

    /// Whether `address`, which `host` stands for, may be dialed.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, host: &str, address: IpAddr) -> Result<(), Refused> {
        match class(address) {
            Class::Public => Ok(()),
            Class::Never => Err(Refused::Never(address)),
            Class::Private if self.allow_private || self.named.load().contains(host) => Ok(()),
            Class::Private => Err(Refused::Private(address)),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Class {
    Public,
    Private,
    Never,
}

fn class(address: IpAddr) -> Class {
    match address {
        IpAddr::V4(address) => class_v4(address),
        IpAddr::V6(address) => class_v6(address),
    }
}

fn class_v4(address: Ipv4Addr) -> Class {
    let [a, b, c, _] = address.octets();
    let never = a == 0
        || address.is_link_local()
        || address.is_multicast()
        || a >= 240
        || (a, b, c) == (192, 0, 0)
        || address == Ipv4Addr::new(100, 100, 100, 200);
    if never {
        return Class::Never;
    }
    let shared = a == 100 && (64..128).contains(&b);
    let benchmark = a == 198 && (b == 18 || b == 19);
    if address.is_loopback() || address.is_private() || shared || benchmark || address.is_documentation() {
        return Class::Private;
    }
    Class::Public
}

fn class_v6(address: Ipv6Addr) -> Class {
    if address.is_loopback() {
        return Class::Private;
    }
    let segments = address.segments();
    let inner = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        class_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        // Mapped (RFC 4291) and compatible.
        [0, 0, 0, 0, 0, 0xffff | 0, high, low] => inner(high, low),
        // NAT64 (RFC 6052) and 6to4 (RFC 3056).
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => inner(high, low),
        [0x64, 0xff9b, 1, ..] => Class::Never,
        [0x2002, high, low, ..] => inner(high, low),
        // AWS's metadata service.
        [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254] => Class::Never,
        [first, ..] if first & 0xffc0 == 0xfe80 || first >> 8 == 0xff => Class::Never,
        [first, ..] if first & 0xfe00 == 0xfc00 => Class::Private,
        [0x2001, 0xdb8, ..] | [0x2001, 0, ..] => Class::Private,
        _ => Class::Public,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_judged_by_what_they_are() {
        let is = |text: &str| class(text.parse().unwrap());
        for text in ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"] {
            assert_eq!(is(text), Class::Public, "{text}");
        }
        for text in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "::1",
            "fd12::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::7f00:1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
        ] {
            assert_eq!(is(text), Class::Private, "{text}");
        }
        for text in [
            "169.254.169.254",
            "0.0.0.0",
            "::",
            "224.0.0.1",
            "255.255.255.255",
            "fe80::1",
            "ff02::1",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "fd00:ec2::254",
            "100.100.100.200",
        ] {
            assert_eq!(is(text), Class::Never, "{text}");
        }
    }

    #[test]
    fn a_configured_literal_opens_itself_only() {
        let named = ArcSwap::from_pointee(HashSet::from(["127.0.0.1".to_owned()]));
        let policy = Policy { allow_private: false, named };
        let loopback = "127.0.0.1".parse().unwrap();
        assert_eq!(policy.check("127.0.0.1", loopback), Ok(()));
        // A name that resolves there is another matter: that is what rebinding does.
        assert_eq!(policy.check("rebound.example", loopback), Err(Refused::Private(loopback)));
        let metadata = "169.254.169.254".parse().unwrap();
        let open = Policy { allow_private: true, named: ArcSwap::from_pointee(HashSet::new()) };
        assert_eq!(open.check("anything", loopback), Ok(()));
        assert_eq!(open.check("anything", metadata), Err(Refused::Never(metadata)));
    }

    #[test]
    fn what_operators_named_for_themselves_serves_no_tenant() {
        let named = ArcSwap::from_pointee(HashSet::from(["127.0.0.1".to_owned(), "localhost".to_owned()]));
        let policy = Policy { allow_private: false, named };
        for host in ["127.0.0.1", "localhost", "10.0.0.8", "::1", "::ffff:192.168.0.1"] {
            assert!(matches!(policy.check_stranger(host), Err(Refused::Private(_))), "{host}");
        }
        assert_eq!(policy.check_stranger("93.184.216.34"), Ok(()));
        assert_eq!(policy.check_stranger("api.example.org"), Ok(()));
        let open = Policy { allow_private: true, named: ArcSwap::default() };
        assert_eq!(open.check_stranger("127.0.0.1"), Ok(()));
    }
}
