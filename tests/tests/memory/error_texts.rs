//! The texts of the public errors: each says its own part, so that a chain of them says nothing twice.

use std::{collections::BTreeSet, error::Error as StdError, fs, io, iter::successors, path::Path};

use cqrs_core::{
    AggregateKey, CommandError, CommandId, Error, StoreError,
    by_name::RouteError,
    intercept::Refused,
    model::InvalidMetadata,
    port::{AppendError, ProjectError, SaveError, Source, describe},
};
use cqrs_nats::{ConnectError, TopologyError};
use cqrs_nats_server::LocalServerError;
use cqrs_sql::SqlError;
use cqrs_tests::domain::AccountRejection;
use syn::{Fields, Item, Meta, Visibility};

/// An error of another crate, as most of them are: its text contains the text of its cause.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
struct Repeats {
    what: &'static str,
    source: Box<dyn StdError + Send + Sync>,
}

fn of_a_client() -> Source {
    let request = Repeats { what: "the request timed out", source: Box::new(io::Error::other("too late")) };
    Source::new(Repeats { what: "the call failed", source: Box::new(request) })
}

fn of_a_store() -> StoreError {
    StoreError::Unavailable { what: "reading".into(), source: Some(of_a_client()) }
}

fn of_json() -> serde_json::Error {
    serde_json::from_str::<u8>("x").unwrap_err()
}

macro_rules! with_a_cause {
    ($($error:ident::$variant:ident $content:tt),* $(,)?) => {
        vec![$((
            concat!(stringify!($error), "::", stringify!($variant)),
            Box::new(with_a_cause!(@ $error::$variant $content)) as Box<dyn StdError>,
        )),*]
    };
    (@ $error:ident::$variant:ident { $($field:ident: $value:expr),* $(,)? }) => { $error::$variant { $($field: $value),* } };
    (@ $error:ident::$variant:ident ($value:expr)) => { $error::$variant($value) };
}

/// Each variant of a public error that has a cause.
fn with_a_cause() -> Vec<(&'static str, Box<dyn StdError>)> {
    type OfAccount = CommandError<AccountRejection>;
    let (client, some, json) = (of_a_client, || Some(of_a_client()), of_json);
    let (what, place, url, stream) =
        (|| "reading".to_owned(), || "a.db".to_owned(), || "nats://host".to_owned(), || "BANK".to_owned());
    let aggregate = || AggregateKey::new("account", "1").unwrap();
    let file_error = || io::Error::other("no such file");
    let mut all = with_a_cause![
        Error::Unknown { aggregate: aggregate(), command: CommandId::new(), source: Box::new(of_a_store()) },
        Error::Encode { what: what(), source: json() },
        Error::Refused(Refused::new("no")),
        Error::InvalidId(AggregateKey::new("account", "x".repeat(200)).unwrap_err()),
        Error::InvalidMetadata(InvalidMetadata::Name("A".into())),
        Error::Store(of_a_store()),
        StoreError::Unavailable { what: what(), source: some() },
        StoreError::Stalled { what: what(), source: some() },
        StoreError::Full { what: what(), source: some() },
        StoreError::Missing { what: what(), source: some() },
        StoreError::Disabled { what: what(), source: some() },
        StoreError::NoLeader { what: what(), source: some() },
        StoreError::Refused { what: what(), source: some() },
        AppendError::Busy(of_a_store()),
        AppendError::Unknown(of_a_store()),
        AppendError::Failed(of_a_store()),
        SaveError::Failed(of_a_store()),
        ProjectError::Save(SaveError::Failed(of_a_store())),
        RouteError::Rejected(Box::new(of_a_store())),
        RouteError::Failed(Error::Store(of_a_store())),
        ConnectError::Unreachable { url: url(), source: client() },
        ConnectError::Unauthorized { url: url(), source: client() },
        ConnectError::Tls { url: url(), source: client() },
        ConnectError::Credentials { file: "a.creds".into(), source: file_error() },
        ConnectError::NoJetStream { url: url(), source: client() },
        ConnectError::NoDomain { url: url(), domain: "hub".into(), source: client() },
        ConnectError::NoAnswer { url: url(), source: client() },
        TopologyError::Full { stream: stream(), advice: "raise it", source: client() },
        TopologyError::NotCreated { stream: stream(), source: client() },
        TopologyError::Unavailable { stream: stream(), source: client() },
        SqlError::Unreachable { place: place(), source: client() },
        SqlError::Folder { folder: "/data".into(), file: "a.db".into(), source: file_error() },
        SqlError::File { place: place(), source: client() },
        SqlError::Address { example: "sqlite:a.db", source: client() },
        SqlError::Tls { place: place(), source: client() },
        SqlError::Unauthorized { place: place(), source: client() },
        SqlError::NoDatabase { place: place(), source: client() },
        SqlError::NotPermitted { place: place(), source: client() },
        SqlError::ReadOnly { place: place(), source: client() },
        SqlError::Full { place: place(), source: client() },
        SqlError::Busy { place: place(), source: client() },
        SqlError::NotADatabase { place: place(), source: client() },
        SqlError::Refused { place: place(), source: client() },
        LocalServerError::Run { path: "nats-server".into(), source: file_error() },
        LocalServerError::Folder { folder: "/tmp".into(), source: file_error() },
        LocalServerError::Store { folder: "/data".into(), source: file_error() },
    ];
    all.push(("CommandError", Box::new(OfAccount::Failed(Error::Store(of_a_store())))));
    all.push(("Source", Box::new(of_a_client())));
    all
}

