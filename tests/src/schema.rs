//! JSON Schema, as much of it as `docs/schemas` uses: enough to tell whether a document is what its schema says.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// What a schema may say; anything else is refused, so that nothing in it is without effect.
const WORDS: [&str; 13] = [
    "$schema",
    "$id",
    "$defs",
    "$ref",
    "title",
    "description",
    "type",
    "enum",
    "const",
    "properties",
    "required",
    "additionalProperties",
    "items",
];

/// Reads a schema of `docs/schemas`.
///
/// # Errors
/// There is none of that name, or it is no JSON.
pub fn read(name: &str) -> Result<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../docs/schemas/{name}.json"));
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("read {}", path.display()))
}

/// Compares a document with a schema.
///
/// # Errors
/// The first thing in which they differ, with its place.
pub fn check(schema: &Value, document: &Value) -> Result<()> {
    check_at(schema, schema, document, "")
}

fn check_at(root: &Value, schema: &Value, value: &Value, place: &str) -> Result<()> {
    let words = schema.as_object().context("a schema is an object")?;
    if let Some(word) = words.keys().find(|word| !WORDS.contains(&word.as_str())) {
        bail!("{place}: the schema says {word:?}, which is not looked at here");
    }
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        let target = reference
            .strip_prefix('#')
            .and_then(|path| root.pointer(path))
            .with_context(|| format!("{place}: there is no {reference}"))?;
        return check_at(root, target, value, place);
    }
    if let Some(kind) = schema.get("type") {
        let kinds = kind
            .as_array()
            .cloned()
            .unwrap_or_else(|| vec![kind.clone()]);
        let fits = |kind: &Value| kind.as_str().is_some_and(|kind| is_a(kind, value));
        if !kinds.iter().any(fits) {
            bail!("{place}: {value} is no {kind}");
        }
    }
    if let Some(all) = schema.get("enum").and_then(Value::as_array)
        && !all.contains(value)
    {
        bail!("{place}: {value} is none of {all:?}");
    }
    if let Some(only) = schema.get("const")
        && only != value
    {
        bail!("{place}: {value} is not {only}");
    }
    if let Some(fields) = value.as_object() {
        let known = schema.get("properties").and_then(Value::as_object);
        for name in schema
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            if !fields.contains_key(name.as_str().unwrap_or_default()) {
                bail!("{place}: {name} is missing");
            }
        }
        for (name, field) in fields {
            let place = format!("{place}/{name}");
            match known.and_then(|known| known.get(name)) {
                Some(schema) => check_at(root, schema, field, &place)?,
                None if schema.get("additionalProperties") == Some(&Value::Bool(false)) => {
                    bail!("{place} is not in the schema")
                }
                None => {}
            }
        }
    }
    if let Some(items) = schema.get("items") {
        for (index, item) in value.as_array().into_iter().flatten().enumerate() {
            check_at(root, items, item, &format!("{place}/{index}"))?;
        }
    }
    Ok(())
}

fn is_a(kind: &str, value: &Value) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_schema_does_not_say_is_refused() {
        let schema = json!({
            "type": "object", "required": ["a"], "additionalProperties": false,
            "properties": {"a": {"$ref": "#/$defs/list"}, "b": {"type": ["integer", "null"]}, "c": {"enum": ["x"]}},
            "$defs": {"list": {"type": "array", "items": {"type": "string"}}},
        });
        for (document, fault) in [
            (json!({"a": ["x"], "b": null, "c": "x"}), None),
            (json!({"b": 1}), Some("\"a\" is missing")),
            (json!({"a": [1]}), Some("/a/0: 1 is no \"string\"")),
            (
                json!({"a": [], "b": "1"}),
                Some("/b: \"1\" is no [\"integer\",\"null\"]"),
            ),
            (json!({"a": [], "c": "y"}), Some("/c: \"y\" is none of")),
            (json!({"a": [], "d": 1}), Some("/d is not in the schema")),
        ] {
            match (check(&schema, &document), fault) {
                (Ok(()), None) => {}
                (Err(error), Some(fault)) => assert!(error.to_string().contains(fault), "{error}"),
                (result, fault) => panic!("{document}: {result:?}, wanted {fault:?}"),
            }
        }
        let strange = json!({"minimum": 1});
        assert!(
            check(&strange, &json!(2)).is_err(),
            "an unknown word has no effect"
        );
    }
}
