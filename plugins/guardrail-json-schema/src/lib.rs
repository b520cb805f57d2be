//! Holds structured answers against a schema: the configured one, else that of the request's `response_format`.
//!
//! - `response_format: json_schema`: the answer must be JSON that fits the schema; `json_object`: a JSON object; any
//!   other request, without a configured schema: nothing is checked.
//! - A refusal, and an answer that calls tools, have no structured content to check.
//! - An answer that doesn't fit is repaired once: the model is told what is wrong, by place and rule, never by value.
//! - In a stream the text goes on as it comes, and an answer that doesn't fit ends with the block instead of its
//!   finish reason. What was sent can't be taken back.
//! - A schema refers to itself only; nothing is fetched.

use std::collections::BTreeMap;

use brokle_plugin::guardrail::*;
use brokle_plugin::{ConfigProblem, Description, host};
use jsonschema::{PatternOptions, Validator};
use serde::Deserialize;
use serde_json::Value;

/// The validator's hash tables want a seed. An instance lives for one answer, so the standard library's will do.
#[cfg(target_arch = "wasm32")]
#[expect(
    unsafe_code,
    reason = "getrandom's name for a source of one's own, called with a buffer of this length"
)]
#[unsafe(no_mangle)]
unsafe extern "Rust" fn __getrandom_v03_custom(to: *mut u8, length: usize) -> Result<(), getrandom::Error> {
    use std::hash::{BuildHasher, RandomState};
    // SAFETY: the caller gives a buffer of this length to be written.
    let buffer = unsafe {
        std::ptr::write_bytes(to, 0, length);
        std::slice::from_raw_parts_mut(to, length)
    };
    let source = RandomState::new();
    for (index, byte) in buffer.iter_mut().enumerate() {
        *byte = source.hash_one(index).to_le_bytes()[0];
    }
    Ok(())
}

/// What the model is told of at most.
const MOST: usize = 8;
/// What a stream's answer may have at most: 4 MiB.
const LONGEST: usize = 4 << 20;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Config {
    schema: Option<Value>,
    repair: Option<bool>,
}

/// What an answer must be.
enum Expected {
    Anything,
    Object,
    Fitting(Box<Validator>),
}

struct Structured {
    config: Config,
    expected: Option<Expected>,
    /// A stream's contents so far.
    seen: BTreeMap<String, String>,
}

fn compile(schema: &Value) -> Result<Validator, String> {
    let built = jsonschema::options().offline().with_pattern_options(PatternOptions::regex()).build(schema);
    built.map_err(|error| error.masked().to_string())
}

impl Expected {
    fn of(config: &Config, format: Option<Value>) -> Result<Self, Failure> {
        let fitting = |schema: &Value, whose: &str| match compile(schema) {
            Ok(validator) => Ok(Self::Fitting(Box::new(validator))),
            Err(error) => Err(Failure::Other(format!("{whose} schema can't be used: {error}"))),
        };
        if let Some(schema) = &config.schema {
            return fitting(schema, "the configured");
        }
        let format = format.unwrap_or_default();
        match format.get("type").and_then(Value::as_str) {
            Some("json_object") => Ok(Self::Object),
            Some("json_schema") => match format.pointer("/json_schema/schema") {
                Some(schema) => fitting(schema, "the request's"),
                None => Ok(Self::Object),
            },
            _ => Ok(Self::Anything),
        }
    }

    /// What is wrong with an answer.
    fn problems(&self, text: &str) -> Vec<String> {
        if matches!(self, Self::Anything) {
            return Vec::new();
        }
        let value: Value = match serde_json::from_str(text) {
            Ok(value) => value,
            Err(error) => {
                return vec![format!("it isn't JSON (line {}, column {})", error.line(), error.column())];
            }
        };
        match self {
            Self::Fitting(validator) => validator
                .iter_errors(&value)
                .take(MOST)
                .map(|error| {
                    let place = error.instance_path().to_string();
                    let place = if place.is_empty() { "the document" } else { &place };
                    format!("{place}: {}", error.masked())
                })
                .collect(),
            _ if value.is_object() => Vec::new(),
            _ => vec!["the document: an object is expected".into()],
        }
    }
}

/// Whether a text is an answer's content.
fn is_answer(pointer: &str) -> bool {
    let rest = pointer.strip_prefix("/choices/").and_then(|rest| rest.split_once('/'));
    rest.is_some_and(|(_, place)| matches!(place, "message/content" | "text"))
}

