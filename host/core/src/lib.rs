//! The vocabulary of the house: ids, tenancy, errors, money, clock, model catalogue. No I/O.

pub mod catalogue;
pub mod money;
pub mod usage;
