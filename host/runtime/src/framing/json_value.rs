//! Where a JSON value ends (RFC 8259), whatever it is made of.
//!
//! Only what is needed for that is read: strings with their escapes, and how deep brackets go. Whether it is JSON is for
//! whoever reads it to judge.

use memchr::memchr2;

/// A value that is being read to its end.
#[derive(Debug, Default)]
pub(super) struct Value {
    place: Place,
    /// Brackets and braces that are open in it.
    depth: usize,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In a number or a word.
    #[default]
    Word,
    /// In an object or an array, outside of strings.
    Nested,
    /// In a string; after a backslash, which takes the next byte with it whatever it is.
    Text { escaped: bool },
}

impl Value {
    /// One that begins with this byte, which isn't taken yet.
    pub(super) fn beginning(byte: u8) -> Self {
        let place = if matches!(byte, b'{' | b'[' | b'"') { Place::Nested } else { Place::Word };
        Self { place, depth: 0 }
    }

    /// How many of these bytes are its, and whether it has ended. A number or a word ends only where something else begins.
    pub(super) fn take(&mut self, bytes: &[u8]) -> (usize, bool) {
        let mut taken = 0;
        while let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) {
            let end = match self.place {
                Place::Word => {
                    let is_end = |byte: &u8| is_space(*byte) || matches!(byte, b',' | b']' | b'}');
                    let end = rest.iter().position(is_end);
                    return (taken + end.unwrap_or(rest.len()), end.is_some());
                }
                Place::Text { escaped: true } => Some(0),
                Place::Text { escaped: false } => memchr2(b'"', b'\\', rest),
                Place::Nested => {
                    rest.iter().position(|byte| matches!(byte, b'"' | b'{' | b'}' | b'[' | b']'))
                }
            };
            let Some((at, byte)) = end.and_then(|at| Some((at, rest.get(at)?))) else { break };
            taken += at + 1;
            let is_closed = match (self.place, byte) {
                (Place::Text { escaped: true }, _) => {
                    self.place = Place::Text { escaped: false };
                    false
                }
                (Place::Text { .. }, b'\\') => {
                    self.place = Place::Text { escaped: true };
                    false
                }
                (Place::Nested, b'"') => {
                    self.place = Place::Text { escaped: false };
                    false
                }
                (Place::Nested, b'{' | b'[') => {
                    self.depth += 1;
                    false
                }
                (Place::Nested, _) => {
                    self.depth = self.depth.saturating_sub(1);
                    true
                }
                _ => {
                    self.place = Place::Nested;
                    true
                }
            };
            if is_closed && self.depth == 0 {
                return (taken, true);
            }
        }
        (bytes.len(), false)
    }
}

pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}
