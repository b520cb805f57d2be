//! The server over real sockets.

mod accept;
mod drain;
mod harness;
mod surface;
