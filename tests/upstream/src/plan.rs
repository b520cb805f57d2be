//! An answer and a fault become a list of steps: every byte that will be written, and what happens between them.
//! Deciding it all beforehand is what makes "after exactly K bytes" exact.

use crate::{
    Fault, MalformedSse,
    answer::{Answer, Body, Event, Events},
    gzip::Gzip,
    sse,
};
use bytes::Bytes;
use std::time::Duration;

/// How long the halves of a character stay apart under `split-utf8`: enough that a reader sees the first alone.
const APART: Duration = Duration::from_millis(1);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Write these bytes and flush.
    Send(Bytes),
    /// Wait.
    Pause(Duration),
    /// Keep the connection open and silent until the client leaves.
    Hang,
    /// RST.
    Reset,
    /// FIN.
    Close,
}

/// Every step of the response.
pub(crate) fn plan(answer: Answer, fault: &Fault) -> Vec<Step> {
    let mut steps = Vec::new();
    if fault.refuse {
        return vec![Step::Close];
    }
    steps.extend(fault.slow_head.map(Step::Pause));
    if fault.hang_head {
        steps.push(Step::Hang);
        return steps;
    }
    let Answer { status, headers, body } = answer;
    let head = |framing: &str, content_type: &str| head(status, &headers, fault, content_type, framing);
    let head_length = match body {
        Body::Whole(body) => {
            let body = whole(body, fault);
            let head = head(&format!("content-length: {}\r\n", body.len()), "application/json");
            let length = head.len();
            match fault.chunk {
                None => steps.push(Step::Send([head, body].concat().into())),
                Some(size) => {
                    steps.push(Step::Send(head.into()));
                    steps.extend(cut_up(body.into(), size.get()).map(Step::Send));
                }
            }
            length
        }
        Body::Events(events) => {
            let framing = "transfer-encoding: chunked\r\ncache-control: no-cache\r\n";
            let head = head(framing, "text/event-stream; charset=utf-8");
            let length = head.len();
            steps.push(Step::Send(head.into()));
            steps.extend(stream(events, fault));
            length
        }
    };
    if let Some(at) = fault.close_at {
        cut(&mut steps, head_length + at, Step::Close);
    }
    if let Some(at) = fault.reset_at {
        cut(&mut steps, at, Step::Reset);
    }
    steps
}

fn head(
    status: u16,
    headers: &[(&str, String)],
    fault: &Fault,
    content_type: &str,
    framing: &str,
) -> Vec<u8> {
    let content_type = if fault.wrong_content_type { "text/plain; charset=utf-8" } else { content_type };
    let encoding = if fault.gzip { "content-encoding: gzip\r\n" } else { "" };
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let reason = reason(status);
    format!("HTTP/1.1 {status} {reason}\r\ncontent-type: {content_type}\r\n{framing}{encoding}{headers}\r\n")
        .into()
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        // RFC 9112 §4: the reason may be empty, and clients ignore it.
        _ => "",
    }
}

fn whole(mut body: Vec<u8>, fault: &Fault) -> Vec<u8> {
    if fault.truncated_json {
        body.truncate(body.len() / 2);
    }
    if fault.gzip {
        let mut gzip = Gzip::new();
        return [gzip.push(&body), gzip.finish()].concat();
    }
    body
}

/// The body of a stream: its events as HTTP chunks, and the end.
fn stream(events: Events, fault: &Fault) -> Vec<Step> {
    let (payload, end) = payload(events, fault);
    let mut gzip = fault.gzip.then(Gzip::new);
    let mut steps = Vec::new();
    let send = |steps: &mut Vec<Step>, bytes: Bytes| {
        let size = fault.chunk.map_or(usize::MAX, |size| size.get());
        steps.extend(cut_up(bytes, size).map(|piece| {
            Step::Send([format!("{:x}\r\n", piece.len()).as_bytes(), &piece, b"\r\n"].concat().into())
        }));
    };
    for step in payload {
        match step {
            Step::Send(bytes) => {
                let bytes = gzip.as_mut().map_or_else(|| bytes.clone(), |gzip| gzip.push(&bytes).into());
                send(&mut steps, bytes);
            }
            other => steps.push(other),
        }
    }
    if end == Step::Hang {
        steps.push(end);
        return steps;
    }
    if let Some(gzip) = gzip {
        send(&mut steps, gzip.finish().into());
    }
    steps.push(end);
    steps
}

