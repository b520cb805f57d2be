//! From `record` to the analytics database, with everything that may go wrong in between.

#[cfg(test)]
mod harness;

#[cfg(test)]
mod crash;
#[cfg(test)]
mod durable;
#[cfg(test)]
mod embedded;
#[cfg(test)]
mod flow;
#[cfg(test)]
mod live;
#[cfg(test)]
mod outage;
#[cfg(test)]
mod overflow;
#[cfg(test)]
mod poison;
#[cfg(test)]
mod port;
#[cfg(test)]
mod retention;
#[cfg(test)]
mod shared;
