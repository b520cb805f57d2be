//! One request's way.
