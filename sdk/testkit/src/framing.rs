//! Cuts a recorded answer into frames, as the host does: `whole`, `sse` (WHATWG HTML, server-sent
//! events: any of the three line ends, a byte order mark skipped, comments dropped, an event
//! without its blank line dropped) and `ndjson`.

use brokle_runtime::exchange::Frame;

/// One answer's framing so far.
pub(crate) enum Framer {
    Whole(Vec<u8>),
    Sse(Sse),
    Ndjson(Vec<u8>),
}

#[derive(Default)]
pub(crate) struct Sse {
    line: Vec<u8>,
    after_return: bool,
    past_first_line: bool,
    event: String,
    data: Vec<u8>,
    any_data: bool,
}

impl Framer {
    /// None for a framing that recordings can't be played in.
    pub(crate) fn new(framing: &str) -> Option<Self> {
        match framing {
            "whole" => Some(Self::Whole(Vec::new())),
            "sse" => Some(Self::Sse(Sse::default())),
            "ndjson" => Some(Self::Ndjson(Vec::new())),
            _ => None,
        }
    }

    /// The frames that these bytes complete.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<Frame> {
        let mut frames = Vec::new();
        match self {
            Self::Whole(body) => body.extend_from_slice(bytes),
            Self::Sse(sse) => bytes.iter().for_each(|byte| frames.extend(sse.byte(*byte))),
            Self::Ndjson(line) => {
                for byte in bytes {
                    match byte {
                        b'\n' => frames.extend(document(std::mem::take(line))),
                        _ => line.push(*byte),
                    }
                }
            }
        }
        frames
    }

    /// The frame that the end of the answer completes.
    pub(crate) fn finish(self) -> Option<Frame> {
        match self {
            Self::Whole(body) | Self::Ndjson(body) => document(body),
            Self::Sse(_) => None,
        }
    }
}

fn document(data: Vec<u8>) -> Option<Frame> {
    (!data.trim_ascii().is_empty()).then(|| Frame { event: String::new(), data })
}

impl Sse {
    fn byte(&mut self, byte: u8) -> Option<Frame> {
        let second_of_two = std::mem::replace(&mut self.after_return, byte == b'\r') && byte == b'\n';
        match byte {
            b'\n' if second_of_two => None,
            b'\n' | b'\r' => self.line(),
            _ => {
                self.line.push(byte);
                None
            }
        }
    }

    fn line(&mut self) -> Option<Frame> {
        let line = std::mem::take(&mut self.line);
        let first = !std::mem::replace(&mut self.past_first_line, true);
        let line = line.strip_prefix(b"\xef\xbb\xbf").filter(|_| first).unwrap_or(&line);
        if line.is_empty() {
            let (event, data) = (std::mem::take(&mut self.event), std::mem::take(&mut self.data));
            return std::mem::take(&mut self.any_data).then_some(Frame { event, data });
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
                self.data.extend_from_slice(value);
            }
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_cut_by_the_standard() {
        let text = "\u{feff}event: a\ndata: 1\ndata:2\n\n: comment\r\ndata: 3\r\n\r\nevent: none\n\ndata: 4\r\rdata: cut";
        let mut framer = Framer::new("sse").unwrap();
        let frames = framer.push(text.as_bytes());
        let seen: Vec<_> = frames.iter().map(|frame| (frame.event.as_str(), frame.data.as_slice())).collect();
        assert_eq!(seen, [("a", &b"1\n2"[..]), ("", b"3"), ("", b"4")]);
        assert!(framer.finish().is_none());
    }
}
