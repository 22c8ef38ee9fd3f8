//! Whether two values have the same content. The names of their types do not count.
//!
//! The content is what JSON would show, apart from the order of elements and fields: type names do not count, nor the
//! kind of number of a whole number, nor whether a value is wrapped.

use serde::{Serialize, Serializer};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::encoding::fingerprint::{Element, Ordered, Unhashable, Unordered, fold};

/// The fingerprint of the content of `value`.
///
/// # Errors
///
/// The error of a `Serialize` impl.
pub(crate) fn content<T: Serialize + ?Sized>(value: &T) -> Result<u64, Unhashable> {
    value.serialize(Content)
}

/// The same for a text.
pub(crate) fn text(text: &str) -> u64 {
    xxh3_64(text.as_bytes())
}

/// The kind of content; a text has no kind, and neither has a field name.
#[derive(Clone, Copy)]
enum Kind {
    Nothing = 1,
    Bool,
    Whole,
    Large,
    Float,
    Bytes,
    Elements,
    Places,
    Fields,
    Variant,
}

impl Kind {
    fn of(self, bytes: &[u8]) -> u64 {
        xxh3_64_with_seed(bytes, self as u64)
    }
}

fn variant(name: &str) -> u64 {
    fold(Kind::Variant as u64, text(name))
}

#[derive(Clone, Copy)]
struct Content;

impl Content {
    fn places(self, hash: u64) -> Ordered<Self> {
        Ordered { hash, element: self }
    }
}

impl Element for Content {}

macro_rules! whole_numbers {
    ($($method:ident $ty:ty;)*) => {
        $(fn $method(self, value: $ty) -> Result<u64, Unhashable> {
            self.serialize_i128(value.into())
        })*
    };
}

impl Serializer for Content {
    type Ok = u64;
    type Error = Unhashable;
    type SerializeSeq = Unordered<Self>;
    type SerializeTuple = Ordered<Self>;
    type SerializeTupleStruct = Ordered<Self>;
    type SerializeTupleVariant = Ordered<Self>;
    type SerializeMap = Unordered<Self>;
    type SerializeStruct = Unordered<Self>;
    type SerializeStructVariant = Unordered<Self>;

    whole_numbers! {
        serialize_i8 i8;
        serialize_i16 i16;
        serialize_i32 i32;
        serialize_i64 i64;
        serialize_u8 u8;
        serialize_u16 u16;
        serialize_u32 u32;
        serialize_u64 u64;
    }

    fn serialize_i128(self, value: i128) -> Result<u64, Unhashable> {
        Ok(Kind::Whole.of(&value.to_le_bytes()))
    }

    fn serialize_u128(self, value: u128) -> Result<u64, Unhashable> {
        match i128::try_from(value) {
            Ok(value) => self.serialize_i128(value),
            Err(_) => Ok(Kind::Large.of(&value.to_le_bytes())),
        }
    }

    fn serialize_f32(self, value: f32) -> Result<u64, Unhashable> {
        self.serialize_f64(value.into())
    }

    fn serialize_f64(self, value: f64) -> Result<u64, Unhashable> {
        Ok(Kind::Float.of(&value.to_le_bytes()))
    }

    fn serialize_bool(self, value: bool) -> Result<u64, Unhashable> {
        Ok(Kind::Bool.of(&[value.into()]))
    }

    fn serialize_char(self, value: char) -> Result<u64, Unhashable> {
        Ok(text(value.encode_utf8(&mut [0; 4])))
    }

