//! Cuts an answer's bytes into frames, however they arrive.
//!
//! `whole`: the complete body is one frame, at most 16 MiB. `sse`: server-sent events as WHATWG HTML parses them (any
//! of the three line ends, a byte order mark skipped, comments dropped, an event without its blank line dropped), each
//! at most 1 MiB. `ndjson`: one document a line, at most 1 MiB. The same bytes give the same frames, wherever they are
//! split: the property is tested.

use crate::exchange::Frame;

/// The largest body that is taken as one frame.
pub const MAX_WHOLE: usize = 16 << 20;
/// The largest event or line.
pub const MAX_EVENT: usize = 1 << 20;

/// One answer's framing so far.
#[derive(Debug)]
pub struct Framer(Kind);

#[derive(Debug)]
enum Kind {
    Whole(Vec<u8>),
    Sse(Sse),
    Ndjson(Vec<u8>),
}

/// An answer that is larger than a frame may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a piece of the answer is larger than {} MiB", .0 >> 20)]
pub struct FrameTooLarge(pub usize);

#[derive(Debug, Default)]
struct Sse {
    line: Vec<u8>,
    after_return: bool,
    past_first_line: bool,
    event: String,
    data: Vec<u8>,
    any_data: bool,
}

impl Framer {
    /// By the name that a plugin gives; `None` when this host doesn't know it.
    pub fn new(framing: &str) -> Option<Self> {
        Some(Self(match framing {
            "whole" => Kind::Whole(Vec::new()),
            "sse" => Kind::Sse(Sse::default()),
            "ndjson" => Kind::Ndjson(Vec::new()),
            _ => return None,
        }))
    }

    /// The frames that these bytes complete.
    ///
    /// # Errors
    /// A frame would be too large; the answer is of no more use.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Frame>, FrameTooLarge> {
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
        }
        Ok(frames)
    }

    /// The frame that the end of the answer completes.
    pub fn finish(self) -> Option<Frame> {
        match self.0 {
            Kind::Whole(body) | Kind::Ndjson(body) => document(body),
            Kind::Sse(_) => None,
        }
    }
}

fn document(data: Vec<u8>) -> Option<Frame> {
    (!data.trim_ascii().is_empty()).then(|| Frame { event: String::new(), data })
}

fn extend(buffer: &mut Vec<u8>, bytes: &[u8], most: usize) -> Result<(), FrameTooLarge> {
    if buffer.len() + bytes.len() > most {
        return Err(FrameTooLarge(most));
    }
    buffer.extend_from_slice(bytes);
    Ok(())
}

impl Sse {
    fn push(&mut self, mut bytes: &[u8], frames: &mut Vec<Frame>) -> Result<(), FrameTooLarge> {
        loop {
            if self.after_return && !bytes.is_empty() {
                bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
                self.after_return = false;
            }
            let end = bytes.iter().position(|&byte| byte == b'\n' || byte == b'\r');
            let (line, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
            extend(&mut self.line, line, MAX_EVENT)?;
            let Some((&last, rest)) = rest.split_first() else { return Ok(()) };
            self.after_return = last == b'\r';
            bytes = rest;
            let line = std::mem::take(&mut self.line);
            frames.extend(self.line(&line)?);
        }
    }

    fn line(&mut self, line: &[u8]) -> Result<Option<Frame>, FrameTooLarge> {
        let first = !std::mem::replace(&mut self.past_first_line, true);
        let line = line.strip_prefix(b"\xef\xbb\xbf").filter(|_| first).unwrap_or(line);
        if line.is_empty() {
            let (event, data) = (std::mem::take(&mut self.event), std::mem::take(&mut self.data));
            return Ok(std::mem::take(&mut self.any_data).then_some(Frame { event, data }));
        }
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, value) = line.split_at(colon);
        let value = value.strip_prefix(b":").unwrap_or(value);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match name {
            b"event" => self.event = String::from_utf8_lossy(value).into_owned(),
            b"data" => {
                if std::mem::replace(&mut self.any_data, true) {
                    self.data.push(b'\n');
                }
                extend(&mut self.data, value, MAX_EVENT)?;
            }
            _ => {}
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(framing: &str, text: &[u8], size: usize) -> Vec<Frame> {
        let mut framer = Framer::new(framing).unwrap();
        let mut frames: Vec<Frame> =
            text.chunks(size).flat_map(|piece| framer.push(piece).unwrap()).collect();
        frames.extend(framer.finish());
        frames
    }

    #[test]
    fn events_are_cut_by_the_standard_wherever_the_bytes_are_split() {
        let text = "\u{feff}event: a\ndata: 1\ndata:2é\n\n: comment\r\ndata: 3\r\n\r\nevent: none\n\ndata: 4\r\rdata: cut";
        let expected = [("a", "1\n2é"), ("", "3"), ("", "4")];
        for size in 1..=text.len() {
            let seen = frames("sse", text.as_bytes(), size);
            let seen: Vec<_> =
                seen.iter().map(|f| (f.event.as_str(), std::str::from_utf8(&f.data).unwrap())).collect();
            assert_eq!(seen, expected, "pieces of {size}");
        }
    }

    #[test]
    fn lines_and_wholes_too() {
        for size in 1..20 {
            assert_eq!(frames("ndjson", b"{\"a\":1}\n\n{\"b\":2}", size).len(), 2);
            assert_eq!(frames("whole", b"{\"a\":\n1}", size).len(), 1);
        }
        assert!(Framer::new("carrier-pigeon").is_none());
    }

    #[test]
    fn what_is_too_large_is_refused() {
        let mut framer = Framer::new("sse").unwrap();
        let piece = vec![b'x'; MAX_EVENT / 2];
        framer.push(&piece).unwrap();
        framer.push(&piece).unwrap();
        assert_eq!(framer.push(b"x"), Err(FrameTooLarge(MAX_EVENT)));
    }
}
