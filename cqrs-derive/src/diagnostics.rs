//! Collects mistakes, so that the user sees all of them at once, each on its own tokens.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote_spanned};
use syn::{Type, parse_quote};

/// The mistakes found so far.
#[derive(Default)]
pub(crate) struct Errors {
    found: Option<syn::Error>,
    /// The misspelled options of the list that was read last, by the options that were meant.
    misspelled: Vec<(String, syn::Error)>,
}

impl Errors {
    /// Adds a mistake in `tokens`.
    pub(crate) fn at(&mut self, tokens: impl ToTokens, message: impl Into<String>) {
        self.add(syn::Error::new_spanned(tokens, message.into()));
    }

    pub(crate) fn add(&mut self, error: syn::Error) {
        match &mut self.found {
            Some(errors) => errors.combine(error),
            none => *none = Some(error),
        }
    }

    /// Begins a list of options.
    pub(crate) fn begin_list(&mut self) {
        for (_, error) in std::mem::take(&mut self.misspelled) {
            self.add(error);
        }
    }

    /// Adds a misspelled option of the list.
    pub(crate) fn add_misspelled(&mut self, meant: &str, error: syn::Error) {
        self.misspelled.push((meant.to_owned(), error));
    }

    /// Whether `option` is misspelled in the list that was read last. It is then not missing.
    pub(crate) fn is_misspelled(&self, option: &str) -> bool {
        self.misspelled.iter().any(|(meant, _)| meant == option)
    }

    /// Takes out the mistake that `option` is misspelled in the list that was read last. The caller reports it, in place
    /// of the mistake that `option` is missing.
    pub(crate) fn take_misspelled(&mut self, option: &str) -> Option<syn::Error> {
        let place = self.misspelled.iter().position(|(meant, _)| meant == option)?;
        Some(self.misspelled.remove(place).1)
    }

    fn all(&self) -> impl Iterator<Item = &syn::Error> {
        self.found.iter().chain(self.misspelled.iter().map(|(_, error)| error))
    }

    /// The value; after an error, `None` and one more mistake.
    pub(crate) fn take<T>(&mut self, result: syn::Result<T>) -> Option<T> {
        result.map_err(|error| self.add(error)).ok()
    }

    #[cfg(test)]
    pub(crate) fn messages(&self) -> Vec<String> {
        self.all().flat_map(|errors| errors.clone().into_iter()).map(|error| error.to_string()).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all().next().is_none()
    }
}

impl ToTokens for Errors {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        tokens.extend(self.all().map(syn::Error::to_compile_error));
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
