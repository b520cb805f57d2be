//! Input and output: found, put together, kept as far as the project captures them.

use std::collections::BTreeMap;

use brokle_core::observation::Observation;
use brokle_core::tenancy::Capture;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::places::{Places, cut};
use super::table::{self, Source};

/// Bytes of an input or output; the rest is cut off, and `brokle.truncated` names what was.
pub const MAX_BODY_BYTES: usize = 1 << 20;

/// Levels of a flattened name: `llm.input_messages.0.message.tool_calls.0.…`.
const MAX_LEVELS: usize = 16;
/// OpenInference puts each element of a list into an object of one member, whose name says what it is.
const WRAPPERS: &[&str] = &["document", "image", "message", "message_content", "tool", "tool_call"];

/// Moves input and output into the observation. Without capture they are taken away all the same.
pub(super) fn take(made: &mut Observation, places: &mut Places<'_>, capture: Capture) {
    if capture != Capture::Full {
        // `keep` leaves out what may be content.
        return;
    }
    let mut truncated = Vec::new();
    let mut body = |name: &'static str, value: Option<Value>| {
        let text = match value? {
            Value::String(text) => text,
            other => other.to_string(),
        };
        let kept = cut(&text, MAX_BODY_BYTES);
        if kept.len() < text.len() {
            truncated.push(Value::from(name));
            return Some(Bytes::copy_from_slice(kept.as_bytes()));
        }
        Some(Bytes::from(text))
    };
    made.input = body("input", find(places, table::INPUT));
    made.output = body("output", find(places, table::OUTPUT));
    if !truncated.is_empty() {
        places.attributes.insert("brokle.truncated".to_owned(), Value::Array(truncated));
    }
}

/// Whether an attribute of this name is content.
pub(super) fn is_content(name: &str) -> bool {
    let in_table = |source: &Source| match *source {
        Source::Attribute(known) | Source::Event(_, known) => name == known,
        Source::Below(prefix) => below(name, prefix).is_some(),
        Source::Resource(_) | Source::Events(_) => false,
    };
    name == table::SYSTEM_INSTRUCTIONS || table::INPUT.iter().chain(table::OUTPUT).any(in_table)
}

/// Whether an event of this name is content, whatever its attributes are called.
pub(super) fn is_content_event(name: &str) -> bool {
    let in_table = |source: &Source| match *source {
        Source::Events(names) => names.contains(&name),
        Source::Event(known, _) => name == known,
        _ => false,
    };
    table::INPUT.iter().chain(table::OUTPUT).any(in_table)
}

fn find(places: &mut Places<'_>, sources: &[Source]) -> Option<Value> {
    sources.iter().find_map(|source| match *source {
        Source::Below(prefix) => unflatten(places, prefix),
        Source::Events(names) => messages(places, names),
        Source::Attribute("gen_ai.input.messages") => {
            let messages = places.value(*source)?;
            Some(match places.value(Source::Attribute(table::SYSTEM_INSTRUCTIONS)) {
                Some(instructions) => with_instructions(messages, instructions),
                None => messages,
            })
        }
        source => places.value(source),
    })
}

/// The messages with the system's before them; OpenLIT has it there already.
fn with_instructions(messages: Value, instructions: Value) -> Value {
    let parsed = |value: Value| match value {
        Value::String(text) => serde_json::from_str(&text).unwrap_or(Value::String(text)),
        other => other,
    };
    let system = json!({ "role": "system", "parts": parsed(instructions) });
    match parsed(messages) {
        Value::Array(messages) if messages.first() == Some(&system) => Value::Array(messages),
        Value::Array(messages) => std::iter::once(system).chain(messages).collect(),
        other => Value::Array(vec![system, other]),
    }
}

/// Events as messages: their attributes, and the role that their name says.
fn messages(places: &mut Places<'_>, names: &[&str]) -> Option<Value> {
    let mut messages = Vec::new();
    for event in places.events.iter_mut().filter(|event| names.contains(&event.name.as_str())) {
        let mut message: Map<String, Value> = std::mem::take(&mut event.attributes).into_iter().collect();
        let role = event.name.trim_start_matches("gen_ai.").trim_end_matches(".message");
        let role = if role == "choice" { "assistant" } else { role };
        message.entry("role").or_insert_with(|| Value::from(role));
        messages.push(Value::Object(message));
    }
    (!messages.is_empty()).then_some(Value::Array(messages))
}

/// What is left of a name below a prefix.
fn below<'a>(name: &'a str, prefix: &str) -> Option<&'a str> {
    name.strip_prefix(prefix)?.strip_prefix('.')
}

/// `prefix.0.role`, `prefix.0.content`, … as a list of objects. Numbers only order: a gap takes no room.
fn unflatten(places: &mut Places<'_>, prefix: &str) -> Option<Value> {
    let mut tree = Tree::default();
    let from = format!("{prefix}.");
    let names: Vec<String> = places
        .attributes
        .range(from.clone()..)
        .map(|(name, _)| name)
        .take_while(|name| name.starts_with(&from))
        // Of OpenTelemetry's own below `gen_ai.prompt`: which prompt it was, not what it said.
        .filter(|name| !matches!(below(name, prefix), Some("name" | "version")))
        .cloned()
        .collect();
    for name in names {
        let Some(value) = places.attributes.remove(&name) else { continue };
        tree.insert(below(&name, prefix).unwrap_or_default().splitn(MAX_LEVELS, '.'), value);
    }
    (!tree.is_empty()).then(|| tree.into_value())
}

/// A flattened object: members by name, elements by number.
#[derive(Debug, Default)]
struct Tree {
    value: Option<Value>,
    members: BTreeMap<String, Tree>,
    elements: BTreeMap<u64, Tree>,
}

impl Tree {
    fn is_empty(&self) -> bool {
        self.value.is_none() && self.members.is_empty() && self.elements.is_empty()
    }

    fn insert<'a>(&mut self, path: impl Iterator<Item = &'a str>, value: Value) {
        let mut at = self;
        for step in path {
            at = match step.parse() {
                Ok(number) => at.elements.entry(number).or_default(),
                Err(_) => at.members.entry(step.to_owned()).or_default(),
            };
        }
        at.value = Some(value);
    }

    /// Recurses no deeper than [`MAX_LEVELS`].
    fn into_value(self) -> Value {
        if self.members.is_empty() && self.elements.is_empty() {
            return self.value.unwrap_or_default();
        }
        if self.members.is_empty() && self.value.is_none() {
            return self.elements.into_values().map(|element| unwrapped(element.into_value())).collect();
        }
        let numbered = self.elements.into_iter().map(|(number, tree)| (number.to_string(), tree));
        let members = self.members.into_iter().chain(numbered);
        let mut object: Map<String, Value> = members.map(|(name, tree)| (name, tree.into_value())).collect();
        if let Some(value) = self.value {
            object.insert("value".to_owned(), value);
        }
        Value::Object(object)
    }
}

fn unwrapped(value: Value) -> Value {
    match value {
        Value::Object(mut object) if object.len() == 1 => {
            let wrapper = WRAPPERS.iter().find(|wrapper| object.contains_key(**wrapper));
            match wrapper.and_then(|wrapper| object.remove(*wrapper)) {
                Some(inner) => inner,
                None => Value::Object(object),
            }
        }
        other => other,
    }
}
