//! Types whose payloads are certain to come back from JSON.
//!
//! Reading an event back before it is recorded takes about as long as writing it. JSON keeps every value of
//! text, whole numbers and lists of these, so an event with only such fields need not be read back: the derive checks
//! each field here. The check is by type and not by name, so that a user's type of the same name does not pass.

use std::{borrow::Cow, marker::PhantomData, sync::Arc};

use uuid::Uuid;

/// A type whose values serde never writes as `null`, and always reads back from what it wrote.
///
/// Floating point numbers are excluded, because JSON has no NaN and no infinities; so are types of users, whose serde
/// impls may do anything.
pub trait Plain {}

/// The same, or an option of it. An option of an option is excluded: JSON cannot distinguish its two `None`s.
pub trait PlainOrNone {}

macro_rules! plain {
    ($($ty:ty)*) => {
        $(impl Plain for $ty {}
        impl PlainOrNone for $ty {})*
    };
}

plain! {
    bool char u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize String Box<str> Arc<str> Cow<'static, str> Uuid
}

impl<T: PlainOrNone> Plain for Vec<T> {}
impl<T: PlainOrNone> PlainOrNone for Vec<T> {}
impl<T: Plain> PlainOrNone for Option<T> {}

/// The type of a field.
pub struct Field<T>(PhantomData<T>);

impl<T: PlainOrNone> Field<T> {
    /// Whether it comes back by its type alone. Rust prefers this constant to [`OfAnyType::IS_PLAIN`] if both exist.
    pub const IS_PLAIN: bool = true;
}

/// The default for all types.
pub trait OfAnyType {
    /// Not known to come back.
    const IS_PLAIN: bool = false;
}

impl<T> OfAnyType for Field<T> {}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use serde::{Deserialize, Serialize};

    use cqrs_derive::Event;

    use super::*;
    use crate::model::event::Event;

    #[derive(Serialize, Deserialize)]
    struct Own(u8);

    #[test]
    fn only_what_is_listed_is_plain() {
        let plain = [
            Field::<String>::IS_PLAIN,
            Field::<Option<u64>>::IS_PLAIN,
            Field::<Vec<Option<Vec<Cow<'static, str>>>>>::IS_PLAIN,
        ];
        assert!(plain.iter().all(|plain| *plain));
        let others = [
            Field::<f64>::IS_PLAIN,
            Field::<()>::IS_PLAIN,
            Field::<Option<Option<u8>>>::IS_PLAIN,
            Field::<Vec<Option<f32>>>::IS_PLAIN,
            Field::<HashMap<u8, u8>>::IS_PLAIN,
            Field::<Own>::IS_PLAIN,
            Field::<Vec<Own>>::IS_PLAIN,
        ];
        assert!(others.iter().all(|plain| !plain));
    }

    #[test]
    fn an_event_is_plain_if_all_its_fields_are_and_serde_is_told_nothing() {
        #[derive(Serialize, Deserialize, Event)]
        #[event(prefix = "some", crate = crate)]
        #[serde(rename_all = "kebab-case")]
        enum Some<T: Send + Sync + 'static> {
            Nothing,
            Plain {
                name: String,
                number: Option<u128>,
            },
            Places(u8, Vec<i64>),
            Own(Own),
            Float(u8, f32),
            Any(T),
            #[serde(rename = "none")]
            Renamed(u8),
            Skipped {
                #[serde(skip_serializing_if = "Vec::is_empty")]
                list: Vec<u8>,
            },
        }
        let is_plain = |event: Some<String>| event.is_plain();
        assert!(is_plain(Some::Nothing));
        assert!(is_plain(Some::Plain { name: String::new(), number: None }));
        assert!(is_plain(Some::Places(0, vec![])));
        assert!(!is_plain(Some::Own(Own(0))));
        assert!(!is_plain(Some::Float(0, 0.0)));
        assert!(!is_plain(Some::Any(String::new())));
        assert!(!is_plain(Some::Renamed(0)));
        assert!(!is_plain(Some::Skipped { list: vec![] }));
    }

    #[test]
    fn a_struct_is_plain_if_it_is_not_converted() {
        #[derive(Serialize, Deserialize, Event)]
        #[event(name = "one.plain", crate = crate)]
        struct One {
            text: Box<str>,
        }

        #[derive(Serialize, Deserialize, Event)]
        #[event(name = "one.converted", crate = crate)]
        #[serde(from = "u64", into = "u64")]
        struct Converted {
            small: u8,
        }
        impl From<u64> for Converted {
            fn from(large: u64) -> Self {
                Self { small: large.to_le_bytes()[0] }
            }
        }
        impl From<Converted> for u64 {
            fn from(converted: Converted) -> Self {
                converted.small.into()
            }
        }
        impl Clone for Converted {
            fn clone(&self) -> Self {
                Self { small: self.small }
            }
        }
        assert!(One { text: "".into() }.is_plain());
        assert!(!Converted { small: 0 }.is_plain());
    }
}
