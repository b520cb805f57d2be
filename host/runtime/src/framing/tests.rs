use proptest::prelude::*;

use super::*;

mod event_stream;

fn cut(framing: &str, text: &[u8], size: usize) -> Result<Vec<Frame>, FrameError> {
    let mut framer = Framer::new(framing).unwrap();
    let mut frames = Vec::new();
    for piece in text.chunks(size) {
        frames.extend(framer.push(piece)?);
    }
    frames.extend(framer.finish()?);
    Ok(frames)
}

fn frames(framing: &str, text: &[u8], size: usize) -> Vec<Frame> {
    cut(framing, text, size).unwrap()
}

/// Frames as names and texts.
fn seen(frames: &[Frame]) -> Vec<(&str, &str)> {
    frames.iter().map(|frame| (frame.event.as_str(), std::str::from_utf8(&frame.data).unwrap())).collect()
}

/// The same in two pieces, split at every byte.
fn everywhere(framing: &str, bytes: &[u8], expected: &[Frame]) {
    for at in 0..=bytes.len() {
        let mut framer = Framer::new(framing).unwrap();
        let (first, second) = bytes.split_at(at);
        let mut frames = framer.push(first).unwrap();
        frames.extend(framer.push(second).unwrap());
        frames.extend(framer.finish().unwrap());
        assert_eq!(frames.len(), expected.len(), "split at {at}");
        for (frame, expected) in frames.iter().zip(expected) {
            assert_eq!((&frame.event, &frame.data), (&expected.event, &expected.data), "split at {at}");
        }
    }
}

