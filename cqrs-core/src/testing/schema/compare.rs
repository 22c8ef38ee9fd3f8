//! Whether every payload that one schema allows is read by another.
//!
//! In doubt it reports a problem.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// Parts of payloads of shape `old` that a program with shape `new` would not read, or would ignore; empty if it reads
/// all of them.
pub(crate) fn problems(old: &Value, new: &Value) -> Vec<String> {
    let mut comparison =
        Comparison { old_root: old, new_root: new, compared: BTreeSet::new(), problems: Vec::new() };
    comparison.schemas("", old, new);
    comparison.problems
}

#[derive(Clone)]
struct Comparison<'a> {
    old_root: &'a Value,
    new_root: &'a Value,
    /// The pairs of references that were followed, because types may be recursive.
    compared: BTreeSet<(String, String)>,
    problems: Vec<String>,
}

impl<'a> Comparison<'a> {
    fn problem(&mut self, path: &str, what: &str) {
        let path = if path.is_empty() { "the payload" } else { path };
        self.problems.push(format!("`{path}` {what}"));
    }

    fn schemas(&mut self, path: &str, old: &'a Value, new: &'a Value) {
        // Definitions are listed beside the shape and are no part of it.
        if old == new && !has_references(old) || is_anything(new) {
            return;
        }
        if old.get("$ref").is_some() || new.get("$ref").is_some() {
            let pair = (old["$ref"].to_string(), new["$ref"].to_string());
            let both = old.get("$ref").is_some() && new.get("$ref").is_some();
            if !both || self.compared.insert(pair) {
                self.schemas(path, resolve(self.old_root, old), resolve(self.new_root, new));
            }
            return;
        }
        match (branches(old), branches(new)) {
            (Some(old), Some(new)) => old.iter().for_each(|old| self.branch(path, old, new)),
            (Some(old), None) => old.iter().for_each(|old| self.schemas(path, old, new)),
            (None, Some(new)) => self.branch(path, old, new),
            (None, None) => self.plain(path, old, new),
        }
    }

    /// One form of a value, which one of the new forms has to read.
    fn branch(&mut self, path: &str, old: &'a Value, forms: &'a [Value]) {
        // Variants without fields may be one form together.
        if let Some(values) = values(old) {
            for value in values {
                if !forms.iter().any(|form| allows(resolve(self.new_root, form), value)) {
                    self.problem(path, &format!("could be {value}, which is not read any more"));
                }
            }
            return;
        }
        let tried = forms.iter().map(|form| {
            let mut attempt = Self { problems: Vec::new(), ..self.clone() };
            attempt.schemas(path, old, form);
            attempt.problems
        });
        let tried: Vec<_> = tried.collect();
        if tried.iter().any(Vec::is_empty) {
            return;
        }
        let tag = tag(old);
        let same = forms.iter().position(|form| tag.is_some() && self::tag(form) == tag);
        match (same, tag) {
            (Some(same), _) => self.problems.extend(tried.into_iter().nth(same).into_iter().flatten()),
            (None, Some(tag)) => self.problem(path, &format!("could be `{tag}`, which is not read any more")),
            (None, None) => {
                self.problem(path, &format!("could be {}, which is not read any more", kind(old)));
            }
        }
    }

    fn plain(&mut self, path: &str, old: &'a Value, new: &'a Value) {
        if let Some(values) = values(old) {
            for value in values {
                if !allows(new, value) {
                    self.problem(path, &format!("could be {value}, which is not read any more"));
                }
            }
            return;
        }
        let (old_types, new_types) = (types(old), types(new));
        let is_read =
            |kind: &str| new_types.contains(&kind) || kind == "integer" && new_types.contains(&"number");
        if values(new).is_some()
            || !new_types.is_empty() && (old_types.is_empty() || !old_types.iter().all(|kind| is_read(kind)))
        {
            self.problem(path, &format!("was {} and is {}", kind(old), kind(new)));
            return;
        }
        self.numbers(path, old, new);
        self.texts(path, old, new);
        self.lists(path, old, new);
        self.objects(path, old, new);
        self.rest(path, old, new);
    }

