//! A body that is one JSON array, its elements handed on as they are complete (RFC 8259).
//!
//! Only what is needed to find an element's end is read: strings with their escapes, and how deep brackets go. Whether
//! an element is JSON is the decoder's to judge. Between elements the grammar holds: `[1,,2]`, `[1,]`, a body that isn't
//! an array, anything but space behind it, and an end before the last bracket are errors.

use memchr::memchr2;

use super::{FrameError, MAX_EVENT, extend};
use crate::exchange::Frame;

#[derive(Debug, Default)]
pub(super) struct JsonArray {
    place: Place,
    /// What there is of an element.
    element: Vec<u8>,
    /// Brackets and braces that are open in it.
    depth: usize,
    /// Bytes since the end of the last whole element, or since the array's.
    unfinished: usize,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    #[default]
    BeforeArray,
    /// An element, or the end of an empty array.
    First,
    /// An element, after a comma.
    Next,
    /// In a number or a word.
    Word,
    /// In an object or an array, outside of strings.
    Nested,
    /// In a string; after a backslash, which takes the next byte with it whatever it is.
    Text {
        escaped: bool,
    },
    /// A comma, or the end.
    AfterElement,
    AfterArray,
}

impl JsonArray {
    pub(super) fn push(&mut self, mut bytes: &[u8], frames: &mut Vec<Frame>) -> Result<(), FrameError> {
        self.unfinished += bytes.len();
        while let Some((&byte, rest)) = bytes.split_first() {
            match self.place {
                Place::Word | Place::Nested | Place::Text { .. } => {
                    bytes = self.inside(bytes)?;
                    if self.place == Place::AfterElement {
                        self.unfinished = bytes.len();
                        frames.push(Frame { event: String::new(), data: std::mem::take(&mut self.element) });
                    }
                }
                _ if is_space(byte) => bytes = rest,
                Place::First | Place::Next if !matches!(byte, b']' | b',') => self.begin(byte),
                _ => {
                    self.place = self.separator(byte)?;
                    bytes = rest;
                }
            }
        }
        if self.place == Place::AfterArray {
            self.unfinished = 0;
        }
        Ok(())
    }

    pub(super) fn unfinished(&self) -> usize {
        self.unfinished
    }

    /// # Errors
    /// The array isn't closed.
    pub(super) fn finish(self) -> Result<(), FrameError> {
        if self.place == Place::AfterArray { Ok(()) } else { Err(FrameError::CutShort) }
    }

    fn separator(&self, byte: u8) -> Result<Place, FrameError> {
        match (self.place, byte) {
            (Place::BeforeArray, b'[') => Ok(Place::First),
            (Place::First | Place::AfterElement, b']') => Ok(Place::AfterArray),
            (Place::AfterElement, b',') => Ok(Place::Next),
            (Place::BeforeArray, _) => Err(malformed("it is no array")),
            (Place::AfterArray, _) => Err(malformed("something follows the array")),
            (Place::AfterElement, _) => Err(malformed("an element isn't followed by a comma")),
            _ => Err(malformed("an element is missing")),
        }
    }

    /// An element begins with this byte, which isn't taken yet.
    fn begin(&mut self, byte: u8) {
        self.depth = 0;
        self.place = match byte {
            b'{' | b'[' | b'"' => Place::Nested,
            _ => Place::Word,
        };
    }

    /// Takes a part of the element and gives what is left.
    fn inside<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], FrameError> {
        let end = match self.place {
            Place::Text { escaped: true } => Some(0),
            Place::Text { escaped: false } => memchr2(b'"', b'\\', bytes),
            Place::Word => {
                let end = bytes.iter().position(|&byte| is_space(byte) || matches!(byte, b',' | b']'));
                let (word, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
                extend(&mut self.element, word, MAX_EVENT)?;
                if end.is_some() {
                    self.place = Place::AfterElement;
                }
                return Ok(rest);
            }
            _ => bytes.iter().position(|byte| matches!(byte, b'"' | b'{' | b'}' | b'[' | b']')),
        };
        let (taken, rest) = bytes.split_at(end.map_or(bytes.len(), |at| at + 1));
        extend(&mut self.element, taken, MAX_EVENT)?;
        if let (Some(_), Some(last)) = (end, taken.last()) {
            self.place = match (self.place, last) {
                (Place::Text { escaped: true }, _) => Place::Text { escaped: false },
                (Place::Text { .. }, b'\\') => Place::Text { escaped: true },
                (Place::Nested, b'"') => Place::Text { escaped: false },
                (Place::Nested, b'{' | b'[') => {
                    self.depth += 1;
                    Place::Nested
                }
                (Place::Nested, _) => {
                    self.depth = self.depth.saturating_sub(1);
                    self.after()
                }
                _ => self.after(),
            };
        }
        Ok(rest)
    }

    /// Where a closed string or bracket leaves us.
    fn after(&self) -> Place {
        if self.depth == 0 { Place::AfterElement } else { Place::Nested }
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

fn malformed(reason: &'static str) -> FrameError {
    FrameError::Malformed { framing: "json-array", reason }
}
