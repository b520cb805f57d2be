//! JSON by position: one validating scan, lookups by pointer, and edits that keep every other byte.
//!
//! A gateway reads three or four members of a request and changes one. Parsing the rest would
//! cost time and memory in proportion to the prompt, and writing it anew would change bytes that
//! belong to the caller. So a body stays the bytes that came: [`scan`] checks them once and
//! reports where the top-level members are, [`find`] goes to a place in a checked body, and
//! [`Splices`] writes the changed body as slices of the old one with the new pieces in between.
//!
//! The scan accepts RFC 8259 with these limits, each refused with its position: nesting deeper
//! than [`MAX_DEPTH`], and, in strings, `\u0000` and lone surrogates, which databases and other
//! vendors' parsers don't survive. It uses no recursion: the depth of the input can't reach the
//! stack.

mod find;
mod names;
mod plain;
mod scan;
mod splice;

pub use find::{Members, elements, find, path_at, same_key};
pub use names::{Names, name};
pub use scan::{MAX_DEPTH, ScanError, ScanErrorKind, Visitor, scan, visit};
pub use splice::{Change, EditError, Splices};
