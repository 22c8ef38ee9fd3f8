//! Whether two values are the same in every respect that serde shows.
//!
//! A format that stores values by position alone reads the bytes of one type as another without an error. The
//! fingerprint detects that: two values have the same one only if serde shows the same tree for them, with the same
//! names of types, fields and variants, the same kinds of numbers, and the same content.

use std::cell::{Cell, RefCell};

use serde::{Serialize, Serializer};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::encoding::fingerprint::{Element, Ordered, Unhashable, Unordered, fold};

/// The fingerprint of `value`, as serde shows it to a format that is human-readable (`readable`) or not.
///
/// # Errors
///
/// The error of a `Serialize` impl.
pub(crate) fn exact<T: Serialize + ?Sized>(value: &T, readable: bool) -> Result<u64, Unhashable> {
    value.serialize(Exact { readable, fields: None, left_out: None })
}

/// How a value that was read differs from the one that was written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Difference {
    /// Its `Serialize` fails.
    #[error("it cannot be compared: {0}")]
    Unhashable(#[from] Unhashable),
    /// serde shows another value.
    #[error("it would come back as another value{}", in_field(*.0))]
    Other(Option<&'static str>),
}

fn in_field(field: Option<&str>) -> String {
    field.map(|field| format!(", with another `{field}`")).unwrap_or_default()
}

/// Whether serde shows `written` and `read` as the same, to a format that is human-readable (`readable`) or not.
///
/// # Errors
///
/// [`Difference`], with the innermost field that differs first, if a field differs.
pub(crate) fn difference<A, B>(written: &A, read: &B, readable: bool) -> Result<(), Difference>
where
    A: Serialize + ?Sized,
    B: Serialize + ?Sized,
{
    if exact(written, readable)? == exact(read, readable)? {
        return Ok(());
    }
    let (written, read) = (fields(written, readable)?, fields(read, readable)?);
    let other = written.iter().zip(&read).find(|(written, read)| written != read);
    Err(Difference::Other(other.map(|(written, _)| written.0)))
}

/// The fields of a value and the fields inside them, with their fingerprints. Fields inside lists and maps are left
/// out, because their order may differ.
fn fields<T: Serialize + ?Sized>(value: &T, readable: bool) -> Result<Fields, Unhashable> {
    let fields = RefCell::default();
    value.serialize(Exact { readable, fields: Some(&fields), left_out: None })?;
    Ok(fields.into_inner())
}

/// The first field that serde's `skip_serializing_if` leaves out of what is written, also inside lists and maps.
#[cfg(feature = "bincode")]
pub(crate) fn left_out<T: Serialize>(value: &T, readable: bool) -> Option<&'static str> {
    let left_out = Cell::new(None);
    // After an error, what was left out before it still counts.
    let _ = value.serialize(Exact { readable, fields: None, left_out: Some(&left_out) });
    left_out.get()
}

type Fields = Vec<(&'static str, u64)>;

/// The kind of a value: the same content of another kind is another value.
#[derive(Clone, Copy)]
enum Kind {
    Bool = 1,
    I8,
    I16,
    I32,
    I64,
    I128,
    U8,
    U16,
    U32,
    U64,
    U128,
    F32,
    F64,
    Char,
    Str,
    Bytes,
    None,
    Some,
    Unit,
    UnitStruct,
    UnitVariant,
    NewtypeStruct,
    NewtypeVariant,
    Seq,
    Tuple,
    TupleStruct,
    TupleVariant,
    Map,
    Struct,
    StructVariant,
}

impl Kind {
    fn of(self, bytes: &[u8]) -> u64 {
        xxh3_64_with_seed(bytes, self as u64)
    }
}

/// A variant by its type, its index and its name.
fn variant(kind: Kind, name: &str, index: u32, variant: &str) -> u64 {
    fold(fold(kind.of(name.as_bytes()), u64::from(index)), Kind::Str.of(variant.as_bytes()))
}

#[derive(Clone, Copy)]
struct Exact<'a> {
    readable: bool,
    /// The list to which fields are added.
    fields: Option<&'a RefCell<Fields>>,
    /// The place for the name of a field that is left out.
    left_out: Option<&'a Cell<Option<&'static str>>>,
}

impl Element for Exact<'_> {
    fn field(self, name: &'static str, value: u64) {
        if let Some(fields) = self.fields {
            fields.borrow_mut().push((name, value));
        }
    }

    fn left_out(self, name: &'static str) {
        if let Some(left_out) = self.left_out {
            left_out.set(left_out.get().or(Some(name)));
        }
    }

    fn of_any_order(self) -> Self {
        Self { fields: None, ..self }
    }
}

impl Exact<'_> {
    fn ordered(self, hash: u64) -> Ordered<Self> {
        Ordered { hash, element: self }
    }

    fn unordered(self, kind: Kind) -> Unordered<Self> {
        Unordered::new(kind.of(&[]), self)
    }
}

macro_rules! scalars {
    ($($method:ident $kind:ident $ty:ty;)*) => {
        $(fn $method(self, value: $ty) -> Result<u64, Unhashable> {
            Ok(Kind::$kind.of(&value.to_le_bytes()))
        })*
    };
}

