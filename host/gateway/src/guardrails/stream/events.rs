//! How events of a stream are read and written.

use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};

use crate::stream::data_of;

/// All data lines of an event, joined as the standard says (WHATWG HTML, server-sent events); none when it has none.
pub(super) fn all_data(event: &[u8]) -> Option<std::borrow::Cow<'_, [u8]>> {
    let lines = || {
        let event = event.strip_prefix(b"\xef\xbb\xbf").unwrap_or(event);
        event.split(|&byte| byte == b'\n' || byte == b'\r').filter_map(|line| line.strip_prefix(b"data:"))
    };
    match lines().count() {
        0 => None,
        1 => data_of(event).map(Into::into),
        _ => Some(lines().map(<[u8]>::trim_ascii).collect::<Vec<_>>().join(&b'\n').into()),
    }
}

pub(super) fn framed(json: &[u8]) -> Bytes {
    let mut event = BytesMut::with_capacity(json.len() + 8);
    event.extend_from_slice(b"data: ");
    event.extend_from_slice(json);
    event.extend_from_slice(b"\n\n");
    event.freeze()
}

/// A text at its place in a delta.
pub(super) fn placed(path: &str, text: &str) -> Value {
    let (name, rest) = path.split_once('/').unwrap_or((path, ""));
    let name = name.replace("~1", "/").replace("~0", "~");
    if rest.is_empty() {
        return json!({ name: text });
    }
    let (next, below) = rest.split_once('/').unwrap_or((rest, ""));
    match next.parse::<u64>() {
        Ok(index) if name == "tool_calls" => {
            let mut call = placed(below, text);
            merge(&mut call, json!({"index": index}));
            json!({ name: [call] })
        }
        Ok(_) if below.is_empty() => json!({ name: [text] }),
        Ok(_) => json!({ name: [placed(below, text)] }),
        Err(_) => json!({ name: placed(rest, text) }),
    }
}

/// Puts members into others: objects are joined, arrays appended.
pub(super) fn merge(into: &mut Value, more: Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (name, value) in more {
                match into.get_mut(&name) {
                    Some(known) => merge(known, value),
                    None => drop(into.insert(name, value)),
                }
            }
        }
        (Value::Array(into), Value::Array(more)) => into.extend(more),
        (into, more) => *into = more,
    }
}
