//! Compares the shapes that a program reads with the locked ones.

use std::{any::type_name, collections::BTreeMap, fmt::Write as _, path::Path};

use serde_json::Value;

use crate::{
    base::content_type::{BINCODE, JSON},
    encoding::json,
    log::codec,
    model::event::{Codec, Event, EventType},
    testing::schema::{
        StoredShape, UPDATE, compare,
        lock::{Entry, Lock},
        shapes::{Shape, shapes},
    },
};

/// The advice about a change after which stored events cannot be read.
const WAYS_ON: &str = "\
  There are two ways on:
  - Give the event a new version, and keep the payload it had as a type of its own:
    `#[event(version = 2, upcast(1 = TheOldPayload))]`.
  - Make the change a compatible one: a new field with `#[serde(default)]`, a renamed one with
    `#[serde(rename = \"the_old_name\")]`, a renamed event with `#[event(aliases(\"the.old_name\"))]`, an event that is
    not recorded any more with `#[event(retired)]`.
  If nothing of it was ever stored, take it out of the file by hand.";

/// Compares the program with the file; see [`check_schema_lock`](super::check_schema_lock).
///
/// # Errors
///
/// The problem, as the end of a sentence that begins with the shape of `E`.
pub(crate) fn check<E: StoredShape>(path: &Path, update: bool) -> Result<(), String> {
    let shapes =
        shapes::<E>().map_err(|problems| format!("cannot be told:\n\n  {}", problems.join("\n\n  ")))?;
    let locked = Lock::read(path)?.unwrap_or_default();
    let broken = broken::<E>(&locked, &shapes);
    if !broken.is_empty() {
        return Err(format!(
            "has changed so that stored events could not be read:\n\n{}{WAYS_ON}",
            list(&broken)
        ));
    }
    let (wanted, changes) = brought_up_to_date::<E>(&locked, &shapes)?;
    if changes.is_empty() {
        return Ok(());
    }
    if update {
        return wanted.write(path);
    }
    Err(format!(
        "is not locked as it is now. Whatever is stored can be read, so bring the file up to date with \
         `{UPDATE}=1 cargo test`, read the difference, and check it in:\n\n{}",
        list(&changes)
    ))
}

