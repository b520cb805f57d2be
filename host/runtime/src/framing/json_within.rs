//! An array inside of a JSON document, its elements handed on as they are complete, the rest of the document left out.
//!
//! The objects on the way to it are read, their other members skipped. What follows it is read to the end of the document, so
//! that one that is cut short is noticed. A document that hasn't the array has no elements.

use super::json_array::{JsonArray, malformed};
use super::json_value::{Value, is_space};
use super::{FrameError, MAX_EVENT, extend};
use crate::exchange::Frame;

#[derive(Debug)]
pub(super) struct JsonWithin {
    /// The members on the way, the outermost first.
    path: Vec<String>,
    /// How many of them are entered.
    entered: usize,
    /// The array was there.
    is_found: bool,
    place: Place,
    /// Where in a name, or in a member that is skipped.
    value: Value,
    /// What there is of a name, with its quotes.
    name: Vec<u8>,
    array: JsonArray,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before an object on the way.
    BeforeObject,
    /// A name, or the end of an empty object.
    First,
    /// A name, after a comma.
    Next,
    Name,
    AfterName,
    BeforeValue,
    /// In a member that is skipped.
    Skipped,
    /// A comma, or the object's end.
    AfterMember,
    Array,
    AfterDocument,
}

impl JsonWithin {
    /// The array at this RFC 6901 pointer, its elements of at most this many bytes; none if it is no pointer to a member.
    pub(super) fn new(pointer: &str, most: usize) -> Option<Self> {
        let path = pointer.strip_prefix('/')?.split('/');
        Some(Self {
            path: path.map(|name| name.replace("~1", "/").replace("~0", "~")).collect(),
            entered: 0,
            is_found: false,
            place: Place::BeforeObject,
            value: Value::default(),
            name: Vec::new(),
            array: JsonArray::new(most),
        })
    }

    pub(super) fn push(&mut self, mut bytes: &[u8], frames: &mut Vec<Frame>) -> Result<(), FrameError> {
        while let Some((&byte, rest)) = bytes.split_first() {
            match self.place {
                Place::Array => {
                    bytes = self.array.elements(bytes, frames)?;
                    if self.array.is_closed() {
                        self.leave();
                    }
                }
                Place::Name | Place::Skipped => bytes = self.inside(bytes)?,
                _ if is_space(byte) => bytes = rest,
                Place::First | Place::Next if byte == b'"' => self.begin(Place::Name, byte),
                Place::BeforeValue => self.member(byte)?,
                _ => {
                    self.separator(byte)?;
                    bytes = rest;
                }
            }
        }
        Ok(())
    }

    /// # Errors
    /// The document isn't complete.
    pub(super) fn finish(self) -> Result<(), FrameError> {
        if self.place == Place::AfterDocument { Ok(()) } else { Err(FrameError::CutShort) }
    }

    fn begin(&mut self, place: Place, byte: u8) {
        self.name.clear();
        (self.place, self.value) = (place, Value::beginning(byte));
    }

    /// Takes a part of a name or of what is skipped, and gives what is left.
    fn inside<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], FrameError> {
        let (count, has_ended) = self.value.take(bytes);
        let (taken, rest) = bytes.split_at(count);
        let after = match self.place {
            Place::Name => {
                extend(&mut self.name, taken, MAX_EVENT)?;
                Place::AfterName
            }
            _ => Place::AfterMember,
        };
        if has_ended {
            self.place = after;
        }
        Ok(rest)
    }

    /// A member's value begins with this byte, which isn't taken yet.
    fn member(&mut self, byte: u8) -> Result<(), FrameError> {
        if matches!(byte, b',' | b':' | b'}' | b']') {
            return Err(malformed("a member has no value"));
        }
        let wanted = self.path.get(self.entered).filter(|_| !self.is_found);
        let name: Option<String> = serde_json::from_slice(&self.name).ok();
        if wanted.is_none() || wanted != name.as_ref() {
            self.begin(Place::Skipped, byte);
            return Ok(());
        }
        self.entered += 1;
        self.is_found = self.entered == self.path.len();
        self.place = if self.is_found { Place::Array } else { Place::BeforeObject };
        Ok(())
    }

    fn separator(&mut self, byte: u8) -> Result<(), FrameError> {
        self.place = match (self.place, byte) {
            (Place::BeforeObject, b'{') => Place::First,
            (Place::AfterName, b':') => Place::BeforeValue,
            (Place::AfterMember, b',') => Place::Next,
            (Place::First | Place::AfterMember, b'}') => {
                self.leave();
                return Ok(());
            }
            (Place::BeforeObject, _) => return Err(malformed("what has the array is no object")),
            (Place::AfterDocument, _) => return Err(malformed("something follows the document")),
            _ => return Err(malformed("a member is missing")),
        };
        Ok(())
    }

    /// The object or the array on the way has ended.
    fn leave(&mut self) {
        self.place = if self.entered == 0 { Place::AfterDocument } else { Place::AfterMember };
        self.entered = self.entered.saturating_sub(1);
    }
}
