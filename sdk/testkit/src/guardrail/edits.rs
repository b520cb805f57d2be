//! Applying a ruling's edits, as strictly as the host does.

use brokle_runtime::guarding::Edit;

/// The texts with the edits in them; each text comes with how much of its beginning may be changed.
///
/// # Errors
/// Which edit breaks which rule of the contract.
pub(crate) fn apply(texts: &[(&str, usize)], edits: &[Edit]) -> Result<Vec<String>, String> {
    let size = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let mut made = Vec::with_capacity(texts.len());
    for (index, (text, changeable)) in texts.iter().enumerate() {
        let mut of_text: Vec<&Edit> = edits.iter().filter(|edit| size(edit.text) == index).collect();
        of_text.sort_by_key(|edit| (edit.start, edit.end));
        let (mut out, mut at) = (String::new(), 0);
        for edit in of_text {
            let (start, end) = (size(edit.start), size(edit.end));
            let wrong = |rule: &str| format!("the edit of text {index} at {start}..{end} {rule}");
            if start < at {
                return Err(wrong("overlaps the one before it"));
            }
            if end > *changeable {
                return Err(wrong(&format!(
                    "reaches beyond byte {changeable}, the end of what it may change"
                )));
            }
            let (Some(kept), Some(_)) = (text.get(at..start), text.get(start..end)) else {
                return Err(wrong("doesn't lie between characters, or ends before it begins"));
            };
            out.push_str(kept);
            out.push_str(&edit.replacement);
            at = end;
        }
        out.push_str(text.get(at..).unwrap_or_default());
        made.push(out);
    }
    match edits.iter().find(|edit| size(edit.text) >= texts.len()) {
        Some(edit) => {
            Err(format!("there is an edit of text {}, and only {} were shown", edit.text, texts.len()))
        }
        None => Ok(made),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(text: u32, start: u32, end: u32) -> Edit {
        Edit { text, start, end, replacement: "*".into() }
    }

    #[test]
    fn edits_keep_to_the_contract() {
        assert_eq!(apply(&[("abcd", 4), ("x", 1)], &[edit(0, 2, 4), edit(0, 0, 1)]).unwrap(), ["*b*", "x"]);
        for (edits, rule) in [
            (vec![edit(0, 0, 2), edit(0, 1, 3)], "overlaps"),
            (vec![edit(0, 1, 2)], "between characters"),
            (vec![edit(0, 3, 2)], "before it begins"),
            (vec![edit(0, 2, 6)], "beyond byte 4"),
            (vec![edit(1, 0, 0)], "only 1 were shown"),
        ] {
            let failure = apply(&[("é--é", 4)], &edits).unwrap_err();
            assert!(failure.contains(rule), "{failure}");
        }
    }
}
