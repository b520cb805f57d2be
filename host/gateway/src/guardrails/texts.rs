//! Which strings of a call are texts.
//!
//! Every string is, unless it is known not to be: so what a client or a vendor adds tomorrow is shown too. Known not
//! to be are the members that name, type or identify things ([`STRUCTURAL`]), encoded bytes (`data:` URLs where a URL
//! belongs, `data`, `file_data`, signatures), and the request's members that choose rather than say ([`CHOOSING`]). Of `tools` and
//! `functions` the descriptions are texts, the schemas aren't: changing those would change the contract.
//!
//! Not shown: member names, numbers, images, audio and files, `messages[].name`, token arrays.
//!
//! A document that has a member twice is refused: which of the two a reader takes is up to the reader, and a guardrail
//! must see what the model sees.

use std::collections::BTreeSet;
use std::fmt;

use brokle_runtime::guarding::Text;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Members that hold no text, wherever they are.
const STRUCTURAL: [&str; 22] = [
    "call_id",
    "data",
    "detail",
    "encrypted_content",
    "file_data",
    "file_id",
    "finish_reason",
    "format",
    "id",
    "index",
    "logprobs",
    "media_type",
    "mime_type",
    "model",
    "name",
    "object",
    "role",
    "signature",
    "status",
    "tool_call_id",
    "type",
    "cache_control",
];

/// Top-level members of a request that hold no text.
const CHOOSING: [&str; 14] = [
    "audio",
    "encoding_format",
    "function_call",
    "logit_bias",
    "modalities",
    "model",
    "prompt_cache_key",
    "reasoning_effort",
    "response_format",
    "service_tier",
    "stop",
    "stream_options",
    "tool_choice",
    "verbosity",
];