#[test]
fn events_are_cut_by_the_standard_wherever_the_bytes_are_split() {
    let text = "\u{feff}event: a\ndata: 1\ndata:2é\n\n: comment\r\ndata: 3\r\n\r\nevent: none\n\ndata: 4\r\rdata: cut";
    let expected = [("a", "1\n2é"), ("", "3"), ("", "4")];
    for size in 1..=text.len() {
        let frames = frames("sse", text.as_bytes(), size);
        assert_eq!(seen(&frames), expected, "pieces of {size}");
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
    for (framing, first) in [("sse", ""), ("json-array", "[\"")] {
        let mut framer = Framer::new(framing).unwrap();
        framer.push(first.as_bytes()).unwrap();
        let piece = vec![b'x'; MAX_EVENT / 2];
        framer.push(&piece).unwrap();
        framer.push(&piece[..piece.len() - first.trim_start_matches('[').len()]).unwrap();
        assert_eq!(framer.push(b"x").unwrap_err(), FrameError::TooLarge(MAX_EVENT), "{framing}");
    }
}

#[test]
fn elements_are_found_in_their_brackets_and_strings() {
    let text = r#" [ {"a":[1,{"b":"}],[\\\"\\"}]} ,"x]\"," , -1.5e3,true , [] ,{}, "\\" ,[["]"]]]"#
        .to_owned()
        + "\r\n ";
    let expected = [
        r#"{"a":[1,{"b":"}],[\\\"\\"}]}"#,
        r#""x]\",""#,
        "-1.5e3",
        "true",
        "[]",
        "{}",
        r#""\\""#,
        r#"[["]"]]"#,
    ];
    let whole = frames("json-array", text.as_bytes(), text.len());
    assert_eq!(seen(&whole), expected.map(|element| ("", element)));
    everywhere("json-array", text.as_bytes(), &whole);
    for size in 1..=text.len() {
        assert_eq!(frames("json-array", text.as_bytes(), size).len(), expected.len());
    }
    assert!(frames("json-array", b"[ ]", 1).is_empty());
}

#[test]
fn what_is_no_array_is_refused_and_so_is_half_a_one() {
    for text in
        ["{}", "[1,,2]", "[,1]", "[1,]", "[1 2]", "[1]x", "[1][2]", "1", "]", "[\"a\"\"b\"]", "[{}{}]"]
    {
        for size in 1..=text.len() {
            let error = cut("json-array", text.as_bytes(), size).unwrap_err();
            assert!(matches!(error, FrameError::Malformed { framing: "json-array", .. }), "{text}: {error}");
        }
    }
    for text in ["", " ", "[", "[1", "[1,", "[{\"a\":1}", "[\"]", "[[1]", "[\"\\\"]"] {
        assert_eq!(cut("json-array", text.as_bytes(), 1).unwrap_err(), FrameError::CutShort, "{text}");
    }
}

const WITHIN: &str = "json-array:/a~1b/c~0d";

#[test]
fn an_array_inside_of_a_document_is_found_wherever_it_stands() {
    let text = r#" {"x":{"a/b":{"c~d":[0]}},"y":[{"a/b":1}],"z":"}]\"{" , "a\/b" : {"c~d ":[0],"n":-1.5,
        "c\u007ed":[ {"a/b":{"c~d":[9]}} ,"x]\","],"c~d":[0],"o":{}},"a/b":{"c~d":[0]}}"#
        .to_owned()
        + "\r\n ";
    let whole = frames(WITHIN, text.as_bytes(), text.len());
    assert_eq!(seen(&whole), [("", r#"{"a/b":{"c~d":[9]}}"#), ("", r#""x]\",""#)], "and only the first");
    everywhere(WITHIN, text.as_bytes(), &whole);
    for none in
        ["{}", r#"{"a/b":{}}"#, r#"{"a/b":{"c":[1]},"c~d":[1]}"#, r#"{"a/b":{"c~d":[]}}"#, r#"{"a":null}"#]
    {
        assert!(frames(WITHIN, none.as_bytes(), 1).is_empty(), "{none}");
    }
    assert!(Framer::new("json-array:").is_none() && Framer::new("json-array:a").is_none());
}

#[test]
fn a_document_that_isnt_one_is_refused_and_so_is_half_a_one() {
    for text in [
        "[]",
        "1",
        r#"{"a/b":[1]}"#,
        r#"{"a/b":{"c~d":{}}}"#,
        r#"{"a/b":{"c~d":[1,]}}"#,
        r#"{"a/b":{"c~d":null}}"#,
        "{}x",
        "{,}",
        r#"{"x":1,}"#,
        r#"{"x"}"#,
        r#"{"x":}"#,
        r#"{"x":1 2}"#,
        "{1:2}",
        r#"{"a/b":{"c~d":[1]]}}"#,
        "{}{}",
    ] {
        for size in 1..=text.len() {
            let error = cut(WITHIN, text.as_bytes(), size).unwrap_err();
            assert!(matches!(error, FrameError::Malformed { framing: "json-array", .. }), "{text}: {error}");
        }
    }
    let whole = r#"{"x":1,"a/b":{"c~d":[{"e":1},2],"f":"}"}}"#;
    for length in 0..whole.len() {
        let error = cut(WITHIN, &whole.as_bytes()[..length], 1).unwrap_err();
        assert_eq!(error, FrameError::CutShort, "{}", &whole[..length]);
    }
}

#[test]
fn an_element_inside_of_a_document_may_be_as_large_as_a_whole_one() {
    let element = |size: usize| {
        let mut framer = Framer::new("json-array:/a").unwrap();
        framer.push(br#"{"a":["#).unwrap();
        framer.push(b"\"").unwrap();
        framer.push(&vec![b'x'; size - 2]).unwrap();
        framer.push(b"\"")
    };
    assert_eq!(element(MAX_WHOLE).unwrap()[0].data.len(), MAX_WHOLE);
    assert_eq!(element(MAX_WHOLE + 1).unwrap_err(), FrameError::TooLarge(MAX_WHOLE));
}

fn value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        r#"[\\"\[\]{}, a-zé]{0,12}"#.prop_map(Into::into),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::btree_map(r#"[\\"\]} a-z]{0,4}"#, inner, 0..4)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_array_gives_its_elements(
        elements in prop::collection::vec(value(), 0..6), pretty: bool, size in 1..40usize,
    ) {
        let text = match pretty {
            true => serde_json::to_string_pretty(&elements).unwrap(),
            false => serde_json::to_string(&elements).unwrap(),
        };
        let frames = frames("json-array", text.as_bytes(), size);
        let read: Vec<serde_json::Value> =
            frames.iter().map(|frame| serde_json::from_slice(&frame.data).unwrap()).collect();
        prop_assert_eq!(read, elements);
    }

    #[test]
    fn any_array_gives_its_elements_inside_of_any_document(
        elements in prop::collection::vec(value(), 0..6),
        mut others in prop::collection::btree_map("[a-e]{1,2}", value(), 0..4),
        pretty: bool,
        size in 1..40usize,
    ) {
        let mut inner = others.clone();
        inner.insert("c".into(), elements.clone().into());
        others.insert("b".into(), inner.into_iter().collect::<serde_json::Map<_, _>>().into());
        let text = match pretty {
            true => serde_json::to_string_pretty(&others).unwrap(),
            false => serde_json::to_string(&others).unwrap(),
        };
        let frames = frames("json-array:/b/c", text.as_bytes(), size);
        let read: Vec<serde_json::Value> =
            frames.iter().map(|frame| serde_json::from_slice(&frame.data).unwrap()).collect();
        prop_assert_eq!(read, elements);
    }

    /// What isn't unfinished can be closed at any moment, and has every element that came.
    #[test]
    fn an_array_can_be_closed_after_any_whole_element(
        elements in prop::collection::vec(value(), 0..6), size in 1..40usize,
    ) {
        let text = serde_json::to_string_pretty(&elements).unwrap();
        let mut framer = Framer::new("json-array").unwrap();
        let (mut came, mut read) = (0, 0);
        for piece in text.as_bytes().chunks(size) {
            read += framer.push(piece).unwrap().len();
            came += piece.len();
            let finished = &text[..came - framer.unfinished()];
            let closed = match finished {
                "" => "[]".to_owned(),
                whole if came == text.len() => whole.to_owned(),
                begun => format!("{begun}]"),
            };
            let closed: Vec<serde_json::Value> = serde_json::from_str(&closed).unwrap();
            prop_assert_eq!(&closed[..], &elements[..read]);
        }
        prop_assert_eq!(framer.unfinished(), 0);
    }

    #[test]
    fn no_bytes_make_a_framer_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), size in 1..40usize) {
        for framing in ["sse", "ndjson", "json-array", "json-array:/a", "aws-event-stream"] {
            let _ = cut(framing, &bytes, size);
        }
    }
}