impl Serializer for Exact<'_> {
    type Ok = u64;
    type Error = Unhashable;
    type SerializeSeq = Unordered<Self>;
    type SerializeTuple = Ordered<Self>;
    type SerializeTupleStruct = Ordered<Self>;
    type SerializeTupleVariant = Ordered<Self>;
    type SerializeMap = Unordered<Self>;
    type SerializeStruct = Ordered<Self>;
    type SerializeStructVariant = Ordered<Self>;

    scalars! {
        serialize_i8 I8 i8;
        serialize_i16 I16 i16;
        serialize_i32 I32 i32;
        serialize_i64 I64 i64;
        serialize_i128 I128 i128;
        serialize_u8 U8 u8;
        serialize_u16 U16 u16;
        serialize_u32 U32 u32;
        serialize_u64 U64 u64;
        serialize_u128 U128 u128;
        serialize_f32 F32 f32;
        serialize_f64 F64 f64;
    }

    fn is_human_readable(&self) -> bool {
        self.readable
    }

    fn serialize_bool(self, value: bool) -> Result<u64, Unhashable> {
        Ok(Kind::Bool.of(&[value.into()]))
    }

    fn serialize_char(self, value: char) -> Result<u64, Unhashable> {
        Ok(Kind::Char.of(&u32::from(value).to_le_bytes()))
    }

    fn serialize_str(self, value: &str) -> Result<u64, Unhashable> {
        Ok(Kind::Str.of(value.as_bytes()))
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<u64, Unhashable> {
        Ok(Kind::Bytes.of(value))
    }

    fn serialize_none(self) -> Result<u64, Unhashable> {
        Ok(Kind::None.of(&[]))
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<u64, Unhashable> {
        Ok(fold(Kind::Some.of(&[]), value.serialize(self)?))
    }

    fn serialize_unit(self) -> Result<u64, Unhashable> {
        Ok(Kind::Unit.of(&[]))
    }

    fn serialize_unit_struct(self, name: &'static str) -> Result<u64, Unhashable> {
        Ok(Kind::UnitStruct.of(name.as_bytes()))
    }

    fn serialize_unit_variant(
        self,
        name: &'static str,
        index: u32,
        named: &'static str,
    ) -> Result<u64, Unhashable> {
        Ok(variant(Kind::UnitVariant, name, index, named))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<u64, Unhashable> {
        Ok(fold(Kind::NewtypeStruct.of(name.as_bytes()), value.serialize(self)?))
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        named: &'static str,
        value: &T,
    ) -> Result<u64, Unhashable> {
        Ok(fold(variant(Kind::NewtypeVariant, name, index, named), value.serialize(self)?))
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Unordered<Self>, Unhashable> {
        Ok(self.unordered(Kind::Seq))
    }

    fn serialize_tuple(self, _: usize) -> Result<Ordered<Self>, Unhashable> {
        Ok(self.ordered(Kind::Tuple.of(&[])))
    }

    fn serialize_tuple_struct(self, name: &'static str, _: usize) -> Result<Ordered<Self>, Unhashable> {
        Ok(self.ordered(Kind::TupleStruct.of(name.as_bytes())))
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        named: &'static str,
        _: usize,
    ) -> Result<Ordered<Self>, Unhashable> {
        Ok(self.ordered(variant(Kind::TupleVariant, name, index, named)))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Unordered<Self>, Unhashable> {
        Ok(self.unordered(Kind::Map))
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Ordered<Self>, Unhashable> {
        Ok(self.ordered(Kind::Struct.of(name.as_bytes())))
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        named: &'static str,
        _: usize,
    ) -> Result<Ordered<Self>, Unhashable> {
        Ok(self.ordered(variant(Kind::StructVariant, name, index, named)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap, HashSet};

    use super::*;

    fn of<T: Serialize>(value: T) -> u64 {
        exact(&value, false).unwrap()
    }

    #[test]
    fn the_same_content_of_another_kind_is_another_value() {
        let all = [
            of(()),
            of(0_u8),
            of(0_u16),
            of(0_u32),
            of(0_u64),
            of(0_u128),
            of(0_i8),
            of(0_i16),
            of(0_i32),
            of(0_i64),
            of(0_i128),
            of(0_f32),
            of(0_f64),
            of(-0_f64),
            of('\0'),
            of("\0"),
            of(false),
            of(None::<u8>),
            of(Some(0_u8)),
            of(Some(Some(0_u8))),
            of((0_u8,)),
            of((0_u8, 0_u8)),
            of([0_u8; 3]),
            of(vec![0_u8]),
            of(vec![0_u8, 0]),
            of(Vec::<u8>::new()),
            of(HashMap::<u8, u8>::new()),
            of(HashMap::from([(0_u8, 0_u8)])),
            of(vec![(0_u8, 0_u8)]),
        ];
        assert_eq!(HashSet::from(all).len(), all.len(), "{all:#?}");
    }

    #[test]
    fn values_and_their_places_count() {
        assert_ne!(of((1_u8, 2_u8)), of((2_u8, 1_u8)));
        assert_ne!(of(vec![(1_u8, 2_u8), (3, 4)]), of(vec![(1_u8, 4_u8), (3, 2)]));
        assert_ne!(of(BTreeMap::from([(1, 2), (3, 4)])), of(BTreeMap::from([(1, 4), (3, 2)])));
        assert_ne!(of(vec!["ab", "c"]), of(vec!["a", "bc"]));
        assert_ne!(of(1_u8), of(2_u8));
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

    #[test]
    fn a_number_that_is_none_is_the_same_as_itself() {
        assert_eq!(of(f64::NAN), of(f64::NAN));
    }
}