/// A JSON document with no member twice.
#[derive(Debug)]
pub(crate) struct Strict(pub(crate) Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Strict;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }
            fn visit_bool<E>(self, value: bool) -> Result<Strict, E> {
                Ok(Strict(value.into()))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Strict, E> {
                Ok(Strict(value.into()))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Strict, E> {
                Ok(Strict(value.into()))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Strict, E> {
                Ok(Strict(value.into()))
            }
            fn visit_str<E>(self, value: &str) -> Result<Strict, E> {
                Ok(Strict(value.into()))
            }
            fn visit_unit<E>(self) -> Result<Strict, E> {
                Ok(Strict(Value::Null))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Strict, A::Error> {
                let mut items = Vec::new();
                while let Some(Strict(item)) = access.next_element()? {
                    items.push(item);
                }
                Ok(Strict(Value::Array(items)))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Strict, A::Error> {
                let mut members = Map::new();
                let mut names = BTreeSet::new();
                while let Some((name, Strict(value))) = access.next_entry::<String, Strict>()? {
                    if !names.insert(name.clone()) {
                        let shown: String = name.chars().take(64).collect();
                        return Err(A::Error::custom(format!("the member '{shown}' is there twice")));
                    }
                    members.insert(name, value);
                }
                Ok(Strict(Value::Object(members)))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// The texts of a request's body.
///
/// # Errors
/// The body has a member twice, or nests too deep.
pub(crate) fn of_request(body: &[u8]) -> Result<Vec<Text>, serde_json::Error> {
    let Strict(document) = serde_json::from_slice(body)?;
    let mut found = Vec::new();
    let Value::Object(members) = &document else { return Ok(found) };
    for (name, value) in members.iter().filter(|(name, _)| !CHOOSING.contains(&name.as_str())) {
        let pointer = format!("/{}", escaped(name));
        match (name.as_str(), value) {
            ("messages", Value::Array(messages)) => {
                for (index, message) in messages.iter().enumerate() {
                    let role = message.get("role").and_then(Value::as_str).unwrap_or_default();
                    walk(message, &format!("{pointer}/{index}"), role, &mut found);
                }
            }
            ("tools" | "functions", _) => descriptions(value, &pointer, &mut found),
            _ => walk(value, &pointer, "", &mut found),
        }
    }
    Ok(found)
}

/// The texts of a whole answer. They are the assistant's.
///
/// # Errors
/// As for a request, or it isn't JSON.
pub(crate) fn of_answer(body: &[u8]) -> Result<Vec<Text>, serde_json::Error> {
    let Strict(document) = serde_json::from_slice(body)?;
    let mut found = Vec::new();
    let choices = document.get("choices").and_then(Value::as_array);
    for (index, choice) in choices.into_iter().flatten().enumerate() {
        for member in ["message", "text"] {
            if let Some(value) = choice.get(member) {
                walk(value, &format!("/choices/{index}/{member}"), "assistant", &mut found);
            }
        }
    }
    Ok(found)
}

/// One text of a stream's event: where it stands in the event, and where in the whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Delta {
    /// In the event; empty where it begins without a text.
    pub(crate) at: String,
    /// The index of its choice.
    pub(crate) choice: u64,
    /// In the whole answer.
    pub(crate) pointer: String,
    /// As in `text`.
    pub(crate) kind: &'static str,
    /// What has come.
    pub(crate) value: String,
}

/// The texts of a stream's event, and the choices that end with it.
pub(crate) fn of_event(event: &Value) -> (Vec<Delta>, Vec<u64>) {
    let (mut deltas, mut finished) = (Vec::new(), Vec::new());
    let choices = event.get("choices").and_then(Value::as_array);
    for (position, choice) in choices.into_iter().flatten().enumerate() {
        let index = choice.get("index").and_then(Value::as_u64).unwrap_or(position as u64);
        if choice.get("finish_reason").is_some_and(|reason| !reason.is_null()) {
            finished.push(index);
        }
        for (member, whole) in [("delta", "message"), ("text", "text")] {
            let Some(value) = choice.get(member) else { continue };
            let mut found = Vec::new();
            let at = format!("/choices/{position}/{member}");
            walk(value, &at, "assistant", &mut found);
            deltas.extend(found.into_iter().map(|text| {
                let rest = text.pointer.strip_prefix(&at).unwrap_or_default();
                let pointer = format!("/choices/{index}/{whole}{}", numbered(value, rest));
                let kind = kind(&text.pointer, "assistant");
                Delta { at: text.pointer, choice: index, pointer, kind, value: text.value }
            }));
            tool_calls(value, &at, index, &mut deltas);
        }
    }
    (deltas, finished)
}

/// A tool call begins with its name, before its arguments have any text: they begin there all the same.
fn tool_calls(delta: &Value, at: &str, index: u64, deltas: &mut Vec<Delta>) {
    let calls = delta.get("tool_calls").and_then(Value::as_array);
    for (position, call) in calls.into_iter().flatten().enumerate() {
        let number = call.get("index").and_then(Value::as_u64).unwrap_or(position as u64);
        let pointer = format!("/choices/{index}/message/tool_calls/{number}/function/arguments");
        if !deltas.iter().any(|delta| delta.pointer == pointer) && call.pointer("/custom").is_none() {
            let there = call.pointer("/function/arguments").is_some_and(Value::is_string);
            let at =
                if there { format!("{at}/tool_calls/{position}/function/arguments") } else { String::new() };
            deltas.push(Delta { at, choice: index, pointer, kind: "tool-arguments", value: String::new() });
        }
    }
}

/// A pointer below a delta, in which a tool call is named by its `index` rather than by its position.
fn numbered(delta: &Value, rest: &str) -> String {
    let Some(tail) = rest.strip_prefix("/tool_calls/") else { return rest.to_owned() };
    let (position, tail) = tail.split_once('/').unwrap_or((tail, ""));
    let call = delta.pointer(&format!("/tool_calls/{position}/index")).and_then(Value::as_u64);
    match call {
        Some(index) => format!("/tool_calls/{index}/{tail}"),
        None => rest.to_owned(),
    }
}

/// Every string of a document, whatever it is called: what is stored may be anybody's form. Only bytes in the place of a URL
/// are none.
pub(crate) fn everything(value: &Value, pointer: &str, role: &str, found: &mut Vec<Text>) {
    match value {
        Value::String(_) => walk(value, pointer, role, found),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                everything(item, &format!("{pointer}/{index}"), role, found);
            }
        }
        Value::Object(members) => {
            let role = members.get("role").and_then(Value::as_str).unwrap_or(role);
            for (name, member) in members {
                everything(member, &format!("{pointer}/{}", escaped(name)), role, found);
            }
        }
        _ => {}
    }
}

fn walk(value: &Value, pointer: &str, role: &str, found: &mut Vec<Text>) {
    match value {
        Value::String(text) if text.is_empty() || is_bytes(text, pointer) => {}
        Value::String(text) => found.push(Text {
            kind: kind(pointer, role).into(),
            role: role.into(),
            value: text.clone(),
            pointer: pointer.into(),
        }),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                walk(item, &format!("{pointer}/{index}"), role, found);
            }
        }
        Value::Object(members) => {
            for (name, member) in members.iter().filter(|(name, _)| !STRUCTURAL.contains(&name.as_str())) {
                walk(member, &format!("{pointer}/{}", escaped(name)), role, found);
            }
        }
        _ => {}
    }
}

/// Is this a `data:` URL (RFC 2397) of base64 in a member for URLs? The form alone doesn't say so: whoever speaks could begin
/// with `data:`, and an access key is base64 as well.
fn is_bytes(text: &str, pointer: &str) -> bool {
    let member = pointer.rsplit('/').next().unwrap_or_default().as_bytes();
    let for_urls = member
        .last_chunk::<3>()
        .is_some_and(|end| end.eq_ignore_ascii_case(b"url") || end.eq_ignore_ascii_case(b"uri"));
    for_urls
        && text.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,")).is_some_and(
            |(media, bytes)| {
                let token = |byte: u8| byte.is_ascii_alphanumeric() || b"/.+-_=;".contains(&byte);
                let base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"+/-_=".contains(&byte);
                media.bytes().all(token) && bytes.bytes().all(base64)
            },
        )
}

