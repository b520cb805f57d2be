//! Cuts an answer's bytes into frames, however they arrive.
//!
//! | framing | a frame | at most |
//! |---|---|---|
//! | `whole` | the complete body | 16 MiB |
//! | `sse` | a server-sent event as WHATWG HTML parses it: any of the three line ends, a byte order mark skipped, comments dropped, an event without its blank line dropped | 1 MiB |
//! | `ndjson` | one document a line | 1 MiB |
//! | `json-array` | one element of the array that the body is ([`json_array`]) | 1 MiB |
//! | `json-array:POINTER` | one element of the array at this RFC 6901 pointer of the document ([`json_within`]) | 16 MiB |
//! | `aws-event-stream` | one message ([`event_stream`]) | 16 MiB |
//!
//! The same bytes give the same frames, wherever they are split: the property is tested. An array or a message that ends
//! before it is complete is an error; for the others the decoder has to know what a complete answer is.

mod event_stream;
mod json_array;
mod json_value;
mod json_within;
mod sse;
#[cfg(test)]
mod tests;

use crate::exchange::Frame;
use event_stream::EventStream;
use json_array::JsonArray;
use json_within::JsonWithin;
use sse::Sse;

/// The largest body that is taken as one frame, the largest message of an AWS event stream, and the largest element of an array
/// inside of a document.
pub const MAX_WHOLE: usize = 16 << 20;
/// The largest event, line or element of an array that is the whole body.
pub const MAX_EVENT: usize = 1 << 20;

/// One answer's framing so far.
#[derive(Debug)]
pub struct Framer(Kind);

#[derive(Debug)]
enum Kind {
    Whole(Vec<u8>),
    Sse(Sse),
    Ndjson(Vec<u8>),
    JsonArray(JsonArray),
    JsonWithin(Box<JsonWithin>),
    EventStream(EventStream),
}

/// An answer that can't be cut into frames. It is of no more use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A frame is larger than this many bytes.
    #[error("a piece of the answer is larger than {} MiB", .0 >> 20)]
    TooLarge(usize),
    /// It isn't what the framing says.
    #[error("it isn't framed as '{framing}': {reason}")]
    Malformed {
        /// The framing that the plugin named.
        framing: &'static str,
        /// What is wrong.
        reason: &'static str,
    },
    /// It ended in the middle.
    #[error("it was cut short")]
    CutShort,
}

impl Framer {
    /// By the name that a plugin gives; `None` when this host doesn't know it.
    pub fn new(framing: &str) -> Option<Self> {
        Some(Self(match framing {
            "whole" => Kind::Whole(Vec::new()),
            "sse" => Kind::Sse(Sse::default()),
            "ndjson" => Kind::Ndjson(Vec::new()),
            "json-array" => Kind::JsonArray(JsonArray::new(MAX_EVENT)),
            "aws-event-stream" => Kind::EventStream(EventStream::default()),
            _ => {
                let pointer = framing.strip_prefix("json-array:")?;
                Kind::JsonWithin(Box::new(JsonWithin::new(pointer, MAX_WHOLE)?))
            }
        }))
    }

    /// The frames that these bytes complete.
    ///
    /// # Errors
    /// The answer is of no more use.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Frame>, FrameError> {
        let mut frames = Vec::new();
        match &mut self.0 {
            Kind::Whole(body) => extend(body, bytes, MAX_WHOLE)?,
            Kind::Sse(sse) => sse.push(bytes, &mut frames)?,
            Kind::Ndjson(line) => {
                let mut pieces = bytes.split(|&byte| byte == b'\n');
                extend(line, pieces.next().unwrap_or_default(), MAX_EVENT)?;
                for piece in pieces {
                    frames.extend(document(std::mem::take(line)));
                    extend(line, piece, MAX_EVENT)?;
                }
            }
            Kind::JsonArray(array) => array.push(bytes, &mut frames)?,
            Kind::JsonWithin(document) => document.push(bytes, &mut frames)?,
            Kind::EventStream(stream) => stream.push(bytes, &mut frames)?,
        }
        Ok(frames)
    }

    /// How many of an array's bytes so far follow its last whole element; none once it is closed. What comes before them
    /// can be handed on, and another element or the end can still follow. 0 for other framings.
    pub fn unfinished(&self) -> usize {
        match &self.0 {
            Kind::JsonArray(array) => array.unfinished(),
            _ => 0,
        }
    }

    /// The frame that the end of the answer completes.
    ///
    /// # Errors
    /// An array or a message isn't complete.
    pub fn finish(self) -> Result<Option<Frame>, FrameError> {
        match self.0 {
            Kind::Whole(body) | Kind::Ndjson(body) => Ok(document(body)),
            Kind::Sse(_) => Ok(None),
            Kind::JsonArray(array) => array.finish().map(|()| None),
            Kind::JsonWithin(document) => document.finish().map(|()| None),
            Kind::EventStream(stream) => stream.finish().map(|()| None),
        }
    }
}

fn document(data: Vec<u8>) -> Option<Frame> {
    (!data.trim_ascii().is_empty()).then(|| Frame { event: String::new(), data })
}

fn extend(buffer: &mut Vec<u8>, bytes: &[u8], most: usize) -> Result<(), FrameError> {
    if buffer.len() + bytes.len() > most {
        return Err(FrameError::TooLarge(most));
    }
    buffer.extend_from_slice(bytes);
    Ok(())
}
