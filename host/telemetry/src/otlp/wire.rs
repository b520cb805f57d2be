//! Protocol Buffers' wire format, as much of it as OTLP needs.
//!
//! A reader of its own rather than generated messages: it borrows instead of copying, a broken span costs only itself
//! (a generated decoder refuses the whole request), and nothing is allocated for what a few bytes only claim to hold.
//! Source: the [encoding's description](https://protobuf.dev/programming-guides/encoding/).

/// Bytes that aren't a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    /// It ends in the middle of a field.
    #[error("it ends in the middle of a field")]
    CutOff,
    /// A number with more than ten bytes, or a field number outside of 1 to 2^29 - 1.
    #[error("a number is too large")]
    Number,
    /// A wire type that proto3 doesn't have (groups, and the two that don't exist).
    #[error("a field has an unknown wire type")]
    WireType,
    /// A text that isn't UTF-8.
    #[error("a text isn't UTF-8")]
    Utf8,
}

/// A field's value, still to be understood.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Field<'a> {
    /// Wire type 0: integers, booleans, enums.
    Varint(u64),
    /// Wire type 1: `fixed64`, `double`.
    Fixed64(u64),
    /// Wire type 2: texts, bytes, messages.
    Bytes(&'a [u8]),
    /// Wire type 5: `fixed32`.
    Fixed32(u32),
}

impl<'a> Field<'a> {
    /// The bytes of a text or message; another wire type counts as an unknown field, as the format says.
    pub(super) const fn bytes(self) -> Option<&'a [u8]> {
        if let Self::Bytes(bytes) = self { Some(bytes) } else { None }
    }

    pub(super) const fn varint(self) -> Option<u64> {
        if let Self::Varint(number) = self { Some(number) } else { None }
    }

    pub(super) const fn fixed64(self) -> Option<u64> {
        if let Self::Fixed64(number) = self { Some(number) } else { None }
    }

    pub(super) fn text(self) -> Result<Option<&'a str>, Malformed> {
        self.bytes().map(|bytes| std::str::from_utf8(bytes).map_err(|_| Malformed::Utf8)).transpose()
    }
}

/// Reads a message's fields, in the order in which they come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a>(&'a [u8]);

impl<'a> Message<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next field's number and value; none at the end.
    pub(super) fn field(&mut self) -> Result<Option<(u32, Field<'a>)>, Malformed> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| Malformed::Number)?;
        if number == 0 || number >= 1 << 29 {
            return Err(Malformed::Number);
        }
        let value = match tag & 7 {
            0 => Field::Varint(self.varint()?),
            1 => Field::Fixed64(u64::from_le_bytes(self.fixed()?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Malformed::CutOff)?;
                let (bytes, rest) = self.0.split_at_checked(length).ok_or(Malformed::CutOff)?;
                self.0 = rest;
                Field::Bytes(bytes)
            }
            5 => Field::Fixed32(u32::from_le_bytes(self.fixed()?)),
            _ => return Err(Malformed::WireType),
        };
        Ok(Some((number, value)))
    }

    /// The next of packed integers; none at the end.
    pub(super) fn packed(&mut self) -> Result<Option<u64>, Malformed> {
        if self.0.is_empty() { Ok(None) } else { self.varint().map(Some) }
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut number = 0_u64;
        for shift in (0..70).step_by(7) {
            let (&byte, rest) = self.0.split_first().ok_or(Malformed::CutOff)?;
            self.0 = rest;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit.
            if shift == 63 && bits > 1 {
                return Err(Malformed::Number);
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Malformed::Number)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(Malformed::CutOff)?;
        self.0 = rest;
        Ok(*bytes)
    }
}

/// Writes a message. Fields with their default value are left out, as proto3 does.
#[derive(Debug, Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn integer(mut self, number: u32, value: u64) -> Self {
        if value != 0 {
            self.varint(u64::from(number) << 3);
            self.varint(value);
        }
        self
    }

    pub(super) fn bytes(mut self, number: u32, value: &[u8]) -> Self {
        if !value.is_empty() {
            self.varint(u64::from(number) << 3 | 2);
            self.varint(value.len() as u64);
            self.0.extend_from_slice(value);
        }
        self
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push((value & 0x7f) as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8]) -> Result<Vec<(u32, Field<'_>)>, Malformed> {
        let (mut message, mut fields) = (Message::new(bytes), Vec::new());
        while let Some(field) = message.field()? {
            fields.push(field);
        }
        Ok(fields)
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes =
            Writer::default().integer(1, 0).integer(2, 150).integer(536_870_911, u64::MAX).bytes(3, b"ab");
        assert_eq!(
            all(&bytes.finish()),
            Ok(vec![
                (2, Field::Varint(150)),
                (536_870_911, Field::Varint(u64::MAX)),
                (3, Field::Bytes(b"ab"))
            ])
        );
        assert_eq!(all(&[0x0d, 1, 0, 0, 0]), Ok(vec![(1, Field::Fixed32(1))]));
        assert_eq!(all(&[0x09, 2, 0, 0, 0, 0, 0, 0, 0]), Ok(vec![(1, Field::Fixed64(2))]));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for (bytes, why) in [
            (&[0x08][..], Malformed::CutOff),
            (&[0x0a, 5, 1], Malformed::CutOff),
            (&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], Malformed::CutOff),
            (&[0x09, 1, 2], Malformed::CutOff),
            (&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2], Malformed::Number),
            (&[0x00, 1], Malformed::Number),
            (&[0x0b], Malformed::WireType),
            (&[0x0f], Malformed::WireType),
        ] {
            assert_eq!(all(bytes), Err(why), "{bytes:?}");
        }
        assert_eq!(Field::Bytes(&[0xff]).text(), Err(Malformed::Utf8));
    }
}
