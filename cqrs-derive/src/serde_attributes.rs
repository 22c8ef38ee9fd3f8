//! serde's attributes that cannot be where something is stored or sent: on an enum of events or commands, and in a
//! state that is kept in snapshots.
//!
//! The payload of a variant is what the enum's own serde derives write for its fields, without the
//! variant's name, and it is read back by the variant's number. These attributes change one or the
//! other.

use proc_macro2::TokenStream;
use syn::{Attribute, Lit, Token, parse::ParseStream, token::Paren};

use crate::{attributes, diagnostics::Errors};

const ENUM: &[&str] = &[
    "tag",
    "content",
    "untagged",
    "from",
    "into",
    "try_from",
    "remote",
    "field_identifier",
    "variant_identifier",
];

const VARIANT: &[&str] = &["skip", "skip_serializing", "skip_deserializing", "other", "untagged"];

/// Refuses attributes of the enum that change its shape as a whole.
pub(crate) fn check_enum(attributes: &[Attribute], errors: &mut Errors) {
    check(attributes, ENUM, errors, |name| {
        format!(
            "an event cannot have serde's `{name}`: \
             each variant is stored by itself, in the form that serde gives it by default"
        )
    });
}

/// Refuses attributes of a variant that take it out of the numbering, or change its shape.
pub(crate) fn check_variant(attributes: &[Attribute], errors: &mut Errors) {
    check(attributes, VARIANT, errors, |name| {
        format!("a variant of an event cannot have serde's `{name}`: it has to be stored and read back")
    });
}

/// Refuses attributes of an enum of commands that change its shape as a whole.
pub(crate) fn check_commands(attributes: &[Attribute], errors: &mut Errors) {
    check(attributes, ENUM, errors, |name| {
        format!(
            "an enum of commands cannot have serde's `{name}`: \
             each variant is sent by itself, in the form that serde gives it by default"
        )
    });
}

/// Refuses attributes of a command's variant that take it out of the numbering, or change its shape.
pub(crate) fn check_command(attributes: &[Attribute], errors: &mut Errors) {
    check(attributes, VARIANT, errors, |name| {
        format!("a command cannot have serde's `{name}`: it has to be sent and read back")
    });
}

const FIELD: &[&str] = &["skip", "skip_serializing", "skip_deserializing"];

/// Refuses attributes of a field that keep it out of a snapshot.
pub(crate) fn check_kept(attributes: &[Attribute], errors: &mut Errors) {
    check(attributes, FIELD, errors, |name| {
        format!("a field cannot have serde's `{name}` where there are snapshots: it would come back empty")
    });
}

/// Whether attributes of serde may change how a payload is written or read.
pub(crate) fn change_payload(attributes: &[Attribute]) -> bool {
    attributes::named(attributes, "serde").next().is_some()
}

/// The same for an enum, for the attributes that affect the content of its variants.
pub(crate) fn change_payload_of_variants(attributes: &[Attribute]) -> bool {
    attributes::named(attributes, "serde").any(|attribute| {
        let mut names = true;
        let parsed = attribute.parse_nested_meta(|item| {
            names &= item.path.is_ident("rename_all");
            skip_value(item.input)
        });
        parsed.is_err() || !names
    })
}

fn check(attributes: &[Attribute], refused: &[&str], errors: &mut Errors, say: impl Fn(&str) -> String) {
    for attribute in attributes::named(attributes, "serde") {
        // Attributes that cannot be parsed are reported by serde.
        let _ = attribute.parse_nested_meta(|item| {
            if let Some(name) = refused.iter().find(|name| item.path.is_ident(*name)) {
                errors.at(&item.path, say(name));
            }
            skip_value(item.input)
        });
    }
}

fn skip_value(input: ParseStream<'_>) -> syn::Result<()> {
    if input.peek(Token![=]) {
        input.parse::<Token![=]>()?;
        input.parse::<Lit>()?;
    } else if input.peek(Paren) {
        let content;
        syn::parenthesized!(content in input);
        content.parse::<TokenStream>()?;
    }
    Ok(())
}
