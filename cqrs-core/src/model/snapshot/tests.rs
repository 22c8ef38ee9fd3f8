//! A snapshot is read back as the same state, or not at all.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt::Debug,
    hash::Hash,
};

use proptest::{collection::vec, prelude::*};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use uuid::Uuid;

use crate::{
    base::id::{CommandId, EventId, Position},
    model::snapshot::{
        bytes::{Head, frame, read, write},
        fault::{MAX_BYTES, ReadFault, WriteFault},
        remembered::{CarriedOut, Remembered},
    },
};

fn head(commands: u64) -> Head {
    let position = |sequence| Position { sequence, index: 0 };
    let carried_out = |number: u64| CarriedOut {
        command: CommandId(Uuid::from_u128(number.into())),
        fingerprint: !number,
        version: number,
        events: 1,
        position: position(number * 3),
    };
    let mut remembered = Remembered::default();
    (1..=commands).map(carried_out).for_each(|command| remembered.push(command));
    Head {
        version: commands,
        position: position(commands * 3),
        last_event: EventId(Uuid::from_u128(7)),
        remembered,
    }
}

fn written<T: Serialize + DeserializeOwned>(state: &T) -> Vec<u8> {
    write(1, &head(3), state).unwrap()
}

/// The bytes of `Old` are not read as `New`, also inside of other types.
fn assert_discarded<Old, New>(old: &Old)
where
    Old: Serialize + DeserializeOwned + Clone,
    New: Serialize + DeserializeOwned,
{
    fn assert<Old: Serialize + DeserializeOwned, New: Serialize + DeserializeOwned>(old: &Old) {
        assert!(read::<Old>(1, &written(old)).is_ok(), "it is read as what it is");
        assert!(read::<New>(1, &written(old)).is_err(), "it is not read as what it has become");
    }
    assert::<Old, New>(old);
    assert::<Option<Old>, Option<New>>(&Some(old.clone()));
    assert::<Vec<Old>, Vec<New>>(&vec![old.clone(), old.clone()]);
    assert::<HashMap<u8, Old>, HashMap<u8, New>>(&HashMap::from([(7, old.clone())]));
    assert::<(u8, BTreeMap<String, Vec<Old>>), (u8, BTreeMap<String, Vec<New>>)>(&(
        1,
        BTreeMap::from([("a".to_owned(), vec![old.clone()])]),
    ));
}

/// A state's type before and after a change, under the same name.
macro_rules! changes {
    ($($case:ident: $value:expr, { $($old:tt)* } => { $($new:tt)* })*) => {
        $(#[test]
        fn $case() {
            mod old {
                #[derive(Clone, serde::Serialize, serde::Deserialize)]
                pub(super) $($old)*
            }
            mod new {
                #[derive(serde::Serialize, serde::Deserialize)]
                pub(super) $($new)*
            }
            use old::State;
            assert_discarded::<State, new::State>(&$value);
        })*
    };
}

