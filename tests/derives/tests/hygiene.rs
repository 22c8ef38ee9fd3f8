//! The derives' output in a hostile crate: no prelude, usual names with other meanings, and every lint that users might
//! deny.
#![no_implicit_prelude]
#![forbid(unsafe_code)]
#![deny(missing_docs, warnings, unused_qualifications, unreachable_pub, clippy::all, clippy::pedantic)]
#![allow(non_camel_case_types, reason = "types can be called like keywords")]

/// Every name that the output might rely on has another meaning here.
#[allow(dead_code, non_camel_case_types, missing_docs, reason = "only the names are of interest")]
mod names {
    pub(crate) mod core {}
    pub(crate) mod std {}
    pub(crate) mod alloc {}
    pub(crate) mod serde {}
    pub(crate) mod cqrs_core {}
    pub(crate) struct Option;
    pub(crate) struct Some;
    pub(crate) struct None;
    pub(crate) struct Result;
    pub(crate) struct Ok;
    pub(crate) struct Err;
    pub(crate) struct String;
    pub(crate) struct Vec;
    pub(crate) struct Box;
    pub(crate) struct Snapshots;
    pub(crate) struct Lifecycle;
    pub(crate) struct EventType;
    pub(crate) struct Error;
    pub(crate) trait Send {}
    pub(crate) trait Sync {}
    pub(crate) trait Sized {}
    pub(crate) trait Clone {}
    pub(crate) trait Default {}
    pub(crate) trait Display {}
    pub(crate) trait From {}
    pub(crate) trait Into {}
    pub(crate) trait ToString {}
    pub(crate) trait Serialize {}
    pub(crate) trait Serializer {}
    pub(crate) trait Deserialize {}
    pub(crate) trait Deserializer {}
    pub(crate) trait DeserializeOwned {}
    pub(crate) trait Event {}
    pub(crate) trait Aggregate {}
    pub(crate) trait Command {}
    pub(crate) trait CommandVisitor {}
    pub(crate) trait Query {}
    pub(crate) trait View {}
    pub(crate) trait Answer {}
    pub(crate) trait Documents {}

    /// Methods of the names that the output calls, on every type.
    pub(crate) trait Methods {
        fn get(&self) {}
        fn command(&self) {}
        fn version(&self) {}
        fn to_string(&self) {}
        fn serialize(&self) {}
    }

    impl<T> Methods for T {}
}

/// All derives among these names.
pub mod domain {
    #[allow(unused_imports, reason = "that they are here is the point")]
    use super::names::*;

    /// What happens, as an enum.
    #[derive(
        ::core::fmt::Debug,
        ::core::cmp::PartialEq,
        ::serde::Serialize,
        ::serde::Deserialize,
        ::cqrs_core::Event,
    )]
    #[event(prefix = "thing")]
    pub enum r#ThingEvent {
        /// With fields whose names are keywords.
        r#Type {
            /// One.
            r#type: u8,
            /// Another.
            r#match: u8,
        },
        /// A variant that is called like a type of the trait.
        Error(u8),
        /// A variant that is called like a constant of the trait.
        TYPES,
    }

    /// What happens, as a struct.
    #[derive(::core::fmt::Debug, ::serde::Serialize, ::serde::Deserialize, ::cqrs_core::Event)]
    #[event(name = "thing")]
    pub struct r#type {
        /// A keyword.
        pub r#struct: u8,
    }

    /// Why not.
    #[derive(::core::fmt::Debug)]
    pub struct No;

    impl ::core::fmt::Display for No {
        fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
            f.write_str("no")
        }
    }

    impl ::core::error::Error for No {}

    /// The state.
    #[derive(
        ::core::fmt::Debug,
        ::core::default::Default,
        ::core::clone::Clone,
        ::serde::Serialize,
        ::serde::Deserialize,
        ::cqrs_core::Aggregate,
    )]
    #[aggregate(id = u8, event = ThingEvent, rejection = No)]
    #[aggregate(commands(r#do, ThingCommand, Sized2<1>), snapshot(every = 5, version = 2))]
    pub struct Thing {
        r#type: u8,
    }

    impl ::cqrs_core::Apply<ThingEvent> for Thing {
        fn apply(&mut self, event: &ThingEvent) {
            if let ThingEvent::Type { r#type, .. } = event {
                self.r#type = *r#type;
            }
        }
    }

    /// A command that is called like a keyword.
    #[derive(::core::fmt::Debug, ::serde::Serialize, ::serde::Deserialize, ::cqrs_core::Command)]
    #[command(aggregate = Thing, create)]
    pub struct r#do {
        /// A keyword.
        #[command(id)]
        pub r#for: u8,
    }

    /// A command with a constant parameter.
    #[derive(::core::fmt::Debug, ::serde::Serialize, ::serde::Deserialize, ::cqrs_core::Command)]
    #[command(aggregate = Thing)]
    pub struct Sized2<const N: usize>(
        /// The id.
        #[command(id)]
        pub u8,
    );

    /// Commands.
    #[derive(::core::fmt::Debug, ::serde::Serialize, ::serde::Deserialize, ::cqrs_core::Command)]
    #[command(aggregate = Thing, suffix = "thing")]
    pub enum ThingCommand {
        /// With a field that is a keyword.
        #[command(create)]
        r#Try {
            /// A keyword.
            #[command(id)]
            r#in: u8,
        },
        /// Without names.
        Pair(u8, #[command(id)] u8, u8),
        /// A variant that is called like a type of the trait.
        #[command(upsert)]
        Aggregate {
            /// The id.
            #[command(id)]
            name: u8,
        },
        /// A variant that is called like a constant of the trait.
        NAMES(#[command(id)] u8),
    }

    /// A view.
    #[derive(
        ::core::fmt::Debug,
        ::core::cmp::PartialEq,
        ::core::default::Default,
        ::serde::Serialize,
        ::serde::Deserialize,
    )]
    pub struct Seen(pub u8);

    impl ::cqrs_core::View for Seen {
        const NAME: &'static str = "seen";
        type Of = Thing;
    }

    impl ::cqrs_core::Project<ThingEvent> for Seen {
        fn project(&mut self, _: &::cqrs_core::Envelope<ThingEvent>) {
            self.0 += 1;
        }
    }

    /// A question with a key.
    #[derive(::core::fmt::Debug, ::cqrs_core::Query)]
    #[query(view = Seen, answer = ::core::option::Option<Seen>)]
    pub struct r#where {
        /// A keyword.
        #[query(key)]
        pub r#ref: u8,
    }

    /// A question with a parameter and no key.
    #[derive(::core::fmt::Debug, ::cqrs_core::Query)]
    #[query(view = Seen, answer = u8)]
    pub struct Count<T, const N: usize>(
        /// Anything.
        pub T,
    );
}

