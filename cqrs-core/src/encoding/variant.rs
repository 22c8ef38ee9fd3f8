//! Reads and writes the payload of one enum variant through the enum's own serde derives.
//!
//! serde writes `Created { customer }` as `{"Created": {"customer": …}}`. The log stores the name apart from the
//! payload, so these two adapters drop the outer tag when writing and supply it when reading. Every serde attribute on
//! the fields keeps its meaning. The fields determine the payload's shape: a struct variant is a map, a newtype its
//! content, a tuple a sequence, a unit an empty map (so that fields with defaults can be added later).

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{
        self, DeserializeSeed, EnumAccess, IgnoredAny, IntoDeserializer, MapAccess, VariantAccess, Visitor,
    },
    ser::{self, Impossible, SerializeMap},
};

/// Writes the fields of an enum's variant, without the variant's name.
///
/// # Errors
///
/// The serializer's; and when the `Serialize` of `T` does not use serde's external tagging.
pub(crate) fn serialize_variant<T: Serialize, S: Serializer>(
    event: &T,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    event.serialize(VariantContent(serializer))
}

/// Reads the fields of the variant number `index` of an enum.
///
/// # Errors
///
/// The deserializer's.
pub(crate) fn deserialize_variant<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    index: u32,
    data: D,
) -> Result<T, D::Error> {
    T::deserialize(TaggedContent { index, data })
}

/// A serializer that accepts only enum variants, and writes their content.
struct VariantContent<S>(S);

fn untagged<T, E: ser::Error>() -> Result<T, E> {
    Err(E::custom("expected what serializes as an enum with serde's default (external) tagging"))
}

macro_rules! refuse {
    ($($method:ident($($argument:ty),*) -> $ok:ty;)*) => {
        $(fn $method(self $(, _: $argument)*) -> Result<$ok, S::Error> { untagged() })*
    };
}

