//! The vocabulary of the house: ids, tenancy, errors, money, clock, model catalogue. No I/O.

pub mod catalogue;
pub mod clock;
pub mod form;
pub mod ids;
pub mod json;
pub mod kv;
pub mod money;
pub mod observation;
pub mod random;
pub mod reactor;
pub mod signal;
pub mod tenancy;
pub mod usage;
