//! Write a Brokle plugin.