    fn numbers(&mut self, path: &str, old: &Value, new: &Value) {
        let types = types(old);
        let is_float = |schema: &Value| schema["format"] == "float" || schema["format"] == "double";
        let (old_range, new_range) = (range(old), range(new));
        let narrower = types.contains(&"integer")
            && !is_float(new)
            && (old_range.0 < new_range.0 || old_range.1 > new_range.1);
        let less_precise = types.contains(&"number") && new["format"] == "float" && old["format"] != "float";
        if narrower || less_precise {
            self.problem(path, &format!("was {} and is {}, which reads less", kind(old), kind(new)));
        }
    }

    fn texts(&mut self, path: &str, old: &Value, new: &Value) {
        let is_text = types(old).contains(&"string");
        let format = new.get("format").filter(|format| is_text && old.get("format") != Some(format));
        if format.is_some() {
            self.problem(path, &format!("was {} and is {}", kind(old), kind(new)));
        }
    }

    fn lists(&mut self, path: &str, old: &'a Value, new: &'a Value) {
        let items = |schema: &'a Value| schema["prefixItems"].as_array();
        match (items(old), items(new)) {
            (Some(old), Some(new)) if old.len() == new.len() => {
                for (index, (old, new)) in old.iter().zip(new).enumerate() {
                    self.schemas(&format!("{path}[{index}]"), old, new);
                }
            }
            (None, None) => {}
            _ => return self.problem(path, "has another number of parts"),
        }
        if let (Some(old), Some(new)) = (old.get("items"), new.get("items")) {
            self.schemas(&format!("{path}[]"), old, new);
        }
    }

    fn objects(&mut self, path: &str, old: &'a Value, new: &'a Value) {
        let (before, after) = (properties(old), properties(new));
        let inside = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        for (name, old) in before.into_iter().flatten() {
            match after.and_then(|after| after.get(name)) {
                Some(new) => self.schemas(&inside(name), old, new),
                None if is_map(new) => self.schemas(&inside(name), old, &new["additionalProperties"]),
                None => self.problem(&inside(name), "is gone: what is stored in it would be passed over"),
            }
        }
        let required = |schema: &'a Value| schema["required"].as_array().into_iter().flatten();
        for name in required(new).filter(|name| required(old).all(|other| other != *name)) {
            let name = inside(name.as_str().unwrap_or_default());
            self.problem(&name, "is required, and there are stored events without it");
        }
        if is_map(old) {
            self.schemas(&format!("{path}{{}}"), &old["additionalProperties"], &new["additionalProperties"]);
        }
        // Maps whose keys are numbers.
        for (pattern, old) in old["patternProperties"].as_object().into_iter().flatten() {
            match new["patternProperties"].get(pattern) {
                Some(new) => self.schemas(&format!("{path}{{}}"), old, new),
                None => self.problem(path, "is a map with other keys"),
            }
        }
    }

    /// Keywords that only restrict: each must be unchanged, or removed.
    fn rest(&mut self, path: &str, old: &Value, new: &Value) {
        const COMPARED: [&str; 13] = [
            "$defs",
            "type",
            "format",
            "const",
            "enum",
            "minimum",
            "maximum",
            "items",
            "prefixItems",
            "properties",
            "required",
            "additionalProperties",
            "patternProperties",
        ];
        let is_new = |(keyword, value): &(&String, &Value)| {
            !COMPARED.contains(&keyword.as_str()) && old.get(keyword.as_str()) != Some(value)
        };
        for (keyword, value) in new.as_object().into_iter().flatten().filter(is_new) {
            let before = old.get(keyword).map_or_else(|| "nothing".to_owned(), Value::to_string);
            // The number of parts of a tuple was compared; a list of fixed length is a tuple as well.
            self.problem(
                path,
                &format!("is restricted in another way: {keyword} was {before} and is {value}"),
            );
        }
    }
}