use domain::{No, Seen, Thing, ThingCommand, ThingEvent};

impl ::cqrs_core::Handle<domain::r#do> for Thing {
    fn handle(&self, _: &domain::r#do, _: &::cqrs_core::Context) -> ::cqrs_core::Handled<Self> {
        ::core::result::Result::Ok(::core::convert::Into::into(ThingEvent::Error(1)))
    }
}

impl ::cqrs_core::Handle<domain::Sized2<1>> for Thing {
    fn handle(&self, _: &domain::Sized2<1>, _: &::cqrs_core::Context) -> ::cqrs_core::Handled<Self> {
        ::core::result::Result::Ok(::core::convert::Into::into(ThingEvent::TYPES))
    }
}

impl ::cqrs_core::Handle<ThingCommand> for Thing {
    fn handle(&self, _: &ThingCommand, _: &::cqrs_core::Context) -> ::cqrs_core::Handled<Self> {
        ::core::result::Result::Err(No)
    }
}

#[::core::prelude::v1::test]
fn names_follow_from_raw_identifiers() {
    use ::cqrs_core::{Command, Event, Query};

    ::core::assert_eq!(ThingEvent::Type { r#type: 1, r#match: 2 }.event_type().name, "thing.type");
    ::core::assert_eq!(domain::r#type { r#struct: 1 }.event_type().name, "thing");
    ::core::assert_eq!(<domain::r#do as Command>::NAMES, ["do"]);
    ::core::assert_eq!(<domain::r#where as Query>::NAME, "where");
    let names = ["try_thing", "pair_thing", "aggregate_thing", "names_thing"];
    ::core::assert_eq!(<ThingCommand as Command>::NAMES, names);
}

#[::core::prelude::v1::test]
fn each_variant_says_which_aggregate_it_is_for() {
    use ::cqrs_core::{Command, Lifecycle};

    for (command, id, lifecycle) in [
        (ThingCommand::Try { r#in: 1 }, 1, Lifecycle::Create),
        (ThingCommand::Pair(0, 2, 0), 2, Lifecycle::Update),
        (ThingCommand::Aggregate { name: 3 }, 3, Lifecycle::Upsert),
        (ThingCommand::NAMES(4), 4, Lifecycle::Update),
    ] {
        ::core::assert_eq!((*command.aggregate_id(), command.lifecycle()), (id, lifecycle));
    }
}

#[::core::prelude::v1::test]
fn a_view_answers_by_key_here_too() {
    fn answers<V: ::cqrs_core::Answer<Q>, Q: ::cqrs_core::Query<View = V>>() {}
    answers::<Seen, domain::r#where>();
}
