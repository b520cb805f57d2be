//! Listening with room for a burst.

use std::{io, net::SocketAddr};
use tokio::net::{TcpListener, TcpSocket};

/// Connections that may wait to be accepted. tokio's default is 128; of 500 that come at once the kernel then drops
/// some, and their clients try again a second later, which would be measured as the gateway's.
const BACKLOG: u32 = 4096;

pub(crate) fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}
