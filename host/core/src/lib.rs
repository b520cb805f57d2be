//! The vocabulary of the house: ids, tenancy, errors, money, clock, model catalogue. No I/O.

pub mod clock;
pub mod ids;
pub mod random;
pub mod tenancy;
