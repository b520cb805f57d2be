//! Gemini's schemas (a part of OpenAPI 3.0: types in capitals, `nullable`) as JSON Schema.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec;

use brokle_plugin::Problem;
use brokle_plugin::dialect::parse;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

pub(super) fn to_json_schema(schema: &RawValue, param: &str) -> Result<Box<RawValue>, Problem> {
    let mut schema: Value = parse(schema, param)?;
    translate(&mut schema);
    to_raw_value(&schema).map_err(|_| Problem::invalid(param, "The schema can't be written."))
}

/// In place. Depth is bounded by the parser's.
fn translate(schema: &mut Value) {
    let Some(members) = schema.as_object_mut() else { return };
    members.remove("propertyOrdering");
    let nullable = members.remove("nullable") == Some(Value::Bool(true));
    if let Some(Value::String(kind)) = members.get_mut("type") {
        kind.make_ascii_lowercase();
        if nullable {
            let kind: String = core::mem::take(kind);
            members.insert("type".to_owned(), Value::Array(vec![kind.into(), "null".into()]));
        }
    }
    for name in ["minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"] {
        // Its numbers of 64 bits are texts.
        let number = members.get(name).and_then(Value::as_str).and_then(|text| text.parse::<u64>().ok());
        if let Some(number) = number {
            members.insert(name.to_owned(), number.into());
        }
    }
    if let Some(Value::Object(properties)) = members.get_mut("properties") {
        properties.values_mut().for_each(translate);
    }
    if let Some(items) = members.get_mut("items") {
        translate(items);
    }
    if let Some(Value::Array(some)) = members.get_mut("anyOf") {
        some.iter_mut().for_each(translate);
    }
}
