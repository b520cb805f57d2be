//! Edits of a JSON body by position, held against the same edits of a tree.
#![no_main]
use std::borrow::Cow;

use brokle_core::json::{Change, Splices, scan};
use serde_json::Value;

/// One edit: whether it sets, its pointer's tokens, and a number to set.
type Edit = (bool, Vec<u8>, u8);

/// Names that are likely to be met again.
const NAMES: [&str; 8] = ["a", "b", "a~1b", "0", "1", "-", "", "\u{e9}"];

fn pointer(tokens: &[u8]) -> String {
    tokens.iter().take(4).map(|token| format!("/{}", NAMES[usize::from(*token) % NAMES.len()])).collect()
}

/// The same on a tree; none where the edit can't be made.
fn edit(root: &mut Value, pointer: &str, value: Option<&Value>) -> Option<()> {
    let Some((parent, last)) = pointer.rsplit_once('/') else {
        if let Some(value) = value {
            *root = value.clone();
        }
        return Some(());
    };
    let last = last.replace("~1", "/").replace("~0", "~");
    if value.is_some() && root.pointer(parent).is_none() {
        edit(root, parent, Some(&Value::Object(Default::default())))?;
    }
    match (root.pointer_mut(parent), value) {
        (Some(Value::Object(members)), Some(value)) => {
            members.insert(last, value.clone());
        }
        (Some(Value::Object(members)), None) => {
            members.shift_remove(&last);
        }
        (Some(Value::Array(elements)), Some(value)) if last == "-" => elements.push(value.clone()),
        (Some(Value::Array(elements)), Some(value)) => *elements.get_mut(last.parse::<usize>().ok()?)? = value.clone(),
        (Some(Value::Array(elements)), None) => {
            if let Some(at) = last.parse::<usize>().ok().filter(|at| *at < elements.len()) {
                elements.remove(at);
            }
        }
        (_, None) => {}
        (_, Some(_)) => return None,
    }
    Some(())
}

/// Duplicate names mean something else to a tree.
fn has_duplicates(bytes: &[u8]) -> bool {
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else { return true };
    let count = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b':').count();
    count(bytes) != count(value.to_string().as_bytes())
}

libfuzzer_sys::fuzz_target!(|input: (Vec<u8>, Vec<Edit>)| {
    let (document, edits) = input;
    let accepted = scan(&document, |_, _| {}).is_ok();
    if accepted {
        // What the scanner takes, a parser takes.
        assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&document).is_ok());
    }
    if !accepted || has_duplicates(&document) {
        return;
    }
    let edits: Vec<(String, Option<Value>)> = edits
        .iter()
        .take(6)
        .map(|(sets, tokens, number)| (pointer(tokens), sets.then(|| Value::from(*number))))
        .collect();
    let texts: Vec<_> = edits.iter().map(|(_, value)| value.as_ref().map(Value::to_string)).collect();
    let changes: Vec<Change<'_>> = edits
        .iter()
        .zip(&texts)
        .map(|((pointer, _), text)| match text {
            Some(text) => Change::Set(pointer, Cow::Borrowed(text.as_bytes())),
            None => Change::Remove(pointer),
        })
        .collect();
    let Ok(splices) = Splices::apply(&document, &changes) else { return };
    let written = splices.to_vec();
    assert_eq!(written.len(), splices.len());
    assert!(scan(&written, |_, _| {}).is_ok(), "{}", String::from_utf8_lossy(&written));
    let mut tree: Value = serde_json::from_slice(&document).expect("it was accepted");
    for (pointer, value) in &edits {
        if edit(&mut tree, pointer, value.as_ref()).is_none() {
            return;
        }
    }
    let read: Value = serde_json::from_slice(&written).expect("it was accepted");
    assert_eq!(read, tree, "{}", String::from_utf8_lossy(&written));
});
