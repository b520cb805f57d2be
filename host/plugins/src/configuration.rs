//! What a configuration must look like: the manifest's JSON Schema first, then the component's own check.
//!
//! - A problem names its key by an RFC 6901 pointer, and never repeats a value.
//! - A property that the schema marks `"writeOnly": true` is a secret. It is written as a reference,
//!   `{"$secret": "name"}`, and nothing else; the host resolves it at use, so no configuration holds a secret. A reference
//!   anywhere else is a problem.
//! - A component without a schema takes no configuration but `{}`.
//! - A schema refers to itself only (`#/…`): nothing is fetched. Its patterns run in linear time.

use jsonschema::error::ValidationErrorKind;
use jsonschema::{PatternOptions, ValidationError, Validator};
use serde::Serialize;
use serde_json::{Map, Value};

/// The largest configuration: 64 KiB of JSON.
pub const MAX_CONFIG: usize = 64 << 10;
/// Problems that are told at once.
const MAX_PROBLEMS: usize = 32;
/// How deep references within a schema are followed.
const MAX_DEPTH: usize = 32;

/// One thing wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The key, as an RFC 6901 pointer; empty for the whole document.
    pub pointer: String,
    /// What is wrong.
    pub message: String,
}

impl Problem {
    /// A problem at a pointer.
    pub fn new(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), message: message.into() }
    }

    /// A problem at a member of what the pointer names.
    pub fn at(parent: &str, key: &str, message: impl Into<String>) -> Self {
        Self::new(format!("{parent}/{}", key.replace('~', "~0").replace('/', "~1")), message)
    }
}

/// Can this schema be used at all?
///
/// # Errors
/// What is wrong with it.
pub fn compile(schema: &Value) -> Result<Validator, String> {
    jsonschema::options()
        .offline()
        .with_pattern_options(PatternOptions::regex())
        .build(schema)
        .map_err(|error| error.to_string())
}

/// Holds a configuration against a manifest's schema. No problems: it fits.
#[must_use]
pub fn check(schema: Option<&Value>, config: &Value) -> Vec<Problem> {
    let Some(object) = config.as_object() else {
        return vec![Problem::new("", "an object is expected")];
    };
    let Some(schema) = schema else {
        return object
            .keys()
            .map(|key| Problem::at("", key, "this component takes no configuration"))
            .collect();
    };
    let validator = match compile(schema) {
        Ok(validator) => validator,
        Err(error) => {
            return vec![Problem::new("", format!("the component's schema can't be used: {error}"))];
        }
    };
    let mut walk = Walk { root: schema, secrets: Vec::new(), problems: Vec::new() };
    let plain = walk.value(schema, config, "", 0);
    let Walk { secrets, mut problems, .. } = walk;
    let told = validator.iter_errors(&plain).flat_map(|error| describe(&error));
    problems.extend(told.filter(|problem| !secrets.contains(&problem.pointer)).take(MAX_PROBLEMS));
    problems.truncate(MAX_PROBLEMS);
    problems
}

/// Holds a connection's options against a provider's schema; without one, anything goes.
#[must_use]
pub fn check_options(schema: Option<&Value>, options: &Map<String, Value>) -> Vec<Problem> {
    let Some(schema) = schema else { return Vec::new() };
    match compile(schema) {
        Ok(validator) => {
            let options = Value::Object(options.clone());
            validator.iter_errors(&options).flat_map(|error| describe(&error)).take(MAX_PROBLEMS).collect()
        }
        Err(error) => vec![Problem::new("", format!("the provider's schema can't be used: {error}"))],
    }
}

/// The key that an error is about is more than where it was found when a key is missing or too much.
fn describe(error: &ValidationError<'_>) -> Vec<Problem> {
    let pointer = error.instance_path().as_str();
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            unexpected.iter().map(|key| Problem::at(pointer, key, "there is no such key")).collect()
        }
        ValidationErrorKind::Required { property } => {
            vec![Problem::at(pointer, property.as_str().unwrap_or_default(), "this key is required")]
        }
        _ => vec![Problem::new(pointer, error.masked().to_string())],
    }
}

/// The name in a reference to a secret.
fn reference(value: &Value) -> Option<&Value> {
    value.as_object().and_then(|object| object.get("$secret"))
}

fn is_well_formed(value: &Value) -> bool {
    let plain = |name: &str| {
        (1..=128).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    let alone = value.as_object().is_some_and(|object| object.len() == 1);
    alone && reference(value).and_then(Value::as_str).is_some_and(plain)
}

/// Walks schema and configuration side by side, looking for secrets.
struct Walk<'a> {
    root: &'a Value,
    secrets: Vec<String>,
    problems: Vec<Problem>,
}

