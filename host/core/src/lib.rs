//! The vocabulary of the house: ids, tenancy, errors, money, clock, model catalogue. No I/O.

pub mod money;
pub mod usage;