/// Of tools: every `description` that is a string.
fn descriptions(value: &Value, pointer: &str, found: &mut Vec<Text>) {
    match value {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                descriptions(item, &format!("{pointer}/{index}"), found);
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                let pointer = format!("{pointer}/{}", escaped(name));
                match member {
                    Value::String(_) if name == "description" => walk(member, &pointer, "", found),
                    _ => descriptions(member, &pointer, found),
                }
            }
        }
        _ => {}
    }
}

/// What a text is, by its place and who said it.
fn kind(pointer: &str, role: &str) -> &'static str {
    let last = pointer.rsplit('/').next().unwrap_or_default();
    match last {
        "arguments" => "tool-arguments",
        "input" if pointer.contains("/custom/") => "tool-arguments",
        "refusal" => "refusal",
        "reasoning_content" | "reasoning" | "thinking" => "reasoning",
        "description" => "description",
        "url" => "url",
        _ if matches!(role, "tool" | "function") => "tool-result",
        _ if pointer.starts_with("/metadata/") => "metadata",
        _ if matches!(pointer, "/user" | "/safety_identifier") => "user",
        "content" | "text" | "transcript" => "content",
        _ if ["/prompt", "/input", "/suffix", "/prediction"].iter().any(|top| pointer.starts_with(top)) => {
            "content"
        }
        _ => "other",
    }
}

