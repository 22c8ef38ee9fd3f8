//! Collects mistakes, so that the user sees all of them at once, each on its own tokens.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote_spanned};
use syn::{Type, parse_quote};

/// The mistakes found so far.
#[derive(Default)]
pub(crate) struct Errors(Option<syn::Error>);

impl Errors {
    /// Adds a mistake in `tokens`.
    pub(crate) fn at(&mut self, tokens: impl ToTokens, message: impl Into<String>) {
        self.add(syn::Error::new_spanned(tokens, message.into()));
    }

    pub(crate) fn add(&mut self, error: syn::Error) {
        match &mut self.0 {
            Some(errors) => errors.combine(error),
            none => *none = Some(error),
        }
    }

    /// The value; after an error, `None` and one more mistake.
    pub(crate) fn take<T>(&mut self, result: syn::Result<T>) -> Option<T> {
        result.map_err(|error| self.add(error)).ok()
    }

    #[cfg(test)]
    pub(crate) fn messages(&self) -> Vec<String> {
        self.0.iter().flat_map(|errors| errors.clone().into_iter()).map(|error| error.to_string()).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

impl ToTokens for Errors {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        tokens.extend(self.0.as_ref().map(syn::Error::to_compile_error));
    }
}

/// The output for an expression that the input lacks: it reports the mistake, and has any type.
pub(crate) fn hole(error: &syn::Error) -> TokenStream {
    let (span, message) = (error.span(), error.to_string());
    quote_spanned!(span=> ::core::compile_error!(#message))
}

/// The output for a type that the input lacks.
///
/// An array whose length is a mistake is a type that the compiler knows to be wrong, so that it reports no other errors
/// about it. No other type has that property, and neither has `compile_error!` in place of a type: it would be a `()`.
pub(crate) fn hole_type(error: &syn::Error) -> Type {
    let length = hole(error);
    parse_quote!([(); #length])
}
