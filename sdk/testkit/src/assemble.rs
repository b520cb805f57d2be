//! Joins a stream's chunks to the answer that would have come whole.

use serde_json::{Map, Value, json};

/// The joined choices and usage of a chat stream: texts appended, calls joined by their index,
/// everything else taken as it last came. A call's arguments are compared as JSON, since a stream
/// and a document may space them differently.
pub(crate) fn joined(chunks: &[Value]) -> Value {
    let mut choices: Vec<Map<String, Value>> = Vec::new();
    let mut usage = Value::Null;
    for chunk in chunks {
        if let Some(counts) = chunk.get("usage").filter(|counts| !counts.is_null()) {
            usage = counts.clone();
        }
        for choice in array(chunk, "choices") {
            let index = index(choice);
            choices.resize(choices.len().max(index + 1), Map::new());
            let Some(made) = choices.get_mut(index) else { continue };
            for (name, value) in choice.as_object().into_iter().flatten() {
                match name.as_str() {
                    "delta" => {
                        let message = made.entry("message").or_insert_with(|| json!({}));
                        merge(message, value);
                    }
                    _ if value.is_null() => {}
                    _ => drop(made.insert(name.clone(), value.clone())),
                }
            }
        }
    }
    let mut whole = json!({"choices": choices, "usage": usage});
    comparable(&mut whole);
    whole
}

/// An unstreamed answer in the form of [`joined`].
pub(crate) fn of_whole(answer: &Value) -> Value {
    let member = |name| answer.get(name).cloned().unwrap_or_default();
    let mut whole = json!({"choices": member("choices"), "usage": member("usage")});
    comparable(&mut whole);
    whole
}

fn merge(message: &mut Value, delta: &Value) {
    let Some(message) = message.as_object_mut() else { return };
    for (name, value) in delta.as_object().into_iter().flatten() {
        match (name.as_str(), value) {
            ("content" | "reasoning_content", Value::String(more)) => append(message, name, more),
            ("tool_calls", Value::Array(calls)) => {
                let made = message.entry("tool_calls").or_insert_with(|| json!([]));
                calls.iter().for_each(|call| merge_call(made, call));
            }
            _ => drop(message.insert(name.clone(), value.clone())),
        }
    }
}

fn merge_call(made: &mut Value, delta: &Value) {
    let (Some(made), index) = (made.as_array_mut(), index(delta)) else { return };
    made.resize(made.len().max(index + 1), json!({"function": {}}));
    let Some(call) = made.get_mut(index).and_then(Value::as_object_mut) else { return };
    for (name, value) in delta.as_object().into_iter().flatten() {
        match name.as_str() {
            "function" => {
                let function = call.entry("function").or_insert_with(|| json!({}));
                for (name, piece) in value.as_object().into_iter().flatten() {
                    if let (Some(function), Some(piece)) = (function.as_object_mut(), piece.as_str()) {
                        append(function, name, piece);
                    }
                }
            }
            "index" => {}
            _ => drop(call.insert(name.clone(), value.clone())),
        }
    }
}

fn append(members: &mut Map<String, Value>, name: &str, more: &str) {
    let text = members.get(name).and_then(Value::as_str).unwrap_or_default();
    let text = format!("{text}{more}");
    members.insert(name.to_owned(), text.into());
}

/// Takes out what a stream and a document rightly say differently: nulls, empty texts, and the
/// spacing of arguments.
fn comparable(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null() && member.as_str() != Some(""));
            for (name, member) in members.iter_mut() {
                match member.as_str().filter(|_| name == "arguments").map(serde_json::from_str) {
                    Some(Ok(parsed)) => *member = parsed,
                    _ => comparable(member),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(comparable),
        _ => {}
    }
}

fn array<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value.get(name).and_then(Value::as_array).into_iter().flatten()
}

fn index(value: &Value) -> usize {
    value
        .get("index")
        .and_then(Value::as_u64)
        .and_then(|index| usize::try_from(index).ok())
        .unwrap_or(0)
        .min(255)
}
