//! Commands: requests that may be refused.

use std::marker::PhantomData;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{
    Deserializer, Serialize, Serializer,
    de::{self, DeserializeSeed},
};

use crate::{
    base::{
        id::{CausationId, CommandId, CorrelationId},
        metadata::Metadata,
    },
    encoding::{
        fingerprint,
        json::{self, NotKept},
    },
    model::{
        aggregate::Aggregate,
        required::{AsCommand, Stored, Takes},
    },
};

/// A request to one aggregate, named in the imperative; it may be refused.
///
/// ```
/// use cqrs_core::{Command, Lifecycle};
/// use serde::{Deserialize, Serialize};
/// # use cqrs_core::{Aggregate, Apply, Event};
/// # #[derive(Debug, Clone, Serialize, Deserialize, Event)]
/// # #[event(name = "order.created")]
/// # struct OrderCreated;
/// # #[derive(Debug, thiserror::Error)]
/// # enum OrderRejection {}
/// # #[derive(Default, Clone, Aggregate)]
/// # #[aggregate(id = u32, event = OrderCreated, rejection = OrderRejection)]
/// # struct Order;
/// # impl Apply<OrderCreated> for Order { fn apply(&mut self, _: &OrderCreated) {} }
///
/// #[derive(Debug, Serialize, Deserialize, Command)]
/// #[command(aggregate = Order, create)]
/// struct CreateOrder {
///     #[command(id)]
///     order: u32,
///     customer: String,
/// }
///
/// assert_eq!(CreateOrder::NAMES, ["create_order"]);
/// let command = CreateOrder { order: 7, customer: "anna".to_owned() };
/// assert_eq!((command.name(), command.lifecycle()), ("create_order", Lifecycle::Create));
/// ```
///
/// # Commands as an enum
///
/// An enum is several commands, with one [`Handle`](crate::Handle) that matches. Each variant has its own name,
/// lifecycle and id. In messages, in the intents of policies and in the fingerprint of a command id, it equals a struct
/// of that name with those fields: one form can replace the other.
///
/// ```
#[doc = include_str!("../../examples/command_enum.rs")]
/// ```
/// The type needs [`Send`] and [`Sync`], since any thread may carry it out. A bound `C: Command` in generic code does not
/// imply these: write them where the code needs them.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a command",
    note = "add `#[derive(cqrs_core::Command)]` with `#[command(aggregate = …)]`, and serde's two derives"
)]
pub trait Command: Sized + 'static {
    /// The names on a wire, such as `create_order`: one, or one for each variant of an enum.
    const NAMES: &'static [&'static str];

    /// The aggregate that decides.
    type Aggregate: Aggregate + Takes<Self>;

    /// The id of that aggregate.
    fn aggregate_id(&self) -> &<Self::Aggregate as Aggregate>::Id
    where
        // It is so anyway. This way the compiler reports a type that is no aggregate once less.
        Self::Aggregate: Aggregate;

    /// The name of this command; one of [`NAMES`](Command::NAMES).
    fn name(&self) -> &'static str {
        Self::NAMES[0]
    }

    /// Whether the aggregate must exist before the command is handled.
    fn lifecycle(&self) -> Lifecycle {
        Lifecycle::Update
    }

    /// Writes the fields, without the name.
    ///
    /// # Errors
    ///
    /// The serializer's.
    fn serialize_fields<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error>;

    /// Reads the fields of the command called `name`, which is one of [`NAMES`](Command::NAMES).
    ///
    /// # Errors
    ///
    /// The deserializer's.
    fn deserialize_fields<'de, D: Deserializer<'de>>(name: &str, fields: D) -> Result<Self, D::Error>;
}

/// The command `C`: that type, of which generic code knows here that it can be sent.
pub(crate) type CommandOf<C> = <<C as Command>::Aggregate as Takes<C>>::Command;

/// The id of the aggregate in the marked field of the command `C`, for the derive.
pub fn aggregate_id<C: Command, Field>(field: &Field) -> &IdOf<C>
where
    Field: IsIdOf<C::Aggregate, IdOf<C>>,
{
    field.id()
}

type IdOf<C> = <<C as Command>::Aggregate as Aggregate>::Id;

/// A field's type is the type `Id` of the ids of the aggregate `A`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not the type of the ids of `{A}`, which is `{Id}`",
    label = "expected `{Id}`",
    note = "the field with `#[command(id)]` has the type that `#[aggregate(id = …)]` of `{A}` names"
)]
pub trait IsIdOf<A, Id> {
    /// The id.
    fn id(&self) -> &Id;
}

#[diagnostic::do_not_recommend]
impl<A, Id> IsIdOf<A, Id> for Id {
    fn id(&self) -> &Id {
        self
    }
}

/// The fields of a command, for serde.
pub(crate) struct Fields<'a, C>(pub(crate) &'a C);

impl<C: Command> Serialize for Fields<'_, C> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize_fields(serializer)
    }
}

/// Whether a command expects its aggregate to exist. An aggregate exists once it has an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifecycle {
    /// It must not exist.
    Create,
    /// It must exist.
    Update,
    /// It may exist or not.
    Upsert,
}

/// What a handler may know beside the state and the command: plain values only.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Context {
    /// The command's id.
    pub command_id: CommandId,
    /// The business transaction that the command belongs to.
    pub correlation_id: CorrelationId,
    /// The message that caused the command, if another message did.
    pub causation_id: Option<CausationId>,
    /// The time at which the command is handled.
    pub time: Timestamp,
    /// The metadata of the command: the user, the tenant.
    pub metadata: Metadata,
}

impl Context {
    /// A context for the command `command_id` at `time`, in a transaction of its own.
    pub fn new(command_id: CommandId, time: Timestamp) -> Self {
        Self {
            command_id,
            correlation_id: command_id.into(),
            causation_id: None,
            time,
            metadata: Metadata::default(),
        }
    }
}

/// Encodes the fields of a command, and checks that they are read back as the same.
///
/// # Errors
///
/// Like [`encode_checked`](json::encode_checked).
pub(crate) fn to_json<C: Command>(command: &C) -> Result<Bytes, NotKept> {
    let fields = Fields(command);
    let seed = FieldsOf { name: command.name(), command: PhantomData::<C> };
    json::written_and_read(&fields, seed, |read| fingerprint::difference(&fields, &Fields(read), true))
        .map(|(json, _)| json)
}

/// Decodes the fields of the command called `name`; the whole input must be one value.
pub(crate) fn from_json<C: Command>(name: &str, fields: &[u8]) -> Result<C, serde_json::Error> {
    json::decode_seed(FieldsOf { name, command: PhantomData }, fields)
}

struct FieldsOf<'a, C> {
    name: &'a str,
    command: PhantomData<C>,
}

impl<'de, C: Command> DeserializeSeed<'de> for FieldsOf<'_, C> {
    type Value = C;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<C, D::Error> {
        C::deserialize_fields(self.name, deserializer)
    }
}

/// Reads the fields of the command called `name`, which has the index of its variant among the enum's names.
///
/// # Errors
///
/// The deserializer's; and when the enum has no command of that name.
pub fn deserialize_command<'de, C: Command + Stored<AsCommand>, D: Deserializer<'de>>(
    name: &str,
    fields: D,
) -> Result<C, D::Error> {
    let index = C::NAMES.iter().position(|known| *known == name).and_then(|index| u32::try_from(index).ok());
    let index = index.ok_or_else(|| {
        de::Error::custom(format_args!("{name:?} is none of the commands {}", C::NAMES.join(", ")))
    })?;
    AsCommand::read_variant(index, fields)
}
