//! The built program, from outside.

#[cfg(test)]
mod cli;
