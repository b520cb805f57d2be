//! Holding a configuration against the JSON Schema of a plugin's manifest.
//!
//! Schemas stand by themselves: a reference outside the document isn't followed. Messages name keys and rules, never
//! the values that break them, which may be somebody's secret put into the wrong place.

use serde_json::Value;

use crate::bindings::common::ConfigProblem;

/// What is told at most.
const MOST: usize = 20;

/// What is wrong with a value by a schema, each with the RFC 6901 pointer to the place; nothing when it is good. A
/// schema that isn't one is itself the problem.
pub fn check(schema: &Value, value: &Value) -> Vec<ConfigProblem> {
    let validator = match jsonschema::options().build(schema) {
        Ok(validator) => validator,
        Err(error) => {
            let message = format!("the plugin's schema can't be used: {}", error.masked());
            return vec![ConfigProblem { pointer: String::new(), message }];
        }
    };
    let problems = validator.iter_errors(value).take(MOST).map(|error| ConfigProblem {
        pointer: error.instance_path().to_string(),
        message: error.masked().to_string(),
    });
    problems.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn problems_name_the_place_and_no_value() {
        let schema = json!({"type": "object", "additionalProperties": false, "required": ["a"],
            "properties": {"a": {"type": "array", "items": {"type": "integer", "minimum": 1}}}});
        assert!(check(&schema, &json!({"a": [1, 2]})).is_empty());
        let problems = check(&schema, &json!({"a": [1, "hunter2"]}));
        assert_eq!((problems.len(), problems[0].pointer.as_str()), (1, "/a/1"));
        assert!(!problems[0].message.contains("hunter2"), "{}", problems[0].message);
        assert!(check(&schema, &json!({"a": [], "b": 1}))[0].message.contains('b'));
        assert!(check(&schema, &json!({}))[0].message.contains('a'));
        assert!(check(&json!({"type": "nothing"}), &json!({}))[0].message.contains("schema"));
        // Nothing outside is fetched.
        assert!(!check(&json!({"$ref": "http://127.0.0.1:1/x"}), &json!({})).is_empty());
    }
}
