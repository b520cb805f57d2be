//! The server over real sockets.

#[cfg(test)]
mod accept;
#[cfg(test)]
mod drain;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod otlp;
#[cfg(test)]
mod plugins;
#[cfg(test)]
mod queries;
#[cfg(test)]
mod queue;
#[cfg(test)]
mod retention;
#[cfg(test)]
mod streaming;
#[cfg(test)]
mod surface;
