//! Server-sent events, as WHATWG HTML parses them.

use super::{FrameError, MAX_EVENT, extend};
use crate::exchange::Frame;

#[derive(Debug, Default)]
pub(super) struct Sse {
    line: Vec<u8>,
    after_return: bool,
    past_first_line: bool,
    event: String,
    data: Vec<u8>,
    any_data: bool,
}

impl Sse {
    pub(super) fn push(&mut self, mut bytes: &[u8], frames: &mut Vec<Frame>) -> Result<(), FrameError> {
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

    fn line(&mut self, line: &[u8]) -> Result<Option<Frame>, FrameError> {
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
