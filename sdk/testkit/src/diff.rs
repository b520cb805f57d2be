//! Differences between JSON values, one line each, by their place.

use serde_json::Value;

/// Lines beyond this are counted, not shown: whoever mends the first will see the rest.
const MOST: usize = 20;

/// Where two values differ: `/choices/0/message/content: expected "Hi", came "Hello"`. Nothing when they are equal.
pub(crate) fn diff(expected: &Value, came: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    walk("", expected, came, &mut lines);
    if let Some(more) = lines.len().checked_sub(MOST).filter(|more| *more > 0) {
        lines.truncate(MOST);
        lines.push(format!("… and {more} more"));
    }
    lines
}

fn walk(at: &str, expected: &Value, came: &Value, lines: &mut Vec<String>) {
    match (expected, came) {
        _ if expected == came => {}
        (Value::Object(expected), Value::Object(came)) => {
            for (name, value) in expected {
                let at = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
                match came.get(name) {
                    Some(came) => walk(&at, value, came, lines),
                    None => lines.push(format!("{at}: expected {value}, nothing came")),
                }
            }
            for (name, value) in came.iter().filter(|(name, _)| !expected.contains_key(*name)) {
                lines.push(format!("{at}/{name}: not expected, came {value}"));
            }
        }
        (Value::Array(expected), Value::Array(came)) => {
            for index in 0..expected.len().max(came.len()) {
                match (expected.get(index), came.get(index)) {
                    (Some(expected), Some(came)) => walk(&format!("{at}/{index}"), expected, came, lines),
                    (Some(expected), None) => {
                        lines.push(format!("{at}/{index}: expected {expected}, nothing came"));
                    }
                    (None, Some(came)) => lines.push(format!("{at}/{index}: not expected, came {came}")),
                    (None, None) => {}
                }
            }
        }
        _ => {
            let at = if at.is_empty() { "(whole)" } else { at };
            lines.push(format!("{at}: expected {expected}, came {came}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::diff;

    #[test]
    fn differences_are_named_by_their_place() {
        let expected = json!({"a": [1, {"b": "x"}], "gone": true, "same": null});
        let came = json!({"a": [1, {"b": "y"}, 3], "same": null, "new/one": 1});
        assert_eq!(
            diff(&expected, &came),
            [
                r#"/a/1/b: expected "x", came "y""#,
                "/a/2: not expected, came 3",
                "/gone: expected true, nothing came",
                "/new/one: not expected, came 1",
            ]
        );
        assert!(diff(&expected, &expected).is_empty());
        assert_eq!(diff(&json!(1), &json!("1")), [r#"(whole): expected 1, came "1""#]);
    }

    #[test]
    fn long_lists_are_cut() {
        let lines = diff(&json!([]), &json!(vec![0; 30]));
        assert_eq!((lines.len(), lines.last().unwrap().as_str()), (21, "… and 10 more"));
    }
}