changes! {
    a_field_was_added: State { a: 1 },
        { struct State { pub(super) a: u8 } } => { struct State { a: u8, b: u8 } }
    an_optional_field_was_added: State { a: 1 },
        { struct State { pub(super) a: u8 } } => { struct State { a: u8, #[serde(default)] b: Option<u8> } }
    a_field_was_removed: State { a: 1, b: 2 },
        { struct State { pub(super) a: u8, pub(super) b: u8 } } => { struct State { a: u8 } }
    a_field_that_takes_no_bytes_was_added: State { a: 1 },
        { struct State { pub(super) a: u8 } } => { struct State { a: u8, b: () } }
    a_field_was_renamed: State { a: 1 },
        { struct State { pub(super) a: u8 } } => { struct State { b: u8 } }
    fields_changed_places: State { a: 1, b: 2 },
        { struct State { pub(super) a: u8, pub(super) b: u8 } } => { struct State { b: u8, a: u8 } }
    fields_of_the_same_value_changed_places: State { a: 1, b: 1 },
        { struct State { pub(super) a: u8, pub(super) b: u8 } } => { struct State { b: u8, a: u8 } }
    a_number_became_another: State { a: 1 },
        { struct State { pub(super) a: u32 } } => { struct State { a: u64 } }
    a_number_got_a_sign: State { a: 1 },
        { struct State { pub(super) a: u32 } } => { struct State { a: i32 } }
    a_number_became_an_answer: State { a: 1 },
        { struct State { pub(super) a: u8 } } => { struct State { a: bool } }
    a_text_became_bytes: State { a: "abc".to_owned() },
        { struct State { pub(super) a: String } } => { struct State { a: Vec<u8> } }
    a_value_became_optional: State { a: 1 },
        { struct State { pub(super) a: u8 } } => { struct State { a: Option<u8> } }
    a_value_stopped_being_optional: State { a: Some(1) },
        { struct State { pub(super) a: Option<u8> } } => { struct State { a: u8 } }
    an_array_became_a_list: State { a: [1, 2] },
        { struct State { pub(super) a: [u8; 2] } } => { struct State { a: Vec<u8> } }
    a_tuple_became_a_struct: State(1, 2),
        { struct State(pub(super) u8, pub(super) u8); } => { struct State { a: u8, b: u8 } }
    variants_changed_places: State::B,
        { enum State { #[allow(dead_code)] A, B } } => { enum State { B, A } }
    a_variant_was_added_before: State::B(2),
        { enum State { #[allow(dead_code)] A(u8), B(u8) } } => { enum State { A(u8), C(u8), B(u8) } }
    a_variant_was_renamed: State::A,
        { enum State { A } } => { enum State { B } }
    a_variants_field_was_renamed: State::A { a: 1 },
        { enum State { A { a: u8 } } } => { enum State { A { b: u8 } } }
    a_variants_fields_changed_places: State::A { a: 1, b: 2 },
        { enum State { A { a: u8, b: u8 } } } => { enum State { A { b: u8, a: u8 } } }
}

#[test]
fn a_type_of_another_name_is_another_type() {
    #[derive(Clone, Serialize, Deserialize)]
    struct Euro(u64);
    #[derive(Serialize, Deserialize)]
    struct Dollar(u64);
    assert_discarded::<Euro, Dollar>(&Euro(5));
}

fn assert_kept<T: Serialize + DeserializeOwned>(state: &T) -> T {
    let (found, state) = read::<T>(1, &written(state)).unwrap();
    assert_eq!(found, head(3));
    state
}

fn assert_equal<T: Serialize + DeserializeOwned + PartialEq + Debug>(state: &T) {
    assert_eq!(&assert_kept(state), state);
}

#[test]
fn states_of_all_kinds_are_kept() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Kind {
        Unit,
        Newtype(i128),
        Tuple(u8, char),
        Struct { text: String, unit: () },
    }
    #[derive(Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
    struct Key;
    assert_equal(&[Kind::Unit, Kind::Newtype(i128::MIN), Kind::Tuple(1, 'é')].map(Some).map(Box::new));
    assert_equal(&Kind::Struct { text: "日本".to_owned(), unit: () });
    assert_equal(&(Uuid::from_u128(1), "2026-01-01T00:00:00Z".parse::<jiff::Timestamp>().unwrap()));
    assert_equal(&vec![(); 5]);
    assert_equal(&HashSet::from([Key]));
}

#[test]
fn hash_tables_are_kept() {
    fn table<K: Eq + Hash>(key: impl Fn(u32) -> K) -> HashMap<K, HashSet<u32>> {
        (0..300).map(|number| (key(number), (0..number % 20).collect())).collect()
    }
    assert_equal(&table(|number| number));
    assert_equal(&table(|number| number.to_string()));
}

#[cfg(feature = "bincode")]
#[test]
fn numbers_that_are_none_are_kept() {
    assert!(assert_kept(&HashMap::from([(1, f64::NAN)]))[&1].is_nan());
}

#[test]
fn another_version_is_another_meaning() {
    let bytes = written(&5_u8);
    assert!(matches!(read::<u8>(2, &bytes), Err(ReadFault::Version { wanted: 2, found: 1 })));
}

#[test]
fn no_flipped_bit_and_no_lost_end_goes_unnoticed() {
    let state: BTreeMap<String, Vec<u32>> =
        (0..20).map(|number| (number.to_string(), (0..number).collect())).collect();
    let bytes = write(1, &head(20), &state).unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(read::<BTreeMap<String, Vec<u32>>>(1, &flipped).is_err(), "bit {bit}");
    }
    for length in 0..bytes.len() {
        assert!(read::<BTreeMap<String, Vec<u32>>>(1, &bytes[..length]).is_err(), "{length} bytes");
    }
    let longer = [&bytes[..], &[0]].concat();
    assert!(read::<BTreeMap<String, Vec<u32>>>(1, &longer).is_err());
}

#[test]
fn what_is_left_over_is_not_ignored() {
    let bytes = written(&5_u8);
    let fingerprint = u64::from_le_bytes(bytes[14..22].try_into().unwrap());
    assert!(read::<u8>(1, &frame(1, fingerprint, &bytes[22..])).is_ok());
    assert!(read::<u8>(1, &frame(1, fingerprint, &[&bytes[22..], &[0]].concat())).is_err());
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Tree {
    left: Option<Box<Tree>>,
    right: Vec<Tree>,
    names: HashMap<String, Vec<()>>,
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(body in vec(any::<u8>(), 0..300), start in any::<bool>()) {
        // With a valid head, the state is read.
        let mut bytes = written(&());
        bytes.extend(body.iter());
        let bytes = if start { bytes.split_off(22) } else { body };
        prop_assert!(read::<Tree>(1, &frame(1, 0, &bytes)).is_err());
        prop_assert!(read::<Tree>(1, &bytes).is_err());
    }
}

#[test]
fn a_state_that_is_too_large_is_not_written() {
    let large = "x".repeat(MAX_BYTES);
    assert!(matches!(write(1, &head(0), &large), Err(WriteFault::TooLarge)));
    let fits = &large[..MAX_BYTES - 1_000];
    assert!(write(1, &head(0), &fits.to_owned()).unwrap().len() <= MAX_BYTES);
}

/// serde writes another value than it reads.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Lossy {
    #[serde(serialize_with = "rounded")]
    amount: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for this signature")]
fn rounded<S: serde::Serializer>(amount: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(amount / 2)
}

#[test]
fn a_state_that_does_not_come_back_is_not_written() {
    let write = |amount| write(1, &head(1), &Lossy { amount });
    assert!(matches!(write(8), Err(WriteFault::Unfaithful(ReadFault::Shape))));
    assert!(write(0).is_ok());
}

/// Types that bincode cannot read back.
#[cfg(feature = "bincode")]
mod bincodes_limits {
    use super::*;

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Untagged {
        Number(u64),
    }

    #[derive(Serialize, Deserialize)]
    #[serde(tag = "kind")]
    enum Tagged {
        Number { number: u64 },
    }

    #[derive(Serialize, Deserialize)]
    struct Flat {
        #[serde(flatten)]
        all: BTreeMap<String, u64>,
    }

    #[derive(Serialize, Deserialize)]
    struct LeavesOut {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<u8>,
        number: u8,
    }

    #[test]
    fn lists_of_nothing_and_endless_boxes_end_soon() {
        #[derive(Serialize, Deserialize)]
        struct Boxes(Option<Box<Boxes>>);
        let head = written(&()).split_off(22);
        let boxes = [&head[..], &vec![1; 400_000]].concat();
        let nothing = [&head[..], &[253], &u64::MAX.to_le_bytes()].concat();
        let reason = |bytes| match read::<Boxes>(1, &frame(1, 0, bytes)) {
            Err(ReadFault::Undecodable(reason)) => reason,
            other => panic!("{:?}", other.err()),
        };
        assert!(reason(&boxes).contains("nested too deep"), "{}", reason(&boxes));
        let Err(ReadFault::Undecodable(reason)) = read::<Vec<()>>(1, &frame(1, 0, &nothing)) else {
            panic!("a list of nothing was read")
        };
        assert!(reason.contains("too many parts"), "{reason}");
    }

    #[test]
    fn nested_states_are_kept() {
        let nest =
            |depth| (0..depth).fold(Tree::default(), |tree, _| Tree { right: vec![tree], ..Tree::default() });
        assert!(write(1, &head(1), &nest(50)).is_ok());
        assert!(is_refused(&nest(100)));
    }

    fn is_refused<T: Serialize + DeserializeOwned>(state: &T) -> bool {
        matches!(write(1, &head(1), state), Err(WriteFault::Refused(_) | WriteFault::Unfaithful(_)))
    }

    #[test]
    fn what_bincode_cannot_read_back_is_not_written() {
        assert!(is_refused(&Untagged::Number(1)));
        assert!(is_refused(&Tagged::Number { number: 1 }));
        assert!(is_refused(&Flat { all: BTreeMap::from([("a".to_owned(), 1)]) }));
        assert!(is_refused(&serde_json::json!({"a": 1})));
        // If a field is left out, the next one takes its position: no value of it is read.
        for number in 0..=u8::MAX {
            assert!(is_refused(&LeavesOut { note: None, number }));
        }
        assert!(!is_refused(&LeavesOut { note: Some(1), number: 1 }));
    }

    #[test]
    fn a_snapshot_of_a_field_that_is_left_out_now_is_discarded() {
        #[derive(Serialize, Deserialize)]
        #[serde(rename = "LeavesOut")]
        struct Before {
            note: Option<u8>,
            number: u8,
        }
        assert!(read::<LeavesOut>(1, &written(&Before { note: None, number: 1 })).is_err());
    }
}

#[test]
fn a_reader_that_panics_only_costs_the_snapshot() {
    #[derive(Serialize, Clone, Copy)]
    struct Panics(u8);
    impl<'de> Deserialize<'de> for Panics {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            assert_eq!(u8::deserialize(deserializer)?, 0, "a panic on purpose");
            Ok(Self(0))
        }
    }
    #[derive(Serialize, Deserialize)]
    #[serde(rename = "Panics")]
    struct Before(u8);
    assert!(matches!(read::<Panics>(1, &written(&Before(1))), Err(ReadFault::Undecodable(_))));
    assert!(read::<Panics>(1, &written(&Panics(0))).is_ok());
}
