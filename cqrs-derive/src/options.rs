//! The kinds of options: `key = value` with a string, a number, a type or a path, a list of types or of options, and a
//! single word.
//!
//! Reading an option never fails. An error stays in its value, because a wrong value is not a missing one, and the rest
//! of the list is still used.

use std::num::NonZeroU32;

use darling::FromMeta;
use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::{
    LitInt, LitStr, Meta, Path, Token, Type,
    parse::{ParseStream, Parser},
    punctuated::Punctuated,
};

use crate::diagnostics::Errors;

/// The value of an optional option.
pub(crate) type Given<T> = Option<Value<T>>;

/// The value of `key = value`, or the error in it.
pub(crate) struct Value<T>(pub(crate) syn::Result<T>);

impl<T> Value<T> {
    pub(crate) fn or_report(self, errors: &mut Errors) -> Option<T> {
        errors.take(self.0)
    }
}

impl<T: Kind> FromMeta for Value<T> {
    fn from_meta(item: &Meta) -> darling::Result<Self> {
        let value = match item {
            Meta::NameValue(pair) => pair.value.to_token_stream(),
            Meta::Path(_) | Meta::List(_) => TokenStream::new(),
        };
        Ok(Self(T::parse.parse2(value.clone()).map_err(|_| {
            let key = item.path().to_token_stream();
            let message = format!("`{key}` takes {}: `{key} = {}`", T::TAKES, T::EXAMPLE);
            syn::Error::new_spanned(if value.is_empty() { item.to_token_stream() } else { value }, message)
        })))
    }
}

/// A kind of value that an option can have.
pub(crate) trait Kind: Sized {
    /// Its description, for the error about a value of another kind.
    const TAKES: &'static str;
    /// An example of it.
    const EXAMPLE: &'static str;

    fn parse(input: ParseStream<'_>) -> syn::Result<Self>;
}

impl Kind for LitStr {
    const TAKES: &'static str = "a string";
    const EXAMPLE: &'static str = "\"…\"";

    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        input.parse()
    }
}

impl Kind for Type {
    const TAKES: &'static str = "a type";
    const EXAMPLE: &'static str = "SomeType";

    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        input.parse()
    }
}

/// The path of the framework. A string is accepted as well, as by serde.
impl Kind for Path {
    const TAKES: &'static str = "a path";
    const EXAMPLE: &'static str = "some::path";

    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        if input.peek(LitStr) {
            return input.parse::<LitStr>()?.parse_with(Self::parse_mod_style);
        }
        input.call(Self::parse_mod_style)
    }
}

/// A number from 1, such as the version of a payload's shape, and its place.
pub(crate) struct Version {
    pub(crate) number: NonZeroU32,
    pub(crate) literal: LitInt,
}

impl Kind for Version {
    const TAKES: &'static str = "a whole number from 1 to 4294967295";
    const EXAMPLE: &'static str = "2";

    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let literal: LitInt = input.parse()?;
        Ok(Self { number: literal.base10_parse()?, literal })
    }
}

/// A list of types: `commands(One, Another)`.
pub(crate) struct Types(pub(crate) syn::Result<Vec<Type>>);

impl FromMeta for Types {
    fn from_meta(item: &Meta) -> darling::Result<Self> {
        let key = item.path().to_token_stream();
        let say = || format!("`{key}` takes types in parentheses: `{key}(One, Another)`");
        Ok(Self(match item {
            Meta::List(list) => Punctuated::<Type, Token![,]>::parse_terminated
                .parse2(list.tokens.clone())
                .map(|types| types.into_iter().collect())
                .map_err(|error| syn::Error::new(error.span(), say())),
            Meta::Path(_) | Meta::NameValue(_) => Err(syn::Error::new_spanned(item, say())),
        }))
    }
}

/// A list of strings: `aliases("one", "another")`.
pub(crate) struct Strings {
    pub(crate) item: Meta,
    pub(crate) strings: syn::Result<Vec<LitStr>>,
}

impl FromMeta for Strings {
    fn from_meta(item: &Meta) -> darling::Result<Self> {
        let key = item.path().to_token_stream();
        let say = || format!("`{key}` takes strings in parentheses: `{key}(\"…\", \"…\")`");
        let strings = match item {
            Meta::List(list) => Punctuated::<LitStr, Token![,]>::parse_terminated
                .parse2(list.tokens.clone())
                .map(|strings| strings.into_iter().collect())
                .map_err(|error| syn::Error::new(error.span(), say())),
            Meta::Path(_) | Meta::NameValue(_) => Err(syn::Error::new_spanned(item, say())),
        };
        Ok(Self { item: item.clone(), strings })
    }
}

/// Options of an option: `snapshot(every = 50)`.
pub(crate) struct List {
    pub(crate) item: Meta,
    /// The tokens between the parentheses.
    pub(crate) content: syn::Result<TokenStream>,
}

impl FromMeta for List {
    fn from_meta(item: &Meta) -> darling::Result<Self> {
        let content = match item {
            Meta::List(list) => Ok(list.tokens.clone()),
            Meta::Path(_) | Meta::NameValue(_) => {
                let key = item.path().to_token_stream();
                Err(syn::Error::new_spanned(
                    item,
                    format!("`{key}` takes options in parentheses: `{key}(…)`"),
                ))
            }
        };
        Ok(Self { item: item.clone(), content })
    }
}

/// A single word, such as `create`.
pub(crate) struct Word(pub(crate) syn::Result<Path>);

impl FromMeta for Word {
    fn from_meta(item: &Meta) -> darling::Result<Self> {
        Ok(Self(match item {
            Meta::Path(path) => Ok(path.clone()),
            Meta::NameValue(_) | Meta::List(_) => {
                let key = item.path().to_token_stream();
                Err(syn::Error::new_spanned(item, format!("`{key}` stands alone, without a value")))
            }
        }))
    }
}