impl Walk<'_> {
    /// The value with an empty text in each secret's place, for the validator.
    fn value(&mut self, schema: &Value, value: &Value, pointer: &str, depth: usize) -> Value {
        let schema = self.follow(schema, depth);
        if schema.get("writeOnly") == Some(&Value::Bool(true)) {
            self.secrets.push(pointer.to_owned());
            if !is_well_formed(value) {
                let message = "a secret is written as {\"$secret\": \"name\"}, never as itself";
                self.problems.push(Problem::new(pointer, message));
            }
            return Value::String(String::new());
        }
        match value {
            Value::Object(object) => {
                if reference(value).is_some() {
                    self.problems.push(Problem::new(pointer, "no secret is expected here"));
                }
                let member = |(key, value): (&String, &Value)| {
                    let inner = schema.get("properties").and_then(|properties| properties.get(key));
                    let inner = inner.or_else(|| schema.get("additionalProperties")).unwrap_or(&Value::Null);
                    let at = Problem::at(pointer, key, "").pointer;
                    (key.clone(), self.value(inner, value, &at, depth + 1))
                };
                Value::Object(object.iter().map(member).collect())
            }
            Value::Array(items) => {
                let inner = schema.get("items").unwrap_or(&Value::Null);
                let item = |(index, value): (usize, &Value)| {
                    self.value(inner, value, &format!("{pointer}/{index}"), depth + 1)
                };
                Value::Array(items.iter().enumerate().map(item).collect())
            }
            other => other.clone(),
        }
    }

    /// What a chain of `$ref`s within the schema leads to.
    fn follow(&self, schema: &Value, depth: usize) -> Value {
        let mut schema = schema;
        for _ in depth..MAX_DEPTH {
            let Some(pointer) = schema.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix('#'))
            else {
                break;
            };
            let Some(next) = self.root.pointer(pointer) else { break };
            schema = next;
        }
        schema.clone()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn problems(config: &Value) -> Vec<(String, String)> {
        let schema = json!({
            "type": "object", "additionalProperties": false, "required": ["level"],
            "properties": {
                "level": { "type": "integer", "minimum": 1 },
                "a/b": { "type": "string", "pattern": "^x+$" },
                "token": { "$ref": "#/$defs/secret" },
                "rules": { "type": "array", "items": { "type": "object", "required": ["name"] } },
            },
            "$defs": { "secret": { "type": "string", "minLength": 8, "writeOnly": true } },
        });
        check(Some(&schema), config).into_iter().map(|problem| (problem.pointer, problem.message)).collect()
    }

    #[test]
    fn a_problem_points_at_its_key() {
        assert_eq!(problems(&json!({"level": 1, "a/b": "xx", "token": {"$secret": "acme.token"}})), []);
        for (config, pointer) in [
            (json!({}), "/level"),
            (json!({"level": 0}), "/level"),
            (json!({"level": 1, "a/b": "y"}), "/a~1b"),
            (json!({"level": 1, "colour": 1}), "/colour"),
            (json!({"level": 1, "rules": [{"name": 1}, {}]}), "/rules/1/name"),
            (json!([]), ""),
        ] {
            let found = problems(&config);
            assert_eq!(found.len(), 1, "{config}: {found:?}");
            assert_eq!(found[0].0, pointer, "{config}");
        }
    }

    #[test]
    fn a_secret_is_a_reference_and_is_never_repeated() {
        for config in [
            json!({"level": 1, "token": "hunter2-hunter2"}),
            json!({"level": 1, "token": {"$secret": "a", "more": "hunter2"}}),
            json!({"level": 1, "token": {"$secret": "hunter2 with spaces"}}),
        ] {
            let found = problems(&config);
            assert_eq!((found.len(), found[0].0.as_str()), (1, "/token"), "{found:?}");
            assert!(!found[0].1.contains("hunter2"), "{found:?}");
        }
        let misplaced = problems(&json!({"level": {"$secret": "a"}}));
        assert!(misplaced.iter().any(|(pointer, text)| pointer == "/level" && text.contains("no secret")));
        let wrong = problems(&json!({"level": "hunter2"}));
        assert!(wrong.iter().all(|(_, text)| !text.contains("hunter2")), "{wrong:?}");
    }

    #[test]
    fn without_a_schema_there_is_nothing_to_configure() {
        assert_eq!(check(None, &json!({})), []);
        assert_eq!(check(None, &json!({"x": 1}))[0].pointer, "/x");
    }

    #[test]
    fn a_schema_fetches_nothing_and_runs_in_linear_time() {
        assert!(compile(&json!({"$ref": "http://127.0.0.1:1/schema.json"})).is_err());
        assert!(compile(&json!({"$ref": "file:///etc/passwd"})).is_err());
        assert!(compile(&json!({"pattern": "(?=a)b"})).is_err(), "no look-around, no back-references");
    }
}
