use std::{
    collections::{BTreeMap, HashSet},
    fs,
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

use cqrs_derive::Event;

use super::*;

/// One program after another, each with its own shape of the same event.
macro_rules! program {
    ($name:ident { $($fields:tt)* } $($nested:item)*) => { program!($name #[event(prefix = "shop")] { $($fields)* } $($nested)*); };
    ($name:ident $(#[$attribute:meta])+ { $($fields:tt)* } $($nested:item)*) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
            $(#[$attribute])+
            #[event(schema, crate = crate)]
            pub(super) enum Fact { $($fields)* }

            $($nested)*
        }
    };
}

/// A folder that is removed after the test.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = env::temp_dir().join(format!("cqrs-schema-{}-{test}", std::process::id()));
        // A process that was killed left its folder, and another may have the same process id.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn lock(&self) -> PathBuf {
        self.0.join("a/lock.json")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The message when the second program is checked against the lock of the first; nothing is written.
fn after<Old: StoredShape, New: StoredShape>(test: &str) -> Result<(), String> {
    let folder = Folder::new(test);
    check::check::<Old>(&folder.lock(), true).unwrap();
    assert_eq!(check::check::<Old>(&folder.lock(), false), Ok(()));
    let before = fs::read(folder.lock()).unwrap();
    let checked = check::check::<New>(&folder.lock(), false);
    assert_eq!(fs::read(folder.lock()).unwrap(), before);
    if checked.as_ref().is_err_and(|problem| problem.contains("could not be read")) {
        assert_eq!(check::check::<New>(&folder.lock(), true), checked, "a broken shape is never locked");
        assert_eq!(fs::read(folder.lock()).unwrap(), before);
    }
    checked
}

#[track_caller]
fn assert_breaks<Old: StoredShape, New: StoredShape>(test: &str, expected: &[&str]) {
    let problem = after::<Old, New>(test).unwrap_err();
    assert!(problem.contains("could not be read") && problem.contains("two ways on"), "{problem}");
    for expected in expected {
        assert!(problem.contains(expected), "{expected}: {problem}");
    }
}

#[track_caller]
fn assert_compatible<Old: StoredShape, New: StoredShape>(test: &str, expected: &str) {
    let problem = after::<Old, New>(test).unwrap_err();
    assert!(problem.contains("UPDATE_SCHEMA_LOCK=1") && problem.contains(expected), "{problem}");
    assert!(!problem.contains("two ways on"), "{problem}");
}

program! { first {
    Created { customer: String, lines: Vec<Line>, note: Option<String>, how: How },
    Paid(u32),
    Closed,
}
    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    pub(super) struct Line { product: String, pieces: u32, tags: HashSet<String>, prices: BTreeMap<u8, i16> }

    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    pub(super) enum How { Card, Bank { account: String }, Cash(bool) }
}

#[test]
fn a_shape_that_is_not_locked_yet_is_locked_on_request_alone() {
    let folder = Folder::new("first");
    let problem = check::check::<first::Fact>(&folder.lock(), false).unwrap_err();
    assert!(problem.contains("UPDATE_SCHEMA_LOCK=1") && !folder.lock().exists(), "{problem}");
    for name in ["shop.created, version 1", "shop.paid", "shop.closed", "it is new"] {
        assert!(problem.contains(name), "{problem}");
    }
    check::check::<first::Fact>(&folder.lock(), true).unwrap();
    assert_eq!(check::check::<first::Fact>(&folder.lock(), false), Ok(()));
    fs::write(folder.lock(), "{").unwrap();
    assert!(check::check::<first::Fact>(&folder.lock(), true).unwrap_err().contains("cannot be read"));
}

program! { wider {
    Created { customer: String, lines: Vec<Line>, note: Option<String>, how: How, #[serde(default)] country: String },
    Paid(u64),
    Closed { #[serde(default)] reason: Option<String> },
    Opened,
}
    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    pub(super) struct Line { product: Option<String>, pieces: i64, tags: Vec<String>, prices: BTreeMap<u8, i32> }

    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    pub(super) enum How { Cash(bool), Card, Bank { account: String, #[serde(default)] bank: String }, Barter }
}

#[test]
fn what_reads_more_is_compatible() {
    assert_compatible::<first::Fact, wider::Fact>("wider", "it is new");
    assert_breaks::<wider::Fact, first::Fact>(
        "narrower",
        &[
            "`lines[].pieces` was integer (int64) and is integer (uint32), which reads less",
            "`lines[].product` was string or null and is string",
            "`country` is gone: what is stored in it would be passed over",
            r#"`how` could be "Barter", which is not read any more"#,
            "no event of this name is read any more",
        ],
    );
}

program! { changed {
    Created { customer: u32, lines: Vec<Line>, remark: Option<String>, how: How, country: String },
    Paid(String),
    Closed,
}
    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    pub(super) struct Line { product: String, pieces: u16, tags: HashSet<String>, prices: BTreeMap<u8, i16> }

    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    pub(super) enum How { Card, Bank { account: u8 }, Cash(bool) }
}

#[test]
fn what_could_not_be_read_is_named() {
    assert_breaks::<first::Fact, changed::Fact>(
        "changed",
        &[
            "shop.created, version 1",
            "`customer` was string and is integer (uint32)",
            "`lines[].pieces` was integer (uint32) and is integer (uint16), which reads less",
            "`note` is gone",
            "`country` is required, and there are stored events without it",
            "`how.Bank.account` was string and is integer (uint8)",
            "shop.paid, version 1",
            "`the payload` was integer (uint32) and is string",
        ],
    );
}

program! { upcast #[event(prefix = "shop")] {
    #[event(version = 2, upcast(1 = u32))]
    Paid { amount: u32 },
    #[event(retired)]
    Closed,
    #[event(aliases("shop.created"))]
    Made { customer: String, lines: Vec<first::Line>, note: Option<String>, how: first::How },
}
    impl From<u32> for Fact {
        fn from(amount: u32) -> Self {
            Self::Paid { amount }
        }
    }
}

#[test]
fn a_new_version_an_alias_and_a_retired_event_are_compatible() {
    let problem = after::<first::Fact, upcast::Fact>("upcast").unwrap_err();
    let news = [("shop.made", 1), ("shop.paid", 2)]
        .map(|(name, version)| format!("{name}, version {version}:\n  - it is new"));
    assert!(
        problem.contains("UPDATE_SCHEMA_LOCK=1") && news.iter().all(|news| problem.contains(news)),
        "{problem}"
    );
    assert!(!problem.contains("shop.closed") && !problem.contains("shop.created"), "{problem}");
    assert_breaks::<upcast::Fact, first::Fact>(
        "no-upcast",
        &["shop.paid, version 2", "this version is not read any more"],
    );
}

program! { strict {
    Created { customer: String, lines: Vec<first::Line>, note: Option<String>, how: first::How },
    Paid(Even),
    Closed,
}
    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    #[serde(try_from = "u32", into = "u32")]
    #[schemars(example = 2)]
    pub(super) struct Even(u32);

    impl TryFrom<u32> for Even {
        type Error = &'static str;

        fn try_from(number: u32) -> Result<Self, &'static str> {
            if number.is_multiple_of(2) { Ok(Self(number)) } else { Err("odd") }
        }
    }

    impl From<Even> for u32 {
        fn from(even: Even) -> Self {
            even.0
        }
    }

    impl Clone for Even {
        fn clone(&self) -> Self {
            Self(self.0)
        }
    }
}

#[test]
fn the_locked_payload_shows_what_the_schema_does_not() {
    assert_breaks::<first::Fact, strict::Fact>(
        "strict",
        &["shop.paid, version 1", "its locked payload is not read any more: odd"],
    );
}

program! { unexplained { Odd(Odd) }
    #[derive(Debug, PartialEq, Serialize, JsonSchema)]
    #[schemars(transparent)]
    pub(super) struct Odd(u32);

    impl<'de> Deserialize<'de> for Odd {
        fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            Err(serde::de::Error::custom("never"))
        }
    }
}

#[test]
fn a_type_that_refuses_what_its_schema_allows_is_asked_for_an_example() {
    let folder = Folder::new("unexplained");
    let problem = check::check::<unexplained::Fact>(&folder.lock(), true).unwrap_err();
    assert!(problem.contains("Odd does not read") && problem.contains("schemars(example"), "{problem}");
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Tree {
    name: String,
    leaves: Vec<Tree>,
    left: Option<Box<Tree>>,
}

program! { recursive { Grown(Tree) } }

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct OtherTree {
    name: u8,
    leaves: Vec<OtherTree>,
    left: Option<Box<OtherTree>>,
}

program! { recursive_otherwise { Grown(OtherTree) } }

#[test]
fn recursive_types_are_compared() {
    assert_eq!(after::<recursive::Fact, recursive::Fact>("recursive"), Ok(()));
    assert_breaks::<recursive::Fact, recursive_otherwise::Fact>(
        "other-tree",
        &["`name` was string and is integer (uint8)"],
    );
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "shop.moved", schema, codec = bincode, crate = crate)]
struct Moved {
    x: u32,
    y: u32,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "shop.moved", schema, codec = bincode, crate = crate)]
struct Exchanged {
    y: u32,
    x: u32,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "shop.moved", schema, codec = bincode, crate = crate)]
struct Farther {
    x: u32,
    y: u32,
    #[serde(default)]
    z: u32,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(name = "shop.moved", schema, crate = crate)]
struct Readable {
    x: u32,
    y: u32,
}

#[test]
fn what_is_stored_in_bincode_keeps_its_shape_to_the_letter() {
    assert_eq!(after::<Moved, Moved>("same"), Ok(()));
    assert_breaks::<Moved, Exchanged>("exchanged", &["is read as another event"]);
    assert_breaks::<Moved, Farther>("farther", &["bincode reads values by their places alone"]);
    assert_eq!(after::<Moved, Readable>("readable"), Ok(()), "what is stored says how it is read");
    assert_compatible::<Readable, Moved>("compact", "it is recorded in bincode now");
}

#[derive(Debug, Serialize, Deserialize, Event)]
#[event(name = "facts.happened", crate = crate)]
pub(super) struct Happened;

pub(super) struct Facts;

impl crate::model::EventSource for Facts {
    const NAME: &'static str = "facts";
    type Event = Happened;
}

/// One program after another, each with its own state of the same policy.
macro_rules! policy {
    ($name:ident $version:literal { $($fields:tt)* } $($upgrade:item)?) => {
        mod $name {
            use super::*;
            use crate::{Effects, Envelope, Policy, React, Start};

            #[derive(Default, Serialize, Deserialize, JsonSchema)]
            pub(super) struct State { $($fields)* }

            impl Policy for State {
                const NAME: &'static str = "policy";
                const START: Start = Start::Beginning;
                const VERSION: u32 = $version;
                type Of = Facts;

                $($upgrade)?
            }

            impl React<Happened> for State {
                fn react(&mut self, _: &Envelope<Happened>, _: &mut Effects) {}
            }
        }
    };
}

type Upgraded<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

policy!(first_state 1 { pub(super) paid: u64 });
policy!(renamed_state 1 { #[serde(default)] pub(super) sum: u64 });
policy!(wider_state 1 { pub(super) paid: u64, #[serde(default)] pub(super) note: String });
policy!(stepless_state 2 { pub(super) sum: u64 });
policy!(upgraded_state 2 { pub(super) sum: u64 }
    fn upgrade(from: u32, state: serde_json::Value) -> Upgraded<Self> {
        assert_eq!(from, 1);
        Ok(Self { sum: state["paid"].as_u64().ok_or("no sum")? })
    }
);

#[test]
fn a_state_of_a_policy_that_has_changed_needs_a_version_and_a_step() {
    let folder = Folder::new("policy");
    let lock = folder.lock();
    let new = policy::check::<first_state::State>(&lock, false).unwrap_err();
    assert!(new.contains("version 1: it is new"), "{new}");
    policy::check::<first_state::State>(&lock, true).unwrap();
    policy::check::<first_state::State>(&lock, false).unwrap();

    // serde would read all stored states as 0.
    let renamed = policy::check::<renamed_state::State>(&lock, true).unwrap_err();
    assert!(renamed.contains("could not be read") && renamed.contains("paid"), "{renamed}");
    let stepless = policy::check::<stepless_state::State>(&lock, true).unwrap_err();
    assert!(
        stepless.contains("version 1: `upgrade` does not read its locked state: it has no"),
        "{stepless}"
    );
    let wider = policy::check::<wider_state::State>(&lock, false).unwrap_err();
    assert!(wider.contains("in a compatible way"), "{wider}");

    policy::check::<upgraded_state::State>(&lock, true).unwrap();
    policy::check::<upgraded_state::State>(&lock, false).unwrap();
    let older = policy::check::<first_state::State>(&lock, true).unwrap_err();
    assert!(older.contains("version 2: the policy has version 1 only"), "{older}");
}
