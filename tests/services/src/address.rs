//! Where a server that a test starts can listen.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;

/// Below what the kernel gives to connections and to who asks for any port (32768 and up, `ip_local_port_range` in ip(7)): of
/// those one that is free now may be somebody's before the server has it.
const PORTS: Range<u16> = 12_000..32_000;

/// An address on loopback at which nobody listens, for a server that has to be told one. Who can, listens at port 0 instead.
///
/// # Errors
/// There is none.
pub fn free_address() -> io::Result<SocketAddr> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..100 {
        let chance = RandomState::new().build_hasher().finish() % u64::from(PORTS.end - PORTS.start);
        let port = PORTS.start + u16::try_from(chance).unwrap_or_default();
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(listener) => return listener.local_addr(),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn an_address_is_free_and_seldom_the_same() {
        let addresses: BTreeSet<SocketAddr> = (0..20).map(|_| free_address().unwrap()).collect();
        assert!(addresses.len() > 10, "{addresses:?}");
        for address in addresses {
            assert!(address.ip().is_loopback() && PORTS.contains(&address.port()), "{address}");
        }
    }
}
