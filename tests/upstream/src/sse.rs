//! Events as bytes, well-formed or as `malformed-sse` wants them (WHATWG HTML, "Server-sent events", §9.2.5).

use crate::{MalformedSse, answer::Event};
use bytes::{BufMut, Bytes, BytesMut};

/// How many comments `comment-flood` sends.
const FLOOD: usize = 10_000;

/// One event's bytes; more than one piece only where the pieces must not arrive together.
pub(crate) fn render(event: &Event, kind: Option<MalformedSse>) -> Vec<Bytes> {
    let line_end = match kind {
        Some(MalformedSse::Crlf) => "\r\n",
        Some(MalformedSse::Cr) => "\r",
        _ => "\n",
    };
    let colon = if kind == Some(MalformedSse::NoSpace) { ":" } else { ": " };
    let mut bytes = BytesMut::with_capacity(event.data.len() + 64);
    let mut line = |field: &str, value: &str| {
        for part in [field, colon, value, line_end] {
            bytes.put_slice(part.as_bytes());
        }
    };
    if let Some(name) = event.name {
        line("event", name);
    }
    line("data", &event.data);
    if kind != Some(MalformedSse::MissingBlankLine) {
        bytes.put_slice(line_end.as_bytes());
    }
    let bytes = bytes.freeze();
    if kind == Some(MalformedSse::SplitUtf8) { split_characters(bytes) } else { vec![bytes] }
}

/// What `bom` puts in front of the first event.
pub(crate) const BYTE_ORDER_MARK: Bytes = Bytes::from_static("\u{feff}".as_bytes());

/// What `comment-flood` puts after the first event.
pub(crate) fn flood() -> Bytes {
    ": flood\n\n".repeat(FLOOD).into()
}

/// Cuts after the first byte of every character that has more than one.
fn split_characters(mut bytes: Bytes) -> Vec<Bytes> {
    let mut pieces = Vec::new();
    while let Some(lead) = bytes.iter().position(|byte| *byte >= 0xc0) {
        pieces.push(bytes.split_to(lead + 1));
    }
    pieces.push(bytes);
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(kind: MalformedSse) -> String {
        let event = Event { name: Some("ping"), data: "é{}".into() };
        String::from_utf8(render(&event, Some(kind)).concat()).unwrap()
    }

    #[test]
    fn each_kind_departs_in_its_own_way() {
        assert_eq!(rendered(MalformedSse::AfterDone), "event: ping\ndata: é{}\n\n");
        assert_eq!(rendered(MalformedSse::MissingBlankLine), "event: ping\ndata: é{}\n");
        assert_eq!(rendered(MalformedSse::Crlf), "event: ping\r\ndata: é{}\r\n\r\n");
        assert_eq!(rendered(MalformedSse::Cr), "event: ping\rdata: é{}\r\r");
        assert_eq!(rendered(MalformedSse::NoSpace), "event:ping\ndata:é{}\n\n");
    }

    #[test]
    fn every_border_of_split_utf8_is_inside_a_character() {
        let event = Event { name: None, data: "é漢🙂".into() };
        let pieces = render(&event, Some(MalformedSse::SplitUtf8));
        assert_eq!(pieces.concat(), "data: é漢🙂\n\n".as_bytes());
        assert_eq!(pieces.len(), 4);
        assert!(pieces.iter().all(|piece| std::str::from_utf8(piece).is_err()));
    }
}
