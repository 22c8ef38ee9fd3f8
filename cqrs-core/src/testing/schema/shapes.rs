//! The shapes of the payloads that a program reads, from the schemas of its types.

use std::collections::BTreeMap;

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Value, json};

use crate::{
    model::event::EventType,
    testing::schema::{StoredShape, sample::sample},
};

/// The shape of the payloads of one stored type.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    /// The schema without remarks.
    pub(super) schema: Value,
    pub(super) payload: Value,
}

/// The types of the payloads of older versions; see [`StoredShape::older`].
#[derive(Debug, Default)]
pub struct Older(Vec<(EventType, Value)>);

impl Older {
    /// Adds the version of the stored types of these names whose payload is a `T`.
    pub fn add<T: JsonSchema>(&mut self, names: &[&'static str], version: u32) {
        self.0.extend(names.iter().map(|name| (EventType::new(name, version), schema::<T>())));
    }
}

/// The shape of each stored type of `E`.
///
/// # Errors
///
/// The types without a shape, because they do not read what their schema allows.
pub(crate) fn shapes<E: StoredShape>() -> Result<BTreeMap<(&'static str, u32), Shape>, Vec<String>> {
    let mut shapes = BTreeMap::new();
    let mut problems = Vec::new();
    for current in current::<E>() {
        match current {
            Ok((EventType { name, version }, shape)) => {
                for (alias, _) in E::ALIASES.iter().filter(|(_, current)| *current == name) {
                    shapes.insert((*alias, version), shape.clone());
                }
                shapes.insert((name, version), shape);
            }
            Err(problem) => problems.push(problem),
        }
    }
    let mut older = Older::default();
    E::older(&mut older);
    for (EventType { name, version }, schema) in older.0 {
        shapes.insert((name, version), Shape { payload: sample(&schema), schema: bare(&schema) });
    }
    if problems.is_empty() { Ok(shapes) } else { Err(problems) }
}

/// The current version of each stored type. To find the variant of a schema's branch, a payload of its shape is read as
/// an event.
fn current<E: StoredShape>() -> Vec<Result<(EventType, Shape), String>> {
    let whole = schema::<E>();
    let read = |what: &str, tagged: Value| {
        serde_json::from_value::<E>(tagged.clone()).map(|event| event.event_type()).map_err(|error| {
            format!(
                "{what} does not read a payload that its schema allows: {error}\n      {tagged}\n    \
                 give the type that refuses it an example that it reads: `#[schemars(example = …)]`"
            )
        })
    };
    if !E::IS_ENUM {
        let payload = sample(&whole);
        let event_type = read("the event", payload.clone());
        return vec![event_type.map(|event_type| (event_type, Shape { payload, schema: bare(&whole) }))];
    }
    let variants = variants(&whole).into_iter();
    let shape = |(variant, schema): (String, Option<Value>)| {
        let Some(schema) = schema else {
            let event_type = read(&variant, json!(variant))?;
            return Ok((event_type, Shape { schema: json!({ "type": "object" }), payload: json!({}) }));
        };
        let payload = sample(&schema);
        let event_type = read(&variant, json!({ &variant: payload }))?;
        Ok((event_type, Shape { payload, schema: bare(&schema) }))
    };
    variants.map(shape).collect()
}

/// The variants of an enum with serde's default tagging, each with the schema of its content.
fn variants(whole: &Value) -> Vec<(String, Option<Value>)> {
    let mut variants = Vec::new();
    let branches = whole["oneOf"].as_array().cloned().unwrap_or_else(|| vec![whole.clone()]);
    for branch in branches {
        let units = branch["enum"].as_array().into_iter().flatten().chain(branch.get("const"));
        variants.extend(units.filter_map(Value::as_str).map(|unit| (unit.to_owned(), None)));
        for (variant, content) in branch["properties"].as_object().into_iter().flatten() {
            let mut content = content.clone();
            if let (Some(content), Some(defs)) = (content.as_object_mut(), whole.get("$defs")) {
                content.insert("$defs".to_owned(), defs.clone());
            }
            variants.push((variant.clone(), Some(content)));
        }
    }
    variants
}

/// The shape of a type.
pub(super) fn shape<T: JsonSchema>() -> Shape {
    let schema = schema::<T>();
    Shape { payload: sample(&schema), schema: bare(&schema) }
}

fn schema<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

/// The keywords of a schema that are not part of the shape.
const REMARKS: [&str; 9] = [
    "$schema",
    "$comment",
    "title",
    "description",
    "examples",
    "default",
    "deprecated",
    "readOnly",
    "writeOnly",
];

/// The schema without remarks.
fn bare(schema: &Value) -> Value {
    match schema {
        Value::Object(members) => {
            let shape = members.iter().filter(|(keyword, _)| !REMARKS.contains(&keyword.as_str()));
            shape.map(|(keyword, value)| (keyword.clone(), bare_member(keyword, value))).collect()
        }
        Value::Array(schemas) => schemas.iter().map(bare).collect(),
        other => other.clone(),
    }
}

fn bare_member(keyword: &str, value: &Value) -> Value {
    match (keyword, value) {
        ("const" | "enum" | "required", _) => value.clone(),
        // Their members are names of the user's, and not keywords.
        ("properties" | "patternProperties" | "$defs", Value::Object(members)) => {
            members.iter().map(|(name, schema)| (name.clone(), bare(schema))).collect()
        }
        _ => bare(value),
    }
}
