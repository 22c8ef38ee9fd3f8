//! Fingerprints: what serde shows of a value, folded into 64 bits with XXH3.
//!
//! There are two kinds: [`exact`] tells whether two values are the same value of the same type, down to the kind of
//! each number; [`content`] tells whether they have the same content: the names of their types do not count. Both ignore
//! the order of elements in sequences and maps, because the order in a hash table differs from table to table.

mod content;
pub(crate) mod shape;

use std::fmt;

use serde::{
    Serialize, Serializer,
    ser::{
        SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
        SerializeTupleStruct, SerializeTupleVariant,
    },
};
use xxhash_rust::xxh3::xxh3_64_with_seed;

pub(crate) use content::{content, text};
pub(crate) use shape::{difference, exact};

/// Why a value cannot be serialized: the error of its `Serialize`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unhashable(String);

impl serde::ser::Error for Unhashable {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

/// Folds the next number into a hash; the order counts.
pub(crate) fn fold(hash: u64, next: u64) -> u64 {
    xxh3_64_with_seed(&next.to_le_bytes(), hash)
}

/// The serializer for the parts of a value.
trait Element: Serializer<Ok = u64, Error = Unhashable> + Copy {
    /// Called for each field of a struct, after the fields inside it.
    fn field(self, _name: &'static str, _value: u64) {}

    /// Called for each field that `skip_serializing_if` leaves out.
    fn left_out(self, _name: &'static str) {}

    /// The serializer for elements whose order does not count.
    fn of_any_order(self) -> Self {
        self
    }
}

/// Values whose order counts.
struct Ordered<S> {
    hash: u64,
    element: S,
}

impl<S: Element> Ordered<S> {
    fn add<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unhashable> {
        self.hash = fold(self.hash, value.serialize(self.element)?);
        Ok(())
    }

    fn add_named<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Unhashable> {
        let value = value.serialize(self.element)?;
        self.element.field(name, value);
        self.hash = fold(fold(self.hash, name.serialize(self.element)?), value);
        Ok(())
    }

    fn total(&self) -> u64 {
        self.hash
    }
}

/// Elements and entries whose order does not count.
struct Unordered<S> {
    /// The hash of their kind.
    of: u64,
    sum: u64,
    count: u64,
    /// The key whose value comes next.
    key: u64,
    element: S,
}

impl<S: Element> Unordered<S> {
    fn new(of: u64, element: S) -> Self {
        Self { of, sum: 0, count: 0, key: 0, element: element.of_any_order() }
    }

    fn add(&mut self, element: u64) {
        // Each element was mixed before, so a sum of them is as good as a sequence.
        self.sum = self.sum.wrapping_add(element);
        self.count += 1;
    }

    fn add_entry<T: Serialize + ?Sized>(&mut self, key: u64, value: &T) -> Result<(), Unhashable> {
        let value = value.serialize(self.element)?;
        self.add(fold(key, value));
        Ok(())
    }

    fn add_named<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Unhashable> {
        let key = fold(self.of, name.serialize(self.element)?);
        self.add_entry(key, value)
    }

    fn total(&self) -> u64 {
        fold(fold(self.of, self.count), self.sum)
    }
}

impl<S: Element> SerializeSeq for Unordered<S> {
    type Ok = u64;
    type Error = Unhashable;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unhashable> {
        self.add(value.serialize(self.element)?);
        Ok(())
    }

    fn end(self) -> Result<u64, Unhashable> {
        Ok(self.total())
    }
}

impl<S: Element> SerializeMap for Unordered<S> {
    type Ok = u64;
    type Error = Unhashable;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Unhashable> {
        self.key = fold(self.of, key.serialize(self.element)?);
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unhashable> {
        self.add_entry(self.key, value)
    }

    fn end(self) -> Result<u64, Unhashable> {
        Ok(self.total())
    }
}

macro_rules! ordered {
    ($($part:ident $method:ident;)*) => {
        $(impl<S: Element> $part for Ordered<S> {
            type Ok = u64;
            type Error = Unhashable;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unhashable> {
                self.add(value)
            }

            fn end(self) -> Result<u64, Unhashable> {
                Ok(self.total())
            }
        })*
    };
}

macro_rules! fields {
    ($($part:ident for $of:ident;)*) => {
        $(impl<S: Element> $part for $of<S> {
            type Ok = u64;
            type Error = Unhashable;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), Unhashable> {
                self.add_named(name, value)
            }

            fn skip_field(&mut self, name: &'static str) -> Result<(), Unhashable> {
                self.element.left_out(name);
                Ok(())
            }

            fn end(self) -> Result<u64, Unhashable> {
                Ok(self.total())
            }
        })*
    };
}

ordered! {
    SerializeTuple serialize_element;
    SerializeTupleStruct serialize_field;
    SerializeTupleVariant serialize_field;
}

fields! {
    SerializeStruct for Ordered;
    SerializeStructVariant for Ordered;
    SerializeStruct for Unordered;
    SerializeStructVariant for Unordered;
}
