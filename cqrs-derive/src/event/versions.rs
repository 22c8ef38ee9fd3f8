//! The versions of a stored type, and the steps between them.

use darling::FromMeta;
use quote::ToTokens;
use syn::{
    Ident, LitInt, Meta, Token, Type,
    parse::{Parse, ParseStream, Parser},
    punctuated::Punctuated,
};

use crate::{
    diagnostics::Errors,
    options::{Given, Kind, Version},
};

/// The steps of `upcast(1 = OrderCreatedV1, 2 = OrderCreatedV2)`.
pub(super) struct Steps {
    /// The word `upcast`.
    pub(super) item: Meta,
    steps: syn::Result<Vec<Step>>,
}

/// One version that is read besides the current one, and the type of its payload.
struct Step {
    version: LitInt,
    number: u32,
    payload: Type,
}

impl FromMeta for Steps {
    fn from_meta(item: &Meta) -> darling::Result<Self> {
        let steps = match item {
            Meta::List(list) => Punctuated::<Step, Token![,]>::parse_terminated.parse2(list.tokens.clone()),
            Meta::Path(_) | Meta::NameValue(_) => Err(syn::Error::new_spanned(item, TAKES)),
        };
        Ok(Self { item: item.clone(), steps: steps.map(|steps| steps.into_iter().collect()) })
    }
}

const TAKES: &str = "`upcast` takes the types of older versions: `upcast(1 = SomeType, 2 = Another)`";

impl Parse for Step {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let version: LitInt = input.parse().map_err(|error| syn::Error::new(error.span(), TAKES))?;
        let number = version.base10_parse().map_err(|_| syn::Error::new_spanned(&version, TAKES))?;
        input.parse::<Token![=]>().map_err(|error| syn::Error::new(error.span(), TAKES))?;
        let payload = input.parse().map_err(|error| syn::Error::new(error.span(), TAKES))?;
        Ok(Self { version, number, payload })
    }
}

/// The current version, and the types of the payloads of all earlier versions, from version 1 on.
pub(super) fn versions(
    version: Given<Version>,
    steps: Option<Steps>,
    errors: &mut Errors,
) -> (u32, Vec<Type>) {
    // After a mistake in the version, the steps cannot be checked.
    let version = match version.map(|given| given.or_report(errors)) {
        Some(None) => return (1, Vec::new()),
        None if errors.is_misspelled("version") => return (1, Vec::new()),
        Some(version) => version,
        None => None,
    };
    let current = version.as_ref().map_or(1, |version| version.number.get());
    let Some(Steps { item, steps }) = steps else {
        let needs_steps = |version: &Version| version.number.get() > 1 && !errors.is_misspelled("upcast");
        if let Some(version) = version.filter(needs_steps) {
            errors.at(
                &version.literal,
                format!(
                    "version {current} needs a step from each version before it: \
                     `upcast(1 = SomeType{})`",
                    if current > 2 { ", …" } else { "" }
                ),
            );
        }
        return (current, Vec::new());
    };
    let Some(steps) = errors.take(steps) else { return (current, Vec::new()) };
    (current, in_order(current, &item, steps, errors))
}

fn in_order(current: u32, item: &Meta, steps: Vec<Step>, errors: &mut Errors) -> Vec<Type> {
    let given = steps.len();
    let mut good: Vec<Step> = Vec::with_capacity(given);
    for step in steps {
        let number = step.number;
        if number == 0 {
            errors.at(&step.version, "versions begin with 1");
        } else if number >= current {
            let say = format!("a step begins at a lower version than {current}, which is the current one");
            errors.at(&step.version, if current == 1 { format!("{say}: say `version = 2`") } else { say });
        } else if good.iter().any(|other| other.number == number) {
            errors.at(&step.version, format!("there are two steps from version {number}"));
        } else {
            good.push(step);
        }
    }
    good.sort_by_key(|step| step.number);
    let missing = (1..current).find(|number| good.iter().all(|step| step.number != *number));
    if let Some(missing) = missing.filter(|_| good.len() == given) {
        errors.at(
            item.path(),
            format!(
                "missing `{missing} = SomeType`: the type of the payloads that were stored in version {missing}"
            ),
        );
    }
    good.into_iter().map(|step| step.payload).collect()
}

/// The encoding of events: `codec = bincode`.
pub(super) struct Codec(pub(super) Ident);

impl Kind for Codec {
    const TAKES: &'static str = "`json` or `bincode`";
    const EXAMPLE: &'static str = "bincode";

    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let name: Ident = input.parse()?;
        let variant = match name.to_string().as_str() {
            "json" => "Json",
            "bincode" => "Bincode",
            _ => return Err(syn::Error::new_spanned(name.to_token_stream(), Self::TAKES)),
        };
        Ok(Self(Ident::new(variant, name.span())))
    }
}
