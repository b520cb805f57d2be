//! The journal over HTTP, for suites in other languages.

use crate::{Fault, Seen, answer::Answer, journal::Journal};
use serde_json::{Value, json};

/// The answer to a control request; nothing when it isn't one.
pub(crate) fn control(journal: &Journal, seen: &Seen) -> Option<Answer> {
    let answer = match (seen.method.as_str(), seen.route()) {
        ("GET", "/__requests") => {
            let requests = journal.requests();
            let disconnects = requests.iter().filter(|seen| seen.client_left()).count();
            let requests: Vec<Value> = requests.iter().map(Seen::to_json).collect();
            json!({"requests": requests, "disconnects": disconnects})
        }
        ("POST", "/__reset") => {
            journal.reset();
            json!({"ok": true})
        }
        ("POST", "/__script") => match script(journal, seen) {
            Ok(count) => json!({"ok": true, "added": count}),
            Err(why) => {
                return Some(Answer::json(json!({"error": {"message": why}}).to_string()).with_status(400));
            }
        },
        _ => return None,
    };
    Some(Answer::json(answer.to_string()))
}

fn script(journal: &Journal, seen: &Seen) -> Result<usize, String> {
    let body = seen.json().ok_or("the body must be JSON")?;
    let lines = body.get("faults").and_then(Value::as_array).ok_or("\"faults\" must be a list of texts")?;
    let key = match body.get("key") {
        None | Some(Value::Null) => None,
        Some(Value::String(key)) => Some(key.clone()),
        Some(_) => return Err("\"key\" must be a text".into()),
    };
    let faults = lines.iter().map(|line| {
        let line = line.as_str().ok_or("\"faults\" must be a list of texts")?;
        line.parse::<Fault>().map_err(|error| error.to_string())
    });
    let faults = faults.collect::<Result<Vec<_>, String>>()?;
    let count = faults.len();
    journal.script(key, faults);
    Ok(count)
}
