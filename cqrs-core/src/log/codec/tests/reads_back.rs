//! Values that serde writes and does not read, or reads as another value.

use crate::{base::content_type::JSON, model::event::Event};

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt::Debug,
    thread,
};

use super::*;

/// An event with any payload.
#[derive(Debug, Clone, Serialize, Deserialize, Event)]
#[event(name = "kept.as_it_is", crate = crate)]
struct Kept<T>(T);

trait Value: Debug + Clone + Serialize + serde::de::DeserializeOwned + Send + Sync + 'static {}

impl<T: Debug + Clone + Serialize + serde::de::DeserializeOwned + Send + Sync + 'static> Value for T {}

/// The value as an event, a document and a state have it after they were stored; or why they cannot be.
fn kept<T: Value>(value: &T) -> Result<T, String> {
    let mut event = Kept(value.clone());
    let as_event = encode_data(&mut event, &key());
    let as_document = json::encode_checked(value);
    assert_eq!(as_event.is_ok(), as_document.is_ok(), "{as_event:?}, {as_document:?}");
    match as_event {
        Ok(data) => {
            let again: Kept<T> = decode_json(event.event_type(), &data).expect("what was recorded is read");
            fingerprint::difference(&event, &again, true).expect("and is what was applied");
            Ok(again.0)
        }
        Err(Error::Unrecordable { event_type: "kept.as_it_is", reason, .. }) => Err(reason),
        Err(error) => panic!("{error:?}"),
    }
}