fn blocked(problems: &[String]) -> Ruling {
    let reason = format!("The model's answer doesn't fit the schema: {}.", problems.join("; "));
    Ruling::block("invalid_structure", reason).annotate("schema.problems", &problems.len())
}

impl Guardrail for Structured {
    fn describe() -> Description {
        Description::guardrail(["response"])
    }

    fn new() -> Result<Self, Failure> {
        let config = host::config().map_err(|error| Failure::config(&error))?;
        Ok(Self { config, expected: None, seen: BTreeMap::new() })
    }

    fn check_config(config: Value) -> Result<(), Vec<ConfigProblem>> {
        let Some(schema) = config.get("schema") else { return Ok(()) };
        let problem = |message| vec![ConfigProblem { pointer: "/schema".into(), message }];
        compile(schema).map(drop).map_err(problem)
    }

    fn on_response(&mut self, call: &Call, request: &Document, texts: &[Text]) -> Result<Ruling, Failure> {
        let expected = Expected::of(&self.config, request.value("/response_format"))?;
        let answers = texts.iter().filter(|text| is_answer(&text.pointer));
        let problems: Vec<String> = answers.flat_map(|text| expected.problems(&text.value)).collect();
        if problems.is_empty() {
            return Ok(Ruling::allow());
        }
        if call.retries > 0 || !self.config.repair.unwrap_or(true) {
            return Ok(blocked(&problems));
        }
        let instruction = format!(
            "Your answer doesn't fit the JSON schema that was asked for:\n- {}\nAnswer again with the corrected JSON and nothing else.",
            problems.join("\n- ")
        );
        Ok(Ruling::retry(instruction).annotate("schema.problems", &problems.len()))
    }

    fn on_chunk(
        &mut self,
        _: &Call,
        request: &Document,
        fragments: &[Fragment],
        _: bool,
    ) -> Result<StreamRuling, Failure> {
        for fragment in fragments.iter().filter(|fragment| is_answer(&fragment.pointer)) {
            let seen = self.seen.entry(fragment.pointer.clone()).or_default();
            seen.push_str(&fragment.value);
            if seen.len() > LONGEST {
                return Err(Failure::Other("the answer is too long to be checked".into()));
            }
            if fragment.last {
                let expected = match self.expected.take() {
                    Some(expected) => expected,
                    None => Expected::of(&self.config, request.value("/response_format"))?,
                };
                let problems = expected.problems(seen);
                self.expected = Some(expected);
                if !problems.is_empty() {
                    return Ok(blocked(&problems).into());
                }
            }
        }
        Ok(Ruling::allow().into())
    }
}

brokle_plugin::export!(guardrail: Structured);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn problems(format: Value, text: &str) -> Vec<String> {
        Expected::of(&Config::default(), Some(format)).unwrap().problems(text)
    }

    #[test]
    fn the_request_says_what_is_expected() {
        let schema = json!({"type": "json_schema", "json_schema": {"name": "n", "schema": {
            "type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}}});
        assert!(problems(schema.clone(), r#"{"a":1}"#).is_empty());
        let wrong = problems(schema.clone(), r#"{"a":"my secret"}"#);
        assert!(wrong[0].starts_with("/a: ") && !wrong[0].contains("secret"), "{wrong:?}");
        assert!(problems(schema, "no json")[0].contains("isn't JSON"));
        assert!(problems(json!({"type": "json_object"}), "{}").is_empty());
        assert_eq!(problems(json!({"type": "json_object"}), "[]").len(), 1);
        assert!(problems(json!({"type": "text"}), "no json").is_empty());
        assert!(problems(Value::Null, "no json").is_empty());
    }

    #[test]
    fn a_schema_fetches_nothing() {
        let format =
            json!({"type": "json_schema", "json_schema": {"schema": {"$ref": "http://127.0.0.1:1/s"}}});
        assert!(Expected::of(&Config::default(), Some(format)).is_err());
    }

    #[test]
    fn only_contents_are_answers() {
        assert!(is_answer("/choices/0/message/content") && is_answer("/choices/12/text"));
        assert!(
            !is_answer("/choices/0/message/refusal")
                && !is_answer("/choices/0/message/tool_calls/0/function/arguments")
        );
    }
}
