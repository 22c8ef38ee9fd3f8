//! What users' types implement beside the traits of the model, each with its own message for the case that it is missing.
//!
//! As supertraits, such as `View: Default + Serialize`, they would be reported at each use of the type, dozens of times,
//! and in the words of the compiler. A missing bound of an associated type is reported once, where that type is named.
//! So [`Aggregate::Event`](crate::Aggregate::Event), [`Command::Aggregate`](crate::Command::Aggregate),
//! [`View::Of`](crate::View::Of), [`Policy::Of`](crate::Policy::Of) and [`EventHandler::Of`](crate::EventHandler::Of)
//! have these bounds, about the type that implements the trait. The framework relies on them through associated types
//! such as [`State`](KeepsState::State) and [`Document`](KeepsDocument::Document), which are that type. For the
//! same reason [`Aggregate::Rejection`](crate::Aggregate::Rejection) has one bound without supertraits,
//! [`IsRejection`](crate::base::rejection::IsRejection).

use std::borrow::{Borrow, BorrowMut};

use serde::{Deserializer, Serialize, Serializer, de::DeserializeOwned};

use crate::encoding::variant::{deserialize_variant, serialize_variant};

/// [`Default`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not implement `Default`",
    label = "before its first event, `{Self}` is its default",
    note = "add `Default` to the derives of `{Self}`, or implement it"
)]
pub trait HasDefault: Default {}

#[diagnostic::do_not_recommend]
impl<T: Default> HasDefault for T {}

/// [`Clone`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not implement `Clone`",
    label = "events are applied to a clone of `{Self}`",
    note = "add `Clone` to the derives of `{Self}`, or implement it"
)]
pub trait HasClone: Clone {}

#[diagnostic::do_not_recommend]
impl<T: Clone> HasClone for T {}

/// [`Send`] and [`Sync`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not implement `Send` and `Sync`",
    label = "any thread may use `{Self}`",
    note = "each of its fields must be `Send` and `Sync`: take `Arc` in place of `Rc`, and `Mutex` or an atomic number \
            in place of `RefCell` or `Cell`, and no raw pointer"
)]
pub trait IsShared: Send + Sync + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Send + Sync + 'static> IsShared for T {}

/// [`Send`] and [`Sync`], for the events of an aggregate or another source.
#[diagnostic::on_unimplemented(
    message = "an event does not implement `Send` and `Sync`",
    label = "any thread may use these events",
    note = "each of its fields must be `Send` and `Sync`: take `Arc` in place of `Rc`, and `Mutex` or an atomic number \
            in place of `RefCell` or `Cell`, and no raw pointer"
)]
#[allow(
    misplaced_diagnostic_attributes,
    reason = "of a bound on an associated type the compiler checks the supertraits, too, and would report each of them; \
              this makes it one error, in our words"
)]
#[diagnostic::do_not_recommend]
pub trait IsSharedEvent: Send + Sync + 'static {}

#[diagnostic::do_not_recommend]
impl<E: Send + Sync + 'static> IsSharedEvent for E {}

/// serde's [`Serialize`] and [`Deserialize`](serde::Deserialize).
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not implement serde's `Serialize` and `Deserialize`",
    label = "`{Self}` is stored as serde writes it",
    note = "add `serde::Serialize` and `serde::Deserialize` to the derives of `{Self}`"
)]
pub trait HasSerde: Serialize + DeserializeOwned {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned> HasSerde for T {}

/// The requirements on an aggregate `A`, as a bound on its events.
pub trait KeepsState<A> {
    /// `A`.
    type State: Default + Clone + Send + Sync + BorrowMut<A> + From<A> + Into<A> + 'static;
}

impl<E, A: HasDefault + HasClone + IsShared> KeepsState<A> for E {
    type State = A;
}

/// The requirements on a view or a policy `T`, as a bound on what it follows.
pub trait KeepsDocument<T> {
    /// `T`.
    type Document: Default
        + Serialize
        + DeserializeOwned
        + Send
        + Sync
        + BorrowMut<T>
        + From<T>
        + Into<T>
        + 'static;
}

impl<Of, T: HasDefault + HasSerde + IsShared> KeepsDocument<T> for Of {
    type Document = T;
}

/// The requirement on a command `C`, as a bound on its aggregate.
pub trait Takes<C> {
    /// `C`.
    type Command: Send + Sync + Borrow<C> + From<C> + 'static;
}

impl<A, C: IsShared> Takes<C> for A {
    type Command = C;
}

/// An event or a command of a derive, which writes and reads it with serde: the derive implements this. A type without
/// serde is then reported once, and not in each method that writes or reads it.
pub trait Stored<As>: Sized {
    /// The type itself.
    type This: StoredAs<Self>;
}

/// What a type is stored as: one type can be an event and a command.
#[derive(Debug)]
pub enum As<const IS_COMMAND: bool> {}

/// A type is stored as an event.
pub type AsEvent = As<false>;

/// A type is stored and sent as a command.
pub type AsCommand = As<true>;

/// What the derives call: the methods of [`StoredAs`].
impl<const IS_COMMAND: bool> As<IS_COMMAND> {
    pub fn write<T: Stored<Self>, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        T::This::write(value, serializer)
    }

    pub fn read<'de, T: Stored<Self>, D: Deserializer<'de>>(data: D) -> Result<T, D::Error> {
        T::This::read(data)
    }

    pub fn write_variant<T: Stored<Self>, S: Serializer>(
        value: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        T::This::write_variant(value, serializer)
    }

    pub fn read_variant<'de, T: Stored<Self>, D: Deserializer<'de>>(
        index: u32,
        data: D,
    ) -> Result<T, D::Error> {
        T::This::read_variant(index, data)
    }
}

/// How serde writes and reads a `T`, or the content of one of its variants.
#[diagnostic::on_unimplemented(
    message = "`{T}` does not implement serde's `Serialize` and `Deserialize`",
    label = "it is stored and sent as serde writes it",
    note = "add `serde::Serialize` and `serde::Deserialize` to the derives of `{T}`"
)]
pub trait StoredAs<T> {
    /// Writes all of it.
    ///
    /// # Errors
    ///
    /// The serializer's.
    fn write<S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error>;

    /// Reads all of it.
    ///
    /// # Errors
    ///
    /// The deserializer's.
    fn read<'de, D: Deserializer<'de>>(data: D) -> Result<T, D::Error>;

    /// Writes the content of its variant.
    ///
    /// # Errors
    ///
    /// The serializer's, or when serde writes it in another form than by default.
    fn write_variant<S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error>;

    /// Reads the content of the variant of that index.
    ///
    /// # Errors
    ///
    /// The deserializer's.
    fn read_variant<'de, D: Deserializer<'de>>(index: u32, data: D) -> Result<T, D::Error>;
}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned> StoredAs<T> for T {
    fn write<S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        value.serialize(serializer)
    }

    fn read<'de, D: Deserializer<'de>>(data: D) -> Result<T, D::Error> {
        T::deserialize(data)
    }

    fn write_variant<S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_variant(value, serializer)
    }

    fn read_variant<'de, D: Deserializer<'de>>(index: u32, data: D) -> Result<T, D::Error> {
        deserialize_variant(index, data)
    }
}