fn refused<T: Value>(value: &T) -> String {
    kept(value).expect_err("it would not come back")
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Flat<T> {
    name: String,
    #[serde(flatten)]
    rest: T,
}

fn flat<T>(rest: T) -> Flat<T> {
    Flat { name: "a".into(), rest }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Tagged<T> {
    It { is: T },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged<T> {
    It { is: T },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct One<T> {
    it: T,
}

#[test]
fn what_goes_through_a_buffer_of_serde_is_refused_unless_it_comes_back() {
    let numbered = BTreeMap::from([(7_u32, true)]);
    assert_eq!(kept(&One { it: numbered.clone() }).unwrap().it, numbered);
    refused(&flat(numbered.clone()));
    refused(&Tagged::It { is: numbered.clone() });
    refused(&Untagged::It { is: numbered });
    for large in [u128::from(u64::MAX) + 1, u128::MAX] {
        assert_eq!(kept(&One { it: large }).unwrap().it, large);
        refused(&Tagged::It { is: large });
        refused(&Untagged::It { is: large });
        refused(&flat(One { it: large }));
    }
    let small = i128::from(i64::MIN) - 1;
    assert_eq!(kept(&One { it: small }).unwrap().it, small);
    refused(&Tagged::It { is: small });
    // Text and usual numbers come back from there.
    let named = BTreeMap::from([("7".to_owned(), u64::MAX)]);
    assert_eq!(kept(&flat(named.clone())).unwrap().rest, named);
    kept(&Tagged::It { is: named.clone() }).unwrap();
    kept(&Untagged::It { is: named }).unwrap();
}

#[test]
fn a_field_that_is_there_twice_is_refused() {
    #[derive(Debug, Clone, Serialize, Deserialize)]
    struct Name {
        name: String,
    }
    let reason = refused(&flat(Name { name: "b".into() }));
    assert!(reason.contains("duplicate field `name`"), "{reason}");
    // It depends on the value.
    kept(&flat(BTreeMap::from([("nickname".to_owned(), 1)]))).unwrap();
    refused(&flat(BTreeMap::from([("name".to_owned(), 1)])));
}

#[test]
fn a_field_that_is_written_and_not_read_or_read_and_not_written_is_refused() {
    #[derive(Debug, Clone, Serialize, Deserialize)]
    struct Unwritten {
        #[serde(skip_serializing)]
        _secret: String,
    }

    #[derive(Debug, Clone, Serialize, Deserialize)]
    struct Sometimes {
        #[serde(skip_serializing_if = "Vec::is_empty")]
        tags: Vec<String>,
    }

    #[derive(Debug, Clone, Serialize, Deserialize)]
    struct Renamed {
        #[serde(rename(serialize = "here", deserialize = "there"))]
        place: String,
    }

    let reason = refused(&Unwritten { _secret: "x".into() });
    assert!(reason.contains("missing field `_secret`"), "{reason}");

    kept(&Sometimes { tags: vec!["x".into()] }).unwrap();
    let reason = refused(&One { it: Sometimes { tags: vec![] } });
    assert_eq!(reason, "it could not be read back: missing field `tags` in field `it`");

    let reason = refused(&Renamed { place: "x".into() });
    assert!(reason.contains("missing field `there`"), "{reason}");
}

#[test]
fn what_comes_back_as_something_else_is_refused_by_its_field() {
    #[derive(Debug, Clone, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Shadowed {
        Short { a: u8 },
        Long { a: u8, b: u8 },
    }

    #[derive(Debug, Clone, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Guessed {
        Number(u8),
        Optional(Option<u8>),
        Text(String),
    }

    let reason = refused(&One { it: One { it: Some(None::<u8>) } });
    assert_eq!(reason, "it would come back as another value, with another `it`");
    kept(&One { it: None::<Option<u8>> }).unwrap();
    kept(&One { it: Some(Some(1)) }).unwrap();
    refused(&One { it: Some(()) });
    refused(&One { it: Some(serde_json::Value::Null) });
    refused(&vec![Some(None::<u8>)]);

    kept(&Shadowed::Short { a: 1 }).unwrap();
    refused(&Shadowed::Long { a: 1, b: 2 });

    kept(&Guessed::Text("1".into())).unwrap();
    kept(&Guessed::Optional(None)).unwrap();
    kept(&vec![Guessed::Number(1)]).unwrap();
}

#[test]
fn what_has_no_json_is_refused_by_its_field() {
    let reason = refused(&One { it: vec![1.0, f64::NAN] });
    assert_eq!(
        reason,
        "it could not be read back: invalid type: null, expected f64 in field `it[1]`, and JSON has neither NaN nor infinite numbers"
    );
    refused(&f32::INFINITY);
    let reason = refused(&One { it: HashMap::from([((1, 2), 3)]) });
    assert_eq!(reason, "it has no JSON: key must be a string in field `it`");
}

#[test]
fn what_comes_in_another_order_is_the_same() {
    let numbers = (0..500_u32).map(|number| (number.to_string(), number));
    let table: HashMap<_, _> = numbers.collect();
    assert!(kept(&table).unwrap() == table);
    let set: HashSet<_> = table.into_keys().collect();
    assert!(kept(&set).unwrap() == set);
}

/// The loss of such a value cannot be detected; so it is lost before the event is applied.
#[test]
fn what_serde_does_not_show_is_lost_at_once() {
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Partly {
        shown: u8,
        #[serde(skip)]
        hidden: u8,
    }
    let mut event = Kept(Partly { shown: 1, hidden: 2 });
    encode_data(&mut event, &key()).unwrap();
    assert_eq!(event.0, Partly { shown: 1, hidden: 0 });
}

/// From any JSON but `null`, it is read without end.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Endless(Option<Box<Endless>>);

#[derive(Debug, Clone, Serialize, Deserialize)]
enum Chain {
    Ring(Box<Link>),
    End,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Link {
    text: String,
    next: Option<Box<Wrapped>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Wrapped(Chain);

#[test]
fn a_type_that_is_read_without_end_is_refused() {
    for json in ["1", "{}", "[null]", "\"x\"", "true"] {
        let error = json::decode::<Endless>(json.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("nested too deep"), "{error}");
        let error = decode_data::<Kept<Endless>>(EventType::new("kept.as_it_is", 1), JSON, json.as_bytes());
        assert!(error.unwrap_err().contains("nested too deep"));
    }
    assert!(json::decode::<Endless>(b"null").unwrap().0.is_none());
}

/// A thread of tokio has 2 MiB, and builds for tests have the largest frames.
#[test]
fn what_json_can_hold_is_read_on_a_small_stack() {
    let deepest = || {
        let link = |next| Link { text: String::new(), next };
        // Each link is two brackets and six levels.
        let chain = (0..63).fold(None, |next, _| Some(Box::new(Wrapped(Chain::Ring(Box::new(link(next)))))));
        kept(&link(chain)).unwrap();
        assert!(json::decode::<Endless>(b"1").is_err());
        let lists = format!("{}{}", "[".repeat(127), "]".repeat(127));
        json::decode::<serde_json::Value>(lists.as_bytes()).unwrap();
    };
    thread::Builder::new().stack_size(1024 * 1024).spawn(deepest).unwrap().join().unwrap();
}

proptest! {
    #[test]
    fn every_number_comes_back(double: f64, single: f32, large: u128, small: i128) {
        if double.is_finite() && single.is_finite() {
            let (double_kept, single_kept) = kept(&(double, single)).unwrap();
            prop_assert_eq!(double_kept.to_bits(), double.to_bits());
            prop_assert_eq!(single_kept.to_bits(), single.to_bits());
        }
        prop_assert_eq!(kept(&(large, small)).unwrap(), (large, small));
    }
}
