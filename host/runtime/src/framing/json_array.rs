//! A body that is one JSON array, its elements handed on as they are complete (RFC 8259).
//!
//! Only where an element ends is read ([`Value`]); whether it is JSON is the decoder's to judge. Between elements the grammar
//! holds: `[1,,2]`, `[1,]`, a body that isn't an array, anything but space behind it, and an end before the last bracket are
//! errors.

use super::json_value::{Value, is_space};
use super::{FrameError, extend};
use crate::exchange::Frame;

#[derive(Debug)]
pub(super) struct JsonArray {
    place: Place,
    /// Where in the element.
    value: Value,
    /// What there is of it.
    element: Vec<u8>,
    /// The largest one.
    most: usize,
    /// Bytes since the end of the last whole element, or since the array's.
    unfinished: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    BeforeArray,
    /// An element, or the end of an empty array.
    First,
    /// An element, after a comma.
    Next,
    Element,
    /// A comma, or the end.
    AfterElement,
    AfterArray,
}

impl JsonArray {
    /// One whose elements have at most this many bytes.
    pub(super) fn new(most: usize) -> Self {
        let (value, element) = (Value::default(), Vec::new());
        Self { place: Place::BeforeArray, value, element, most, unfinished: 0 }
    }

    pub(super) fn push(&mut self, bytes: &[u8], frames: &mut Vec<Frame>) -> Result<(), FrameError> {
        self.unfinished += bytes.len();
        let behind = self.elements(bytes, frames)?;
        if self.is_closed() {
            self.unfinished = 0;
        }
        match behind.iter().all(|&byte| is_space(byte)) {
            true => Ok(()),
            false => Err(malformed("something follows the array")),
        }
    }

    /// Takes what is the array's, and gives what follows it.
    pub(super) fn elements<'a>(
        &mut self,
        mut bytes: &'a [u8],
        frames: &mut Vec<Frame>,
    ) -> Result<&'a [u8], FrameError> {
        while let Some((&byte, rest)) = bytes.split_first() {
            match self.place {
                Place::AfterArray => break,
                Place::Element => {
                    let (count, has_ended) = self.value.take(bytes);
                    let (taken, rest) = bytes.split_at(count);
                    extend(&mut self.element, taken, self.most)?;
                    bytes = rest;
                    if has_ended {
                        self.place = Place::AfterElement;
                        self.unfinished = bytes.len();
                        frames.push(Frame { event: String::new(), data: std::mem::take(&mut self.element) });
                    }
                }
                _ if is_space(byte) => bytes = rest,
                Place::First | Place::Next if !matches!(byte, b']' | b',') => {
                    (self.place, self.value) = (Place::Element, Value::beginning(byte));
                }
                _ => {
                    self.place = self.separator(byte)?;
                    bytes = rest;
                }
            }
        }
        Ok(bytes)
    }

    pub(super) fn unfinished(&self) -> usize {
        self.unfinished
    }

    pub(super) fn is_closed(&self) -> bool {
        self.place == Place::AfterArray
    }

    /// # Errors
    /// The array isn't closed.
    pub(super) fn finish(self) -> Result<(), FrameError> {
        if self.is_closed() { Ok(()) } else { Err(FrameError::CutShort) }
    }

    fn separator(&self, byte: u8) -> Result<Place, FrameError> {
        match (self.place, byte) {
            (Place::BeforeArray, b'[') => Ok(Place::First),
            (Place::First | Place::AfterElement, b']') => Ok(Place::AfterArray),
            (Place::AfterElement, b',') => Ok(Place::Next),
            (Place::BeforeArray, _) => Err(malformed("it is no array")),
            (Place::AfterElement, _) => Err(malformed("an element isn't followed by a comma")),
            _ => Err(malformed("an element is missing")),
        }
    }
}

pub(super) fn malformed(reason: &'static str) -> FrameError {
    FrameError::Malformed { framing: "json-array", reason }
}
