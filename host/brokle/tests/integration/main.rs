//! The built program, from outside.

#[cfg(test)]
mod cli;
#[cfg(test)]
mod drain;
#[cfg(test)]
mod licensed;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod otlp;
#[cfg(test)]
mod trust;