pub(crate) fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(body: &str) -> Vec<(String, String, String)> {
        let texts = of_request(body.as_bytes()).unwrap();
        let mut shown: Vec<_> = texts.into_iter().map(|text| (text.pointer, text.kind, text.value)).collect();
        shown.sort();
        shown
    }

    #[test]
    fn a_requests_texts_are_where_people_and_tools_speak() {
        let body = r#"{"model":"m","user":"u","stop":["s"],"metadata":{"a/b":"x"},"vendor_note":"hey",
            "messages":[
              {"role":"system","content":"be nice"},
              {"role":"user","name":"ann","content":[{"type":"text","text":"look"},
                 {"type":"image_url","image_url":{"url":"data:image/png;base64,AA"}},
                 {"type":"image_url","image_url":{"url":"https://e.com/?m=a"}}]},
              {"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function",
                 "function":{"name":"f","arguments":"{\"a\":1}"}}]},
              {"role":"tool","tool_call_id":"c1","content":"42"}],
            "tools":[{"type":"function","function":{"name":"f","description":"does",
                 "parameters":{"properties":{"a":{"description":"one","enum":["k"]}}}}}]}"#;
        let expected = [
            ("/messages/0/content", "content", "be nice"),
            ("/messages/1/content/0/text", "content", "look"),
            ("/messages/1/content/2/image_url/url", "url", "https://e.com/?m=a"),
            ("/messages/2/tool_calls/0/function/arguments", "tool-arguments", "{\"a\":1}"),
            ("/messages/3/content", "tool-result", "42"),
            ("/metadata/a~1b", "metadata", "x"),
            ("/tools/0/function/description", "description", "does"),
            ("/tools/0/function/parameters/properties/a/description", "description", "one"),
            ("/user", "user", "u"),
            ("/vendor_note", "other", "hey"),
        ];
        let shown = shown(body);
        let shown: Vec<_> = shown.iter().map(|(a, b, c)| (a.as_str(), b.as_str(), c.as_str())).collect();
        assert_eq!(shown, expected);
    }

    #[test]
    fn only_bytes_in_the_place_of_a_url_are_no_text() {
        let seen = |member: &str, text: &str| {
            let part = serde_json::json!({ member: text });
            let (mut asked, mut stored) = (Vec::new(), Vec::new());
            walk(&part, "/messages/0/content/0", "user", &mut asked);
            everything(&part, "", "", &mut stored);
            assert_eq!(asked.len(), stored.len(), "{member}: {text}");
            asked.len() == 1
        };
        for member in ["url", "image_url", "fileUri", "llm.message_content.image.image.url"] {
            assert!(!seen(member, "data:image/png;base64,iVBORw0KGgo="), "{member}");
            assert!(!seen(member, "data:audio/ogg;codecs=opus;base64,"), "{member}");
            for text in
                ["data:my number is 078-05-1120", "data:,my%20secret", "data:a/b;base64,my secret", "data:"]
            {
                assert!(seen(member, text), "{member}: {text}");
            }
        }
        // Where someone speaks, nothing is taken for bytes.
        assert!(seen("text", "data:a/b;base64,AKIAIOSFODNN7EXAMPLE"));
        assert!(seen("content", "data: my number is 078-05-1120"));
    }

    #[test]
    fn a_member_that_is_there_twice_is_refused() {
        let error = of_request(br#"{"messages":[{"role":"user","content":"a","content":"b"}]}"#).unwrap_err();
        assert!(error.to_string().contains("'content' is there twice"), "{error}");
        // Escapes don't hide it.
        assert!(of_request(br#"{"a":1,"\u0061":2}"#).is_err());
    }

    #[test]
    fn an_events_texts_are_named_by_their_place_in_the_answer() {
        let event = serde_json::json!({"choices":[
            {"index":2,"delta":{"role":"assistant","content":"hi","tool_calls":[
                {"index":3,"id":"c","function":{"name":"f","arguments":"{"}}]},"finish_reason":null},
            {"index":0,"text":"t","finish_reason":"stop"}]});
        let (deltas, finished) = of_event(&event);
        let mut places: Vec<_> =
            deltas.iter().map(|delta| (delta.at.as_str(), delta.pointer.as_str(), delta.choice)).collect();
        places.sort_unstable();
        assert_eq!(
            places,
            [
                ("/choices/0/delta/content", "/choices/2/message/content", 2),
                (
                    "/choices/0/delta/tool_calls/0/function/arguments",
                    "/choices/2/message/tool_calls/3/function/arguments",
                    2
                ),
                ("/choices/1/text", "/choices/0/text", 0),
            ]
        );
        assert_eq!(finished, [0]);
    }
}