#[test]
fn no_error_says_what_its_cause_says() {
    for (name, error) in with_a_cause() {
        let texts: Vec<_> =
            successors(Some(&*error), |error| (**error).source()).map(ToString::to_string).collect();
        for (at, text) in texts.iter().enumerate() {
            let before = texts[..at].iter().find(|before| before.contains(text.as_str()));
            assert_eq!(before, None, "{name} says {text:?} twice: {texts:#?}");
        }
        assert_eq!(texts.join(": "), describe(&*error), "{name}");
        let of_the_client = texts.iter().filter(|text| text.contains("too late")).count();
        assert!(of_the_client <= 1, "{name}: {texts:#?}");
    }
}

/// The list above has each public error with a cause. A new variant with a cause belongs into it.
#[test]
fn each_error_with_a_cause_is_checked() {
    let mut found = BTreeSet::new();
    for of in ["cqrs-core", "cqrs-nats", "cqrs-nats-server", "cqrs-sql"] {
        in_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(of).join("src"), &mut found);
    }
    let listed = with_a_cause().into_iter().map(|(name, _)| name.to_owned()).collect();
    assert_eq!(found, listed);
}

fn in_folder(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            in_folder(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let file = syn::parse_file(&fs::read_to_string(&path).unwrap()).unwrap();
            file.items.iter().for_each(|item| in_item(item, found));
        }
    }
}

/// Notes the variants of a public error that have a cause, and each type that implements `Error` by hand.
fn in_item(item: &Item, found: &mut BTreeSet<String>) {
    match item {
        Item::Enum(item) if is_error(&item.vis, &item.attrs) => {
            let caused = item.variants.iter().filter(|variant| has_cause(&variant.attrs, &variant.fields));
            found.extend(caused.map(|variant| format!("{}::{}", item.ident, variant.ident)));
        }
        Item::Struct(item) if is_error(&item.vis, &item.attrs) && has_cause(&item.attrs, &item.fields) => {
            found.insert(item.ident.to_string());
        }
        Item::Impl(item) => {
            let of = item.trait_.as_ref().and_then(|(path, _)| path.segments.last());
            if of.is_some_and(|of| of.ident == "StdError")
                && let syn::Type::Path(of) = &*item.self_ty
                && let Some(of) = of.path.segments.last()
                // Of a private type.
                && of.ident != "Cause"
            {
                found.insert(of.ident.to_string());
            }
        }
        _ => {}
    }
}

fn is_error(visibility: &Visibility, attributes: &[syn::Attribute]) -> bool {
    let derives = |attribute: &syn::Attribute| {
        let Meta::List(list) = &attribute.meta else { return false };
        list.path.is_ident("derive") && list.tokens.to_string().contains("thiserror :: Error")
    };
    matches!(visibility, Visibility::Public(_)) && attributes.iter().any(derives)
}

fn has_cause(attributes: &[syn::Attribute], fields: &Fields) -> bool {
    let has = |attributes: &[syn::Attribute], name| {
        attributes.iter().any(|attribute| attribute.path().is_ident(name))
    };
    let is_cause = |field: &syn::Field| {
        field.ident.as_ref().is_some_and(|name| name == "source")
            || has(&field.attrs, "source")
            || has(&field.attrs, "from")
    };
    let is_transparent = |attribute: &syn::Attribute| matches!(&attribute.meta, Meta::List(list) if list.tokens.to_string() == "transparent");
    fields.iter().any(is_cause) || attributes.iter().any(is_transparent)
}
