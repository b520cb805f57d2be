//! A wire to a server that can be cut and mended.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A port of the loopback interface that leads to a server, while it is whole.
#[derive(Debug)]
pub struct Wire {
    address: SocketAddr,
    ends: Arc<Mutex<Ends>>,
}

/// Both ends of all connections.
#[derive(Debug, Default)]
struct Ends {
    is_cut: bool,
    open: Vec<TcpStream>,
}

impl Wire {
    /// A wire to the server at this address.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn to(server: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let wire = Self { address: listener.local_addr()?, ends: Arc::default() };
        let ends = Arc::downgrade(&wire.ends);
        std::thread::Builder::new().name("wire".into()).spawn(move || forward(&listener, server, &ends))?;
        Ok(wire)
    }

    /// A wire to the server that a URL names, and the URL that leads there by it.
    ///
    /// # Errors
    /// When the URL names no address by number, or no port can be had.
    pub fn to_server_of(url: &str) -> io::Result<(Self, String)> {
        let named = url.split(['@', '/']).find_map(|part| part.parse().ok().map(|address| (part, address)));
        let (part, address) = named.ok_or_else(|| io::Error::other("the URL names no address"))?;
        let wire = Self::to(address)?;
        let url = url.replace(part, &wire.address.to_string());
        Ok((wire, url))
    }

    /// Ends all connections; new ones end at once.
    pub fn cut(&self) {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        ends.is_cut = true;
        for end in ends.open.drain(..) {
            // One that has ended already is as wanted.
            let _ = end.shutdown(Shutdown::Both);
        }
    }

    /// Lets new connections through.
    pub fn mend(&self) {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner).is_cut = false;
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.cut();
    }
}

/// Until the wire is gone, and somebody comes.
fn forward(listener: &TcpListener, server: SocketAddr, ends: &Weak<Mutex<Ends>>) {
    for near in listener.incoming() {
        let (Ok(near), Some(ends)) = (near, ends.upgrade()) else { return };
        // Who can't be connected is cut off.
        let _ = connect(near, server, &ends);
    }
}

fn connect(near: TcpStream, server: SocketAddr, ends: &Mutex<Ends>) -> io::Result<()> {
    let mut ends = ends.lock().unwrap_or_else(PoisonError::into_inner);
    if ends.is_cut {
        return Ok(());
    }
    let far = TcpStream::connect(server)?;
    for (from, to) in [(&near, &far), (&far, &near)] {
        let (mut from, mut to) = (from.try_clone()?, to.try_clone()?);
        std::thread::Builder::new().name("wire".into()).spawn(move || {
            // However it ends: the other side hears of it.
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        })?;
    }
    ends.open.extend([near, far]);
    Ok(())
}
