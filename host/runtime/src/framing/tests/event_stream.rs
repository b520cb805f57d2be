//! The messages that AWS's software development kits are tested with, and messages of our own.

use proptest::prelude::*;

use super::*;

const STREAM: &str = "aws-event-stream";
const TEXT: &str = "{'foo':'bar'}";

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16).unwrap()).collect()
}

#[test]
fn the_published_messages_are_read() {
    for (name, hex, data) in [
        ("empty_message", "000000100000000005c248eb7d98c8ff", ""),
        ("payload_no_headers", "0000001d00000000fd528c5a7b27666f6f273a27626172277dc3653936", TEXT),
        (
            "payload_one_str_header",
            "0000003d0000002007fd83960c636f6e74656e742d747970650700106170706c69636174696f6e2f6a736f6e7b27666f6f273a27626172277d8d9c08b1",
            TEXT,
        ),
        (
            "int32_header",
            "0000002d0000001041c424b80a6576656e742d74797065040000a00c7b27666f6f273a27626172277d36f480a0",
            TEXT,
        ),
        (
            "another int32_header",
            "0000002b0000000e348bec7b086576656e742d6964040000a00c7b27666f6f273a27626172277dd3890285",
            TEXT,
        ),
    ] {
        let message = bytes(hex);
        let read = frames(STREAM, &message, message.len());
        assert_eq!(seen(&read), [("", data)], "{name}");
        everywhere(STREAM, &message, &read);
    }
}

#[test]
fn the_published_corruptions_are_refused() {
    for (name, hex) in [
        (
            "corrupted_headers",
            "0000003d0000002007fd83960c636f6e74656e742b747970650700106170706c69636174696f6e2f6a736f6e7b27666f6f273a27626172277d8d9c08b1",
        ),
        (
            "corrupted_header_len",
            "0000003d0000012007fd83960c636f6e74656e742d747970650700106170706c69636174696f6e2f6a736f6e7b27666f6f273a27626172277d8d9c08b1",
        ),
        ("corrupted_length", "0100001d00000000fd528c5a7b27666f6f273a27626172277dc3653936"),
        ("corrupted_payload", "0000001d00000000fd528c5a7b27666f6f273a27626172278dc3653936"),
    ] {
        let error = cut(STREAM, &bytes(hex), 7).unwrap_err();
        assert!(matches!(error, FrameError::Malformed { framing: STREAM, .. }), "{name}: {error}");
    }
}

/// A header as it is sent: name, type, value.
type Header = (String, u8, Vec<u8>);

fn text(name: &str, value: &str) -> Header {
    let length = u16::try_from(value.len()).unwrap().to_be_bytes();
    (name.to_owned(), 7, [&length[..], value.as_bytes()].concat())
}

fn message(headers: &[Header], payload: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    for (name, kind, value) in headers {
        packed.push(u8::try_from(name.len()).unwrap());
        packed.extend_from_slice(name.as_bytes());
        packed.push(*kind);
        packed.extend_from_slice(value);
    }
    let number = |number: usize| u32::try_from(number).unwrap().to_be_bytes();
    let mut message = [number(16 + packed.len() + payload.len()), number(packed.len())].concat();
    message.extend(crc32fast::hash(&message).to_be_bytes());
    message.extend(packed);
    message.extend_from_slice(payload);
    message.extend(crc32fast::hash(&message).to_be_bytes());
    message
}

/// One header of each type that isn't a string.
fn others() -> Vec<Header> {
    let value = |kind: u8| match kind {
        0 | 1 => 0,
        2 => 1,
        3 => 2,
        4 => 4,
        5 | 8 => 8,
        _ => 16,
    };
    let mut headers: Vec<Header> =
        [0, 1, 2, 3, 4, 5, 8, 9].map(|kind| (format!("h{kind}"), kind, vec![7; value(kind)])).into();
    headers.push(("bytes".into(), 6, vec![0, 3, 1, 2, 3]));
    headers
}