/// Whether a schema allows everything: `true`, or an empty object.
fn is_anything(schema: &Value) -> bool {
    schema == &Value::Bool(true) || schema.as_object().is_some_and(Map::is_empty)
}

fn has_references(schema: &Value) -> bool {
    match schema {
        Value::Object(members) => members
            .iter()
            .any(|(keyword, value)| keyword == "$ref" || keyword != "$defs" && has_references(value)),
        Value::Array(values) => values.iter().any(has_references),
        _ => false,
    }
}

fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let target = schema["$ref"].as_str().and_then(|name| root.pointer(name.strip_prefix('#')?));
    target.unwrap_or(schema)
}

fn branches(schema: &Value) -> Option<&[Value]> {
    let branches = schema.get("oneOf").or_else(|| schema.get("anyOf"))?;
    branches.as_array().map(Vec::as_slice)
}

/// The tag by which one form of a value differs from the others: a constant, or its only required member.
fn tag(schema: &Value) -> Option<String> {
    if let Some(value) = schema["const"].as_str() {
        return Some(value.to_owned());
    }
    let properties = properties(schema)?;
    let constant =
        |(name, schema): (&String, &Value)| Some(format!("{name} = {}", schema["const"].as_str()?));
    if let Some(tag) = properties.iter().find_map(constant) {
        return Some(tag);
    }
    let mut names = properties.keys();
    names.next().filter(|_| names.next().is_none()).cloned()
}

fn values(schema: &Value) -> Option<Vec<&Value>> {
    match (schema.get("const"), schema["enum"].as_array()) {
        (Some(value), _) => Some(vec![value]),
        (None, Some(values)) => Some(values.iter().collect()),
        (None, None) => None,
    }
}

/// Whether a schema that is not a union allows a simple value.
fn allows(schema: &Value, value: &Value) -> bool {
    if let Some(values) = values(schema) {
        return values.contains(&value);
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::String(_) => "string",
        _ => return false,
    };
    types(schema).contains(&kind) && schema.get("format").is_none() && schema.get("pattern").is_none()
}

fn types(schema: &Value) -> Vec<&str> {
    match &schema["type"] {
        Value::String(kind) => vec![kind],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// The whole numbers that a schema allows.
fn range(schema: &Value) -> (i128, i128) {
    let (least, most) = match schema["format"].as_str() {
        Some("int8") => (i8::MIN.into(), i8::MAX.into()),
        Some("int16") => (i16::MIN.into(), i16::MAX.into()),
        Some("int32") => (i32::MIN.into(), i32::MAX.into()),
        Some("int64" | "int") => (i64::MIN.into(), i64::MAX.into()),
        Some("uint8") => (0, u8::MAX.into()),
        Some("uint16") => (0, u16::MAX.into()),
        Some("uint32") => (0, u32::MAX.into()),
        Some("uint64" | "uint") => (0, u64::MAX.into()),
        Some("uint128") => (0, i128::MAX),
        _ => (i128::MIN, i128::MAX),
    };
    let bound = |keyword: &str| schema[keyword].as_i64().map(i128::from);
    (
        bound("minimum").map_or(least, |bound| bound.max(least)),
        bound("maximum").map_or(most, |bound| bound.min(most)),
    )
}

fn properties(schema: &Value) -> Option<&Map<String, Value>> {
    schema["properties"].as_object()
}

/// Whether an object has members of any name.
fn is_map(schema: &Value) -> bool {
    schema["additionalProperties"].is_object()
}

/// A description of what a schema allows.
fn kind(schema: &Value) -> String {
    if let Some(values) = values(schema) {
        let values: Vec<_> = values.iter().map(ToString::to_string).collect();
        return format!("one of {}", values.join(", "));
    }
    if branches(schema).is_some() {
        return "one of several forms".to_owned();
    }
    let types = types(schema).join(" or ");
    let types = if types.is_empty() { "anything" } else { &types };
    match schema["format"].as_str() {
        Some(format) => format!("{types} ({format})"),
        None => types.to_owned(),
    }
}