    fn serialize_str(self, value: &str) -> Result<u64, Unhashable> {
        Ok(text(value))
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<u64, Unhashable> {
        Ok(Kind::Bytes.of(value))
    }

    fn serialize_none(self) -> Result<u64, Unhashable> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<u64, Unhashable> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<u64, Unhashable> {
        Ok(Kind::Nothing.of(&[]))
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<u64, Unhashable> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, name: &'static str) -> Result<u64, Unhashable> {
        Ok(text(name))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<u64, Unhashable> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        value: &T,
    ) -> Result<u64, Unhashable> {
        Ok(fold(variant(name), value.serialize(self)?))
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Unordered<Self>, Unhashable> {
        Ok(Unordered::new(Kind::Elements as u64, self))
    }

    fn serialize_tuple(self, _: usize) -> Result<Ordered<Self>, Unhashable> {
        Ok(self.places(Kind::Places as u64))
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Ordered<Self>, Unhashable> {
        Ok(self.places(Kind::Places as u64))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        _: usize,
    ) -> Result<Ordered<Self>, Unhashable> {
        Ok(self.places(variant(name)))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Unordered<Self>, Unhashable> {
        Ok(Unordered::new(Kind::Fields as u64, self))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Unordered<Self>, Unhashable> {
        Ok(Unordered::new(Kind::Fields as u64, self))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        _: usize,
    ) -> Result<Unordered<Self>, Unhashable> {
        Ok(Unordered::new(variant(name), self))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap, HashSet};

    use serde::Serialize;
    use serde_json::json;

    use super::*;

    fn of<T: Serialize>(value: T) -> u64 {
        content(&value).unwrap()
    }

    #[derive(Serialize)]
    struct Line {
        product: &'static str,
        pieces: u32,
    }

    #[derive(Serialize)]
    struct Wrapped<T>(T);

    #[derive(Serialize)]
    enum How {
        Free,
        Paid(u8),
        Both(u8, u8),
        Named { pieces: u32 },
    }

    #[test]
    fn what_says_something_else_is_another() {
        let all = [
            of(()),
            of(false),
            of(true),
            of(0),
            of(1),
            of(-1),
            of(0.0),
            of(u128::MAX),
            of(i128::MAX),
            of(""),
            of("0"),
            of(vec![0_u8]),
            of(vec![0_u8, 0]),
            of(Vec::<u8>::new()),
            of((0,)),
            of((0, 1)),
            of((1, 0)),
            of(BTreeMap::<u8, u8>::new()),
            of(BTreeMap::from([("product", "0")])),
            of(BTreeMap::from([("0", "product")])),
            of(Line { product: "ab", pieces: 1 }),
            of(Line { product: "a", pieces: 1 }),
            of(Line { product: "ab", pieces: 2 }),
            of(vec![BTreeMap::from([("a", 1)]), BTreeMap::from([("b", 2)])]),
            of(vec![BTreeMap::from([("a", 2)]), BTreeMap::from([("b", 1)])]),
            of(How::Free),
            of(How::Paid(0)),
            of(How::Paid(1)),
            of(How::Both(0, 1)),
            of(How::Named { pieces: 1 }),
        ];
        assert_eq!(HashSet::from(all).len(), all.len(), "{all:#?}");
    }

    #[test]
    fn what_says_the_same_is_the_same_whatever_it_is_called() {
        assert_eq!(of(7_u8), of(7_i64));
        assert_eq!(of(7_u64), of(Wrapped(Some(7_u128))));
        assert_eq!(of(None::<u8>), of(()));
        assert_eq!(of(0.5_f32), of(0.5_f64));
        assert_eq!(of('a'), of("a"));
        assert_eq!(of(How::Free), of("Free"));
        assert_eq!(of(Line { product: "a", pieces: 1 }), of(json!({ "pieces": 1, "product": "a" })));
    }

    #[test]
    fn hash_tables_of_the_same_content_are_the_same() {
        let numbers = || (0..1_000_u32).map(|number| (number, number.to_string()));
        let (one, other): (HashMap<_, _>, HashMap<_, _>) = (numbers().collect(), numbers().rev().collect());
        assert!(!one.iter().eq(other.iter()), "two tables iterate in two orders");
        assert_eq!(of(&one), of(&other));
        let keys = |table: HashMap<u32, String>| table.into_keys().collect::<HashSet<_>>();
        assert_eq!(of(keys(one)), of(keys(other)));
    }

    /// The fingerprint is stored, so that every later version of this crate must compute the same.
    #[test]
    fn it_is_the_same_for_ever() {
        let line = Line { product: "a", pieces: 1 };
        assert_eq!(format!("{:016x}", of(&line)), "e1ea341ca0c03681");
        assert_eq!(
            format!("{:016x}", of((vec![1.5], How::Both(1, 2), "\u{e9}", None::<u8>))),
            "2d5fa347164d3ed1"
        );
    }
}
