//! A document that fits a JSON Schema: the first enum value, `const` or `default` where there is
//! one, every property in the schema's order, one item an array (more if `minItems` says so),
//! `0` (or the bound) for numbers, `text` for strings, made as long or as short as asked.
//!
//! `$ref` isn't followed and composition takes its first branch, so deep or recursive schemas end.

use serde_json::{Map, Value, json};

/// Deeper than this, everything is null: a schema can't be that deep without being an attack.
const DEPTH: usize = 32;
/// No filler string or array is longer.
const LONGEST: u64 = 256;

/// A document for this schema.
pub(crate) fn document(schema: &Value) -> Value {
    fill(schema, DEPTH)
}

fn fill(schema: &Value, depth: usize) -> Value {
    let Some(depth) = depth.checked_sub(1) else { return Value::Null };
    if let Some(value) =
        schema.get("const").or_else(|| schema.get("default")).or_else(|| schema.pointer("/enum/0"))
    {
        return value.clone();
    }
    if let Some(branch) = ["anyOf", "oneOf", "allOf"].iter().find_map(|name| schema.get(name)?.get(0)) {
        return fill(branch, depth);
    }
    let kind = schema.get("type").and_then(|kind| kind.as_str().or_else(|| kind.get(0)?.as_str()));
    match kind {
        Some("string") => string(schema).into(),
        Some("integer" | "number") => number(schema),
        Some("boolean") => true.into(),
        Some("array") => {
            let wanted = bound(schema, "minItems")
                .unwrap_or(1)
                .max(1)
                .min(bound(schema, "maxItems").unwrap_or(LONGEST));
            let item = schema.get("items").map_or(Value::Null, |items| fill(items, depth));
            (0..wanted.min(LONGEST)).map(|_| item.clone()).collect()
        }
        Some("null") => Value::Null,
        _ => object(schema, depth),
    }
}

fn object(schema: &Value, depth: usize) -> Value {
    let mut object = Map::new();
    let properties = schema.get("properties").and_then(Value::as_object);
    for (name, property) in properties.into_iter().flatten() {
        object.insert(name.clone(), fill(property, depth));
    }
    let required = schema.get("required").and_then(Value::as_array);
    for name in required.into_iter().flatten().filter_map(Value::as_str) {
        object.entry(name).or_insert_with(|| "text".into());
    }
    object.into()
}

fn string(schema: &Value) -> String {
    let text = match schema.get("format").and_then(Value::as_str) {
        Some("date-time") => "2025-01-01T00:00:00Z",
        Some("date") => "2025-01-01",
        Some("time") => "00:00:00Z",
        Some("email") => "echo@example.com",
        Some("uri") => "https://example.com/",
        Some("uuid") => "00000000-0000-4000-8000-000000000000",
        Some("ipv4") => "192.0.2.1",
        _ => "text",
    };
    let least = bound(schema, "minLength").unwrap_or(0).min(LONGEST);
    let most = bound(schema, "maxLength").unwrap_or(LONGEST);
    let length = (text.len() as u64).max(least).min(most);
    text.chars().chain(std::iter::repeat('x')).take(usize::try_from(length).unwrap_or(0)).collect()
}

/// The number nearest to zero within the bounds.
fn number(schema: &Value) -> Value {
    let integer = schema.get("type").and_then(Value::as_str) == Some("integer");
    let limit = |inclusive: &str, exclusive: &str, step: f64| {
        let strict = schema.get(exclusive).and_then(Value::as_f64).map(|limit| limit + step);
        schema.get(inclusive).and_then(Value::as_f64).into_iter().chain(strict).next()
    };
    let step = if integer { 1.0 } else { 0.5 };
    let least = limit("minimum", "exclusiveMinimum", step).unwrap_or(f64::NEG_INFINITY);
    let most = limit("maximum", "exclusiveMaximum", -step).unwrap_or(f64::INFINITY);
    let value = 0.0_f64.max(least).min(most);
    match integer {
        true => json!(value.ceil() as i64),
        false => json!(value),
    }
}

fn bound(schema: &Value, name: &str) -> Option<u64> {
    schema.get(name).and_then(Value::as_u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_has_its_filler() {
        let schema = json!({
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "code": {"type": "string", "minLength": 6, "maxLength": 6},
                "when": {"type": "string", "format": "date"},
                "age": {"type": "integer", "minimum": 18},
                "below": {"type": "integer", "exclusiveMaximum": 0},
                "ratio": {"type": "number"},
                "ok": {"type": "boolean"},
                "color": {"enum": ["red", "green"]},
                "kind": {"const": "k"},
                "maybe": {"type": ["string", "null"]},
                "either": {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
                "list": {"type": "array", "items": {"type": "object", "properties": {"id": {"type": "integer"}}}, "minItems": 2},
                "none": {"type": "null"},
            },
            "required": ["name", "unlisted"],
        });
        assert_eq!(
            document(&schema),
            json!({
                "name": "text", "code": "textxx", "when": "2025-01-01", "age": 18, "below": -1, "ratio": 0.0, "ok": true,
                "color": "red", "kind": "k", "maybe": "text", "either": true, "list": [{"id": 0}, {"id": 0}], "none": null,
                "unlisted": "text",
            })
        );
    }

    #[test]
    fn a_deep_schema_ends() {
        let deep =
            (0..100).fold(json!({"type": "string"}), |inner, _| json!({"type": "array", "items": inner}));
        assert!(document(&deep).to_string().contains("null"));
    }
}