impl<S: Serializer> Serializer for VariantContent<S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Impossible<S::Ok, S::Error>;
    type SerializeTuple = Impossible<S::Ok, S::Error>;
    type SerializeTupleStruct = Impossible<S::Ok, S::Error>;
    type SerializeTupleVariant = TupleContent<S::SerializeTuple>;
    type SerializeMap = Impossible<S::Ok, S::Error>;
    type SerializeStruct = Impossible<S::Ok, S::Error>;
    type SerializeStructVariant = StructContent<S::SerializeStruct>;

    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Result<S::Ok, S::Error> {
        // In formats where maps have a length, fields could not be added to an empty map anyway.
        if self.0.is_human_readable() {
            self.0.serialize_map(Some(0))?.end()
        } else {
            self.0.serialize_unit()
        }
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        value.serialize(self.0)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        self.0.serialize_tuple(len).map(TupleContent)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        self.0.serialize_struct(variant, len).map(StructContent)
    }

    refuse! {
        serialize_bool(bool) -> S::Ok;
        serialize_i8(i8) -> S::Ok;
        serialize_i16(i16) -> S::Ok;
        serialize_i32(i32) -> S::Ok;
        serialize_i64(i64) -> S::Ok;
        serialize_u8(u8) -> S::Ok;
        serialize_u16(u16) -> S::Ok;
        serialize_u32(u32) -> S::Ok;
        serialize_u64(u64) -> S::Ok;
        serialize_f32(f32) -> S::Ok;
        serialize_f64(f64) -> S::Ok;
        serialize_char(char) -> S::Ok;
        serialize_str(&str) -> S::Ok;
        serialize_bytes(&[u8]) -> S::Ok;
        serialize_none() -> S::Ok;
        serialize_unit() -> S::Ok;
        serialize_unit_struct(&'static str) -> S::Ok;
        serialize_seq(Option<usize>) -> Self::SerializeSeq;
        serialize_tuple(usize) -> Self::SerializeTuple;
        serialize_tuple_struct(&'static str, usize) -> Self::SerializeTupleStruct;
        serialize_map(Option<usize>) -> Self::SerializeMap;
        serialize_struct(&'static str, usize) -> Self::SerializeStruct;
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<S::Ok, S::Error> {
        untagged()
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: &T,
    ) -> Result<S::Ok, S::Error> {
        untagged()
    }
}

struct TupleContent<S>(S);

impl<S: ser::SerializeTuple> ser::SerializeTupleVariant for TupleContent<S> {
    type Ok = S::Ok;
    type Error = S::Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> {
        self.0.serialize_element(value)
    }

    fn end(self) -> Result<S::Ok, S::Error> {
        self.0.end()
    }
}

struct StructContent<S>(S);

impl<S: ser::SerializeStruct> ser::SerializeStructVariant for StructContent<S> {
    type Ok = S::Ok;
    type Error = S::Error;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), S::Error> {
        self.0.serialize_field(name, value)
    }

    fn skip_field(&mut self, name: &'static str) -> Result<(), S::Error> {
        self.0.skip_field(name)
    }

    fn end(self) -> Result<S::Ok, S::Error> {
        self.0.end()
    }
}

/// A deserializer that gives an enum its variant's index, and then the content.
struct TaggedContent<D> {
    index: u32,
    data: D,
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for TaggedContent<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        visitor.visit_enum(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de, D: Deserializer<'de>> EnumAccess<'de> for TaggedContent<D> {
    type Error = D::Error;
    type Variant = Content<D>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Content<D>), D::Error> {
        // serde's derive reads a variant by index as well as by name, so renames do not matter here.
        let variant = seed.deserialize(self.index.into_deserializer())?;
        Ok((variant, Content(self.data)))
    }
}

struct Content<D>(D);

impl<'de, D: Deserializer<'de>> VariantAccess<'de> for Content<D> {
    type Error = D::Error;

    fn unit_variant(self) -> Result<(), D::Error> {
        let nothing = EmptyMap(PhantomData::<()>);
        if self.0.is_human_readable() {
            self.0.deserialize_map(nothing)
        } else {
            self.0.deserialize_unit(nothing)
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, D::Error> {
        seed.deserialize(self.0)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_tuple(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_struct("", fields, visitor)
    }
}

/// Accepts a map and ignores its entries: a unit variant that once had, or will have, fields.
struct EmptyMap<T>(PhantomData<T>);

impl<'de> Visitor<'de> for EmptyMap<()> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an empty map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Shape {
        Unit,
        NewType(String),
        Tuple(u8, bool),
        #[serde(rename_all = "camelCase")]
        Struct {
            some_field: u64,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            maybe: Option<String>,
        },
    }

    fn json(shape: &Shape) -> String {
        let mut out = Vec::new();
        serialize_variant(shape, &mut serde_json::Serializer::new(&mut out)).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn index(shape: &Shape) -> u32 {
        match shape {
            Shape::Unit => 0,
            Shape::NewType(_) => 1,
            Shape::Tuple(..) => 2,
            Shape::Struct { .. } => 3,
        }
    }

    #[test]
    fn payload_is_the_content_alone() {
        assert_eq!(json(&Shape::Unit), "{}");
        assert_eq!(json(&Shape::NewType("x".into())), r#""x""#);
        assert_eq!(json(&Shape::Tuple(1, true)), "[1,true]");
        assert_eq!(json(&Shape::Struct { some_field: 7, maybe: None }), r#"{"someField":7}"#);
    }

    #[test]
    fn what_is_not_an_externally_tagged_enum_is_refused() {
        let mut out = Vec::new();
        let error = serialize_variant(&7, &mut serde_json::Serializer::new(&mut out)).unwrap_err();
        assert!(error.to_string().contains("external"), "{error}");
    }

    fn shapes() -> impl Strategy<Value = Shape> {
        prop_oneof![
            Just(Shape::Unit),
            any::<String>().prop_map(Shape::NewType),
            any::<(u8, bool)>().prop_map(|(a, b)| Shape::Tuple(a, b)),
            any::<(u64, Option<String>)>()
                .prop_map(|(some_field, maybe)| Shape::Struct { some_field, maybe }),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(shape in shapes()) {
            let text = json(&shape);
            let read: Shape =
                deserialize_variant(index(&shape), &mut serde_json::Deserializer::from_str(&text)).unwrap();
            prop_assert_eq!(read, shape);
        }
    }
}