#[test]
fn events_exceptions_and_errors_are_told_by_their_names() {
    let event = |kind: &str, name: &str, value: &str, payload: &str| {
        let mut headers = others();
        headers.extend([
            text(":message-type", kind),
            text(name, value),
            text(":content-type", "application/json"),
        ]);
        message(&headers, payload.as_bytes())
    };
    let failure = [
        text(":message-type", "error"),
        text(":error-code", "InternalError"),
        text(":error-message", "a \"b\""),
    ];
    let stream = [
        event("event", ":event-type", "messageStart", r#"{"role":"assistant"}"#),
        event("exception", ":exception-type", "throttlingException", r#"{"message":"slow"}"#),
        message(&failure, b""),
        message(&[text(":message-type", "exception")], b"{}"),
        message(&[text(":message-type", "error")], b""),
    ]
    .concat();
    let read = frames(STREAM, &stream, stream.len());
    assert_eq!(
        seen(&read),
        [
            ("messageStart", r#"{"role":"assistant"}"#),
            ("throttlingException", r#"{"message":"slow"}"#),
            ("InternalError", r#"{"message":"a \"b\""}"#),
            ("exception", "{}"),
            ("error", ""),
        ]
    );
    everywhere(STREAM, &stream, &read);
    for size in 1..stream.len() {
        assert_eq!(frames(STREAM, &stream, size).len(), read.len());
    }
    for at in 1..stream.len() {
        let complete = cut(STREAM, &stream[..at], 64);
        assert!(
            complete.is_ok_and(|frames| frames.len() < read.len())
                || cut(STREAM, &stream[..at], 64) == Err(FrameError::CutShort)
        );
    }
}

#[test]
fn what_a_message_mustnt_be_is_refused() {
    for headers in [
        vec![text(":message-type", "rumor")],
        vec![("x".into(), 10, Vec::new())],
        vec![(String::new(), 0, Vec::new())],
        vec![("x".into(), 7, vec![0, 9, b'a'])],
        vec![("x".into(), 7, vec![0, 1, 0xff])],
        vec![("x".into(), 4, vec![0])],
    ] {
        let error = cut(STREAM, &message(&headers, b""), 5).unwrap_err();
        assert!(matches!(error, FrameError::Malformed { .. }), "{headers:?}: {error}");
    }
    // Lengths are judged before the rest has come.
    let prelude = |total: u32, headers: u32| {
        let lengths = [total.to_be_bytes(), headers.to_be_bytes()].concat();
        [&lengths[..], &crc32fast::hash(&lengths).to_be_bytes()].concat()
    };
    let mut framer = Framer::new(STREAM).unwrap();
    assert_eq!(framer.push(&prelude((16 << 20) + 1, 0)).unwrap_err(), FrameError::TooLarge(MAX_WHOLE));
    for (total, headers) in [(15, 0), (16, 1), (0, 0), (1 << 20, (128 << 10) + 1), (16, u32::MAX)] {
        let error = Framer::new(STREAM).unwrap().push(&prelude(total, headers)).unwrap_err();
        assert!(matches!(error, FrameError::Malformed { .. }), "{total} {headers}: {error}");
    }
    assert!(Framer::new(STREAM).unwrap().push(&prelude(16 << 20, 128 << 10)).is_ok());
}

#[test]
fn every_flipped_bit_is_noticed() {
    let whole = message(&[text(":message-type", "event"), text(":event-type", "chunk")], b"{\"a\":1}");
    for bit in 0..whole.len() * 8 {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(cut(STREAM, &flipped, 9).is_err(), "bit {bit}");
    }
}

proptest! {
    #[test]
    fn any_messages_come_back(
        messages in prop::collection::vec(("[a-zA-Z]{0,20}", prop::collection::vec(any::<u8>(), 0..300)), 0..6),
        size in 1..400usize,
    ) {
        let packed: Vec<u8> = messages
            .iter()
            .flat_map(|(name, payload)| {
                let mut headers = others();
                headers.insert(3, text(":event-type", name));
                message(&headers, payload)
            })
            .collect();
        let read = frames(STREAM, &packed, size);
        prop_assert_eq!(read.len(), messages.len());
        for (frame, (name, payload)) in read.iter().zip(&messages) {
            prop_assert_eq!((&frame.event, &frame.data), (name, payload));
        }
    }
}
