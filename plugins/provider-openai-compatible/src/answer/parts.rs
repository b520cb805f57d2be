//! Thinking that comes among a message's parts, as Databricks gives Claude's: `{"type": "reasoning", "summary": [{"type":
//! "summary_text", "text", "signature"}]}` beside `{"type": "text", "text"}`.
//!
//! Texts are joined to `content`, thinking to `reasoning_content`; the blocks with their signatures are `thinking_blocks`
//! in Anthropic's form, once and whole: in a stream with the finish reason. The next request gives them back.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use serde_json::{Map, Value, json};

/// What one choice has thought so far.
#[derive(Debug, Default)]
pub(super) struct Thinking {
    /// Without a signature yet.
    text: String,
    blocks: Vec<Value>,
}

impl Thinking {
    /// Puts a message, or the delta of one, into the canonical form. `last` says that no more comes.
    pub(super) fn take(&mut self, message: &mut Map<String, Value>, streaming: bool, last: bool) {
        let content = message.get_mut("content").filter(|content| content.is_array());
        if let Some(Value::Array(parts)) = content.map(Value::take) {
            let (mut text, mut thought) = (String::new(), String::new());
            for part in &parts {
                match part.get("type").and_then(Value::as_str) {
                    Some("text") => text.push_str(member(part, "text")),
                    Some("reasoning") => thought.push_str(&self.reasoning(part)),
                    _ => {}
                }
            }
            match (text.is_empty(), streaming) {
                (true, true) => drop(message.remove("content")),
                (true, false) => drop(message.insert("content".to_owned(), Value::Null)),
                (false, _) => drop(message.insert("content".to_owned(), text.into())),
            }
            if !thought.is_empty() {
                message.insert("reasoning_content".to_owned(), thought.into());
            }
        }
        if last && !self.blocks.is_empty() {
            message.insert("thinking_blocks".to_owned(), core::mem::take(&mut self.blocks).into());
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// The text of a part's summaries. A signature ends a block.
    fn reasoning(&mut self, part: &Value) -> String {
        let mut thought = String::new();
        for summary in part.get("summary").and_then(Value::as_array).into_iter().flatten() {
            let (text, signature) = (member(summary, "text"), member(summary, "signature"));
            thought.push_str(text);
            self.text.push_str(text);
            if !signature.is_empty() {
                let thinking = core::mem::take(&mut self.text);
                self.blocks.push(json!({"type": "thinking", "thinking": thinking, "signature": signature}));
            }
        }
        thought
    }
}

fn member<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}
