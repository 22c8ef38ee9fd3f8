//! A payload that a schema allows, in which no two values of a kind are equal, so that an exchange of fields shows.

use serde_json::{Map, Value, json};

/// How deep a payload is nested before lists stay empty.
const DEPTH: usize = 12;

/// A payload of the shape `schema`, whose `$defs` are in it.
pub(crate) fn sample(schema: &Value) -> Value {
    Sampler { root: schema, next: 0 }.value(schema, 0)
}

struct Sampler<'a> {
    root: &'a Value,
    next: u64,
}

impl<'a> Sampler<'a> {
    fn number(&mut self) -> u64 {
        self.next = self.next % 100 + 1;
        self.next
    }

    fn value(&mut self, schema: &'a Value, depth: usize) -> Value {
        if let Some(example) = schema["examples"].get(0) {
            return example.clone();
        }
        if let Some(value) = schema.get("const").or_else(|| schema["enum"].get(0)) {
            return value.clone();
        }
        if let Some(name) = schema["$ref"].as_str() {
            return self.value(self.resolve(name), depth + 1);
        }
        for union in ["oneOf", "anyOf"] {
            if let Some(branches) = schema[union].as_array() {
                return self.branch(branches, depth);
            }
        }
        match kind(schema, depth) {
            Some("string") => self.text(schema["format"].as_str()),
            Some("integer") => self.integer(schema),
            Some("number") => json!(f64::from(u8::try_from(self.number()).unwrap_or(1)) + 0.5),
            Some("boolean") => json!(self.number() % 2 == 1),
            Some("array") => self.list(schema, depth),
            Some("object") => self.object(schema, depth),
            _ => Value::Null,
        }
    }

    fn resolve(&self, name: &str) -> &'a Value {
        name.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer)).unwrap_or(&Value::Null)
    }

    /// The first branch that is not null; deep inside, null if that is allowed, because types may be recursive.
    fn branch(&mut self, branches: &'a [Value], depth: usize) -> Value {
        let is_null = |branch: &&Value| branch["type"] == "null";
        let null = branches.iter().find(is_null).filter(|_| depth > DEPTH);
        let branch = null.or_else(|| branches.iter().find(|branch| !is_null(branch)));
        branch.map_or(Value::Null, |branch| self.value(branch, depth + 1))
    }

    fn text(&mut self, format: Option<&str>) -> Value {
        let number = self.number();
        match format {
            Some("date") => json!(format!("2026-01-{:02}", number % 28 + 1)),
            Some("time") => json!(format!("03:04:{:02}", number % 60)),
            Some("date-time") => json!(format!("2026-01-02T03:04:{:02}Z", number % 60)),
            Some("duration") => json!(format!("PT{number}S")),
            Some("uuid") => json!(format!("00000000-0000-4000-8000-{number:012}")),
            Some("uri") => json!(format!("https://example.org/{number}")),
            Some("ipv4" | "ip") => json!(format!("192.0.2.{number}")),
            Some("ipv6") => json!(format!("2001:db8::{number}")),
            _ => json!(format!("text {number}")),
        }
    }

    fn integer(&mut self, schema: &Value) -> Value {
        let number = i64::try_from(self.number()).unwrap_or(1);
        let number = schema["minimum"].as_i64().map_or(number, |least| number.max(least));
        json!(schema["maximum"].as_i64().map_or(number, |most| number.min(most)))
    }

    fn list(&mut self, schema: &'a Value, depth: usize) -> Value {
        if let Some(items) = schema["prefixItems"].as_array() {
            return items.iter().map(|item| self.value(item, depth + 1)).collect();
        }
        let least = schema["minItems"].as_u64().unwrap_or(u64::from(depth <= DEPTH));
        (0..least.min(64)).map(|_| self.value(&schema["items"], depth + 1)).collect()
    }

    fn object(&mut self, schema: &'a Value, depth: usize) -> Value {
        let mut object = Map::new();
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            object.insert(name.clone(), self.value(property, depth + 1));
        }
        if depth <= DEPTH {
            if let Some(values) = schema.get("additionalProperties").filter(|values| values.is_object()) {
                object.insert(format!("key {}", self.number()), self.value(values, depth + 1));
            }
            // A map whose keys are numbers.
            for (pattern, values) in schema["patternProperties"].as_object().into_iter().flatten() {
                if pattern.contains(r"\d") {
                    object.insert(self.number().to_string(), self.value(values, depth + 1));
                }
            }
        }
        Value::Object(object)
    }
}

/// The type of a value; of several, the first that is not null, or null deep inside.
fn kind(schema: &Value, depth: usize) -> Option<&str> {
    match &schema["type"] {
        Value::String(kind) => Some(kind),
        Value::Array(kinds) if depth > DEPTH && kinds.iter().any(|kind| kind == "null") => None,
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null"),
        _ => None,
    }
}
