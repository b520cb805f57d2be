//! Earlier thinking, given back among a message's parts (see `answer::parts`): text and signature byte for byte.

use alloc::format;
use alloc::vec::Vec;

use brokle_plugin::Problem;
use brokle_plugin::provider::Edit;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    thinking_blocks: Option<Vec<Block<'a>>>,
}

#[derive(Deserialize)]
struct Block<'a> {
    #[serde(borrow, default)]
    thinking: Option<&'a RawValue>,
    #[serde(borrow, default)]
    signature: Option<&'a RawValue>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Part<'a> {
    Reasoning {
        summary: [Summary<'a>; 1],
    },
    Text {
        text: &'a RawValue,
    },
    #[serde(untagged)]
    Raw(&'a RawValue),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Summary<'a> {
    SummaryText { text: &'a RawValue, signature: &'a RawValue },
}

/// The changes to the messages that have thinking.
pub(super) fn edits(messages: &[u8], edits: &mut Vec<Edit>) -> Result<(), Problem> {
    let form = |error| Problem::invalid("messages", format!("'messages' has an unexpected form: {error}."));
    let messages: Vec<Message<'_>> = serde_json::from_slice(messages).map_err(form)?;
    for (index, message) in messages.into_iter().enumerate() {
        // Nothing happens where there is nothing.
        edits.push(Edit::remove(&format!("/messages/{index}/reasoning_content")));
        let Some(blocks) = message.thinking_blocks else { continue };
        edits.push(Edit::remove(&format!("/messages/{index}/thinking_blocks")));
        let signed = blocks.into_iter().filter_map(|block| Some((block.thinking?, block.signature?)));
        let mut parts: Vec<Part<'_>> = signed
            .map(|(text, signature)| Part::Reasoning { summary: [Summary::SummaryText { text, signature }] })
            .collect();
        if parts.is_empty() {
            continue;
        }
        match message.content.map(|content| (content, content.get())) {
            None | Some((_, "null" | "\"\"")) => {}
            Some((content, text)) if text.starts_with('[') => {
                let given: Vec<&RawValue> = serde_json::from_str(content.get()).map_err(form)?;
                parts.extend(given.into_iter().map(Part::Raw));
            }
            Some((text, _)) => parts.push(Part::Text { text }),
        }
        edits.push(Edit::set(&format!("/messages/{index}/content"), &parts));
    }
    Ok(())
}
