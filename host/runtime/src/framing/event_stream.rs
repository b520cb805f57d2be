//! `application/vnd.amazon.eventstream`: messages with a prelude, typed headers, a payload and two checksums, as AWS
//! documents them ("Event stream encoding", and the Smithy specification "Amazon Event Stream").
//!
//! ```text
//! total length u32 | headers' length u32 | CRC-32 of both u32 | headers | payload | CRC-32 of all before it u32
//! ```
//!
//! Big-endian throughout. Both checksums are verified, the first one before the length is believed. A message is at most
//! 16 MiB, its headers at most 128 KiB. A header that isn't of one of the ten types, and a message that is neither event
//! nor exception nor error, are errors.
//!
//! | `:message-type` | `frame.event` | `frame.data` |
//! |---|---|---|
//! | `event`, or none | `:event-type` | the payload |
//! | `exception` | `:exception-type` (`throttlingException`) | the payload: JSON with a `message`, as a rule |
//! | `error` | `:error-code` | the payload; where there is none, `{"message": …}` of `:error-message` |
//!
//! The vendor's model gives events and exceptions different names, so the name tells a decoder which one it is. One
//! without a name is called `exception` or `error`.

use super::{FrameError, MAX_WHOLE};
use crate::exchange::Frame;

const PRELUDE: usize = 12;
const CHECKSUM: usize = 4;
const MAX_HEADERS: usize = 128 << 10;

#[derive(Debug, Default)]
pub(super) struct EventStream {
    buffer: Vec<u8>,
}

impl EventStream {
    pub(super) fn push(&mut self, bytes: &[u8], frames: &mut Vec<Frame>) -> Result<(), FrameError> {
        self.buffer.extend_from_slice(bytes);
        let mut at = 0;
        while let Some(length) = complete(self.buffer.get(at..).unwrap_or_default())? {
            let message = self.buffer.get(at..at + length).unwrap_or_default();
            frames.push(frame(message)?);
            at += length;
        }
        self.buffer.drain(..at);
        Ok(())
    }

    /// # Errors
    /// A message isn't complete.
    pub(super) fn finish(self) -> Result<(), FrameError> {
        if self.buffer.is_empty() { Ok(()) } else { Err(FrameError::CutShort) }
    }
}

/// The length of the message that these bytes begin with, once it is all there.
fn complete(bytes: &[u8]) -> Result<Option<usize>, FrameError> {
    let Some(prelude) = bytes.first_chunk::<PRELUDE>() else { return Ok(None) };
    let (lengths, checksum) = prelude.split_at(PRELUDE - CHECKSUM);
    if crc32fast::hash(lengths) != number(checksum) {
        return Err(malformed("the checksum of a message's prelude is wrong"));
    }
    let (total, headers) = lengths.split_at(4);
    let (total, headers) = (number(total) as usize, number(headers) as usize);
    if total > MAX_WHOLE {
        return Err(FrameError::TooLarge(MAX_WHOLE));
    }
    if headers > MAX_HEADERS || total < PRELUDE + headers + CHECKSUM {
        return Err(malformed("a message's lengths don't fit each other"));
    }
    Ok((bytes.len() >= total).then_some(total))
}

/// What a whole message says.
fn frame(message: &[u8]) -> Result<Frame, FrameError> {
    let (signed, checksum) = message.split_at(message.len().saturating_sub(CHECKSUM));
    if crc32fast::hash(signed) != number(checksum) {
        return Err(malformed("a message's checksum is wrong"));
    }
    let length = signed.get(4..8).map_or(0, number) as usize;
    let (headers, payload) = signed
        .get(PRELUDE..)
        .unwrap_or_default()
        .split_at_checked(length)
        .ok_or_else(|| malformed("a message's lengths don't fit each other"))?;
    let told = Told::read(headers)?;
    let (event, data) = match told.message_type {
        None | Some("event") => (told.event_type.unwrap_or_default(), payload.to_vec()),
        Some("exception") => (told.exception_type.unwrap_or("exception"), payload.to_vec()),
        Some("error") => {
            let message = told.error_message.filter(|_| payload.is_empty());
            let data = message.map(|text| serde_json::json!({ "message": text }).to_string().into_bytes());
            (told.error_code.unwrap_or("error"), data.unwrap_or_else(|| payload.to_vec()))
        }
        Some(_) => return Err(malformed("a message is of an unknown type")),
    };
    Ok(Frame { event: event.to_owned(), data })
}

/// The headers that matter here.
#[derive(Default)]
struct Told<'a> {
    message_type: Option<&'a str>,
    event_type: Option<&'a str>,
    exception_type: Option<&'a str>,
    error_code: Option<&'a str>,
    error_message: Option<&'a str>,
}

impl<'a> Told<'a> {
    fn read(headers: &'a [u8]) -> Result<Self, FrameError> {
        let mut told = Self::default();
        let mut rest = headers;
        while !rest.is_empty() {
            let header = header(&mut rest);
            let (name, value) = header.ok_or_else(|| malformed("a message's headers can't be read"))?;
            match name {
                ":message-type" => told.message_type = value,
                ":event-type" => told.event_type = value,
                ":exception-type" => told.exception_type = value,
                ":error-code" => told.error_code = value,
                ":error-message" => told.error_message = value,
                _ => {}
            }
        }
        Ok(told)
    }
}

/// Takes one header; its value where it is a string.
fn header<'a>(rest: &mut &'a [u8]) -> Option<(&'a str, Option<&'a str>)> {
    let length = take(rest, 1)?.first().copied().filter(|&length| length > 0)?;
    let name = std::str::from_utf8(take(rest, length.into())?).ok()?;
    let kind = *take(rest, 1)?.first()?;
    let size = match kind {
        // True, false.
        0 | 1 => 0,
        // Byte, short, integer, long.
        2 => 1,
        3 => 2,
        4 => 4,
        5 => 8,
        // Bytes, string.
        6 | 7 => take(rest, 2)?.try_into().map(u16::from_be_bytes).ok()?.into(),
        // Timestamp, UUID.
        8 => 8,
        9 => 16,
        _ => return None,
    };
    let value = take(rest, size)?;
    let text = (kind == 7).then(|| std::str::from_utf8(value)).transpose().ok()?;
    Some((name, text))
}

fn take<'a>(rest: &mut &'a [u8], size: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(size)?;
    *rest = left;
    Some(taken)
}

fn number(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |number, &byte| number << 8 | u32::from(byte))
}

fn malformed(reason: &'static str) -> FrameError {
    FrameError::Malformed { framing: "aws-event-stream", reason }
}