/// The findings by stored type.
type Findings = BTreeMap<(String, u32), Vec<String>>;
type Shapes = BTreeMap<(&'static str, u32), Shape>;

fn list(findings: &Findings) -> String {
    let mut text = String::new();
    for ((name, version), findings) in findings {
        let _ = writeln!(text, "  {name}, version {version}:");
        for finding in findings {
            let _ = writeln!(text, "  - {finding}");
        }
        text.push('\n');
    }
    text
}

/// The locked types that would not be read.
fn broken<E: StoredShape>(locked: &Lock, shapes: &Shapes) -> Findings {
    let mut broken = Findings::new();
    for (name, version, entry) in locked.iter() {
        let found = E::TYPES.iter().find(|known| known.name == name && known.version == version);
        let problems = match found.and_then(|found| Some((found, shapes.get(&(found.name, version))?))) {
            Some((found, shape)) => entry_problems::<E>(*found, entry, shape),
            None if E::TYPES.iter().any(|known| known.name == name) => {
                vec!["this version is not read any more".to_owned()]
            }
            None => vec!["no event of this name is read any more".to_owned()],
        };
        if !problems.is_empty() {
            broken.insert((name.to_owned(), version), problems);
        }
    }
    broken
}

fn entry_problems<E: Event>(event_type: EventType, entry: &Entry, shape: &Shape) -> Vec<String> {
    let mut problems = compare::problems(&entry.schema, &shape.schema);
    let read = codec::decode_data::<E>(event_type, JSON, entry.payload.to_string().as_bytes());
    // That a payload cannot be read is reported only if the shape does not show it already.
    let of_json =
        read.map_err(|error| problems.push(format!("its locked payload is not read any more: {error}"))).ok();
    let Some(digits) = &entry.bincode else { return problems };
    if problems.is_empty() && entry.schema != shape.schema {
        problems.push("its shape has changed, and bincode reads values by their places alone".to_owned());
    }
    let of_bincode = from_hex(digits).and_then(|bytes| codec::decode_data::<E>(event_type, BINCODE, &bytes));
    match (of_bincode, of_json) {
        (Err(error), _) => {
            problems.push(format!("its locked payload in bincode is not read any more: {error}"));
        }
        (Ok(event), Some(expected)) if written(&event) != written(&expected) => {
            problems.push("its locked payload in bincode is read as another event".to_owned());
        }
        (Ok(_), _) => {}
    }
    problems
}

/// The file as it should be, and the differences from the present one.
fn brought_up_to_date<E: StoredShape>(locked: &Lock, shapes: &Shapes) -> Result<(Lock, Findings), String> {
    let mut wanted = locked.clone();
    let mut changes = Findings::new();
    for ((name, version), shape) in shapes {
        let event_type = EventType::new(name, *version);
        let bincode = bincode::<E>(event_type, shape)?;
        let mut say = |what: &str| {
            changes
                .entry((event_type.name.to_owned(), event_type.version))
                .or_default()
                .push(what.to_owned());
        };
        match wanted.entry(name, *version) {
            None => {
                let Shape { schema, payload } = shape.clone();
                let read = codec::decode_data::<E>(event_type, JSON, payload.to_string().as_bytes());
                read.map_err(|error| cannot_read(event_type, &payload, &error))?;
                wanted.insert(name, *version, Entry { schema, payload, bincode });
                say("it is new");
            }
            Some(entry) => {
                if entry.schema != shape.schema {
                    entry.schema = shape.schema.clone();
                    say("its shape has changed in a compatible way");
                }
                if entry.bincode.is_none() && bincode.is_some() {
                    // The bytes of the locked payload, not of the payload of today's shape.
                    entry.bincode = self::bincode::<E>(
                        event_type,
                        &Shape { payload: entry.payload.clone(), ..shape.clone() },
                    )?;
                    say("it is recorded in bincode now");
                }
            }
        }
    }
    Ok((wanted, changes))
}

fn cannot_read(event_type: EventType, payload: &Value, error: &str) -> String {
    let EventType { name, version } = event_type;
    format!(
        "cannot be locked: version {version} of {name} does not read a payload that its schema allows: {error}\n  \
         {payload}\n  Give the type that refuses it an example that it reads: `#[schemars(example = …)]`."
    )
}

/// The payload of a type that is recorded in bincode, in hexadecimal digits.
fn bincode<E: Event>(event_type: EventType, shape: &Shape) -> Result<Option<String>, String> {
    if E::CODEC != Codec::Bincode {
        return Ok(None);
    }
    let read = codec::decode_data::<E>(event_type, JSON, shape.payload.to_string().as_bytes());
    let event = read.map_err(|error| cannot_read(event_type, &shape.payload, &error))?;
    // Older versions are not recorded any more.
    if event.event_type() != event_type {
        return Ok(None);
    }
    let (bytes, _) = codec::binary::encode(&event)
        .map_err(|error| format!("cannot be locked: {} in bincode: {error}", event_type.name))?;
    Ok(Some(bytes.iter().fold(String::new(), |mut digits, byte| {
        let _ = write!(digits, "{byte:02x}");
        digits
    })))
}

fn from_hex(digits: &str) -> Result<Vec<u8>, String> {
    let byte = |at: usize| {
        let pair = digits.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
        pair.ok_or_else(|| "these are no hexadecimal digits".to_owned())
    };
    (0..digits.len()).step_by(2).map(byte).collect()
}

/// A text of an event, for comparison.
fn written<E: Event>(event: &E) -> String {
    let json = json::encode(&codec::Data(event)).unwrap_or_default();
    format!("{} {} {json:?}", type_name::<E>(), event.event_type().name)
}