/// What the stream says, before any encoding, and how it ends.
fn payload(events: Events, fault: &Fault) -> (Vec<Step>, Step) {
    let (events, end) = choose(events, fault);
    let kind = fault.malformed_sse;
    let mut steps = Vec::new();
    for (index, event) in events.iter().enumerate() {
        if index > 0 {
            steps.extend(fault.delay.map(Step::Pause));
        }
        let mut pieces = sse::render(event, kind);
        match (index, kind) {
            (0, Some(MalformedSse::Bom)) => pieces.insert(0, sse::BYTE_ORDER_MARK),
            (0, Some(MalformedSse::CommentFlood)) => pieces.push(sse::flood()),
            _ => {}
        }
        for (index, piece) in pieces.into_iter().enumerate() {
            if index > 0 && kind == Some(MalformedSse::SplitUtf8) {
                steps.push(Step::Pause(APART));
            }
            steps.push(Step::Send(piece));
        }
    }
    (steps, end)
}

/// Which events there are, and what comes after the last one.
fn choose(events: Events, fault: &Fault) -> (Vec<Event>, Step) {
    let Events { mut events, error, content } = events;
    let end = Step::Send(Bytes::from_static(b"0\r\n\r\n"));
    if fault.empty_stream {
        return (Vec::new(), end);
    }
    if fault.malformed_sse == Some(MalformedSse::AfterDone) {
        events.extend(events.get(content.start).cloned());
    }
    if fault.truncated_json
        && let Some(last) = content.last()
    {
        events.truncate(last + 1);
        if let Some(event) = events.last_mut() {
            let half = event.data.floor_char_boundary(event.data.len() / 2);
            event.data.truncate(half);
        }
    }
    if let Some(after) = fault.error_in_stream {
        events.truncate(after);
        events.push(error);
    }
    if let Some(after) = fault.stall_after {
        events.truncate(after);
        return (events, Step::Hang);
    }
    (events, end)
}

fn cut_up(mut bytes: Bytes, size: usize) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || {
        let piece = bytes.split_to(size.min(bytes.len()));
        (!piece.is_empty()).then_some(piece)
    })
}

/// Keeps the first `at` bytes and puts `end` behind them; a plan that has fewer keeps them all.
fn cut(steps: &mut Vec<Step>, mut at: usize, end: Step) {
    for step in std::mem::take(steps) {
        match step {
            Step::Send(bytes) if bytes.len() >= at => {
                if at > 0 {
                    steps.push(Step::Send(bytes.slice(..at)));
                }
                break;
            }
            Step::Send(bytes) => {
                at -= bytes.len();
                steps.push(Step::Send(bytes));
            }
            pause @ Step::Pause(_) => steps.push(pause),
            // An earlier ending stands.
            earlier => return steps.push(earlier),
        }
    }
    steps.push(end);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(fault: &str) -> Vec<Step> {
        plan(Answer::json("0123456789"), &fault.parse().unwrap())
    }

    #[test]
    fn a_whole_body_is_written_at_once_or_in_pieces() {
        assert_eq!(planned("").len(), 1);
        let pieces = planned("chunk=4");
        let sizes = pieces[1..].iter().map(|step| matches!(step, Step::Send(bytes) if bytes.len() <= 4));
        assert_eq!(sizes.collect::<Vec<_>>(), [true; 3]);
    }

    #[test]
    fn the_earlier_ending_wins() {
        assert_eq!(planned("refuse;hang-head;slow-head=1"), [Step::Close]);
        assert_eq!(planned("slow-head=1;hang-head"), [Step::Pause(Duration::from_millis(1)), Step::Hang]);
        assert_eq!(planned("reset-at=5;close-at=5")[1], Step::Reset);
        assert_eq!(planned("reset-at=500;close-at=5")[1], Step::Close);
        assert_eq!(planned("slow-head=1;reset-at=0"), [Step::Pause(Duration::from_millis(1)), Step::Reset]);
    }
}
