//! Attributes of serde with which bincode keeps no value: the error names them.

use serde_json::Value;

use super::*;

#[derive(Debug, Clone, Serialize, Deserialize, Event)]
#[event(name = "packed", codec = bincode, crate = crate)]
struct Packed<T>(T);

fn reason<T>(value: T) -> String
where
    T: Serialize + serde::de::DeserializeOwned + Send + Sync + 'static,
{
    let error = encode_data(&mut Packed(value), &key()).unwrap_err();
    let Error::Unrecordable { event_type: "packed", reason, .. } = error else { panic!("{error:?}") };
    reason
}

const HELP: &str = ": remove the attribute or the type, or record these events in JSON";

#[test]
fn a_field_that_was_left_out_is_named() {
    #[derive(Serialize, Deserialize)]
    struct Note {
        #[serde(skip_serializing_if = "Option::is_none")]
        author: Option<u8>,
        text: String,
    }

    #[derive(Serialize, Deserialize)]
    enum Noted {
        Once {
            note: Vec<Note>,
            #[serde(skip_serializing_if = "Option::is_none")]
            at: Option<u8>,
        },
    }

    #[derive(Serialize, Deserialize)]
    struct Loose {
        #[serde(skip_serializing_if = "Option::is_none")]
        it: Option<u8>,
        is: bool,
        then: Vec<u8>,
    }

    let expected = |field: &str| {
        format!(
            "; serde's `skip_serializing_if` has left out `{field}`, and bincode reads fields by their places{HELP}"
        )
    };
    let note = |author| Note { author, text: "a".into() };
    let told = reason(note(None));
    assert!(
        told.starts_with("bincode cannot read it back: ") && told.ends_with(&expected("author")),
        "{told}"
    );
    let told = reason(Noted::Once { note: vec![note(None)], at: Some(1) });
    assert!(told.ends_with(&expected("author")), "{told}");
    let told = reason(Noted::Once { note: vec![note(Some(1))], at: None });
    assert!(told.ends_with(&expected("at")), "{told}");
    // Here bincode reads without an error, and another value.
    let told = reason(Loose { it: None, is: true, then: vec![0, 1, 9] });
    assert!(told.starts_with("it would come back as another value"), "{told}");
    assert!(told.ends_with(&expected("it")), "{told}");
}

#[test]
fn a_map_of_unknown_length_is_the_work_of_flatten() {
    #[derive(Serialize, Deserialize)]
    struct Flat {
        #[serde(flatten)]
        rest: BTreeMap<String, u8>,
    }

    let told = reason(Flat { rest: BTreeMap::new() });
    let expected = format!("; serde's `flatten` writes a map of unknown length{HELP}");
    assert!(told.starts_with("bincode cannot write it: ") && told.ends_with(&expected), "{told}");
}

#[test]
fn what_serde_reads_by_content_is_named() {
    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Untagged {
        Number(u8),
    }

    #[derive(Serialize, Deserialize)]
    #[serde(tag = "kind")]
    enum Tagged {
        Number { number: u8 },
    }

    for told in [reason(Untagged::Number(1)), reason(Tagged::Number { number: 1 }), reason(Value::Bool(true))]
    {
        assert!(told.starts_with("bincode cannot read it back: "), "{told}");
        assert!(told.contains("; serde reads `untagged`, `tag`, `flatten` and types such as"), "{told}");
        assert!(told.ends_with(HELP), "{told}");
    }
}

#[test]
fn another_reason_names_no_attribute() {
    let told = reason("x".repeat(2 * 1024 * 1024));
    assert_eq!(told, "bincode cannot read it back: it takes 2097157 bytes, at most 1048576 are accepted");
}
