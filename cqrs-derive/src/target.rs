//! The type that has the derive, and the checks of all derives.

use darling::FromMeta;
use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote};
use syn::{
    Attribute, Data, DeriveInput, Fields, Generics, LitStr, Member, Path, Type, WherePredicate, parse_quote,
    spanned::Spanned,
};

use crate::{
    attributes,
    diagnostics::{Errors, hole_type},
    names,
    options::{Given, Value, Word},
};

/// The type that has the derive.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) input: &'a DeriveInput,
    /// The name of the derive's attribute.
    pub(crate) attribute: &'static str,
}

impl<'a> Target<'a> {
    /// Refuses borrowed data: `what` is stored or sent, and outlives the data that it could borrow.
    pub(crate) fn new(
        input: &'a DeriveInput,
        attribute: &'static str,
        what: &str,
        errors: &mut Errors,
    ) -> Self {
        for parameter in input.generics.lifetimes() {
            errors.at(parameter, format!("{what} owns its data and cannot have a lifetime parameter"));
        }
        Self { input, attribute }
    }

    /// The mistakes and the impls. If the impls would need `'static` and the type borrows, only the mistakes.
    pub(crate) fn output(self, errors: &Errors, impls: impl FnOnce() -> TokenStream) -> TokenStream {
        let impls = (!self.is_borrowed()).then(impls);
        quote!(#errors #impls)
    }

    /// The attributes of each impl.
    pub(crate) fn attributes(self) -> TokenStream {
        // An impl for a deprecated type is no use of it that the user should be warned about.
        let allow = self.is_deprecated().then(|| quote!(#[allow(deprecated)]));
        quote!(#[automatically_derived] #allow)
    }

    fn is_deprecated(self) -> bool {
        let deprecated =
            |attributes: &[Attribute]| attributes::named(attributes, "deprecated").next().is_some();
        let field = |fields: &Fields| fields.iter().any(|field| deprecated(&field.attrs));
        deprecated(&self.input.attrs)
            || match &self.input.data {
                Data::Struct(data) => field(&data.fields),
                Data::Enum(data) => data.variants.iter().any(|variant| field(&variant.fields)),
                Data::Union(_) => false,
            }
    }

    /// The type with its parameters.
    pub(crate) fn ty(self) -> TokenStream {
        let (_, parameters, _) = self.input.generics.split_for_impl();
        let ident = &self.input.ident;
        quote!(#ident #parameters)
    }

    /// The impl by which the type is written and read with serde. The compiler reports a type without serde here, at the
    /// type's name, and nowhere else.
    pub(crate) fn stored(self, stored_as: &str, krate: &Path) -> TokenStream {
        let (attributes, ty, stored_as) = (self.attributes(), self.ty(), format_ident!("{stored_as}"));
        let generics = self.bounded([
            parse_quote!(Self: #krate::__private::serde::Serialize),
            parse_quote!(Self: #krate::__private::serde::de::DeserializeOwned),
        ]);
        let (impl_generics, _, where_clause) = generics.split_for_impl();
        quote! {
            #attributes
            impl #impl_generics #krate::__private::Stored<#krate::__private::#stored_as> for #ty #where_clause {
                type This = #ty;
            }
        }
    }

    /// The generics with the bounds that the traits require; only generic types need to write them out.
    pub(crate) fn bounded(self, bounds: impl IntoIterator<Item = WherePredicate>) -> Generics {
        let mut generics = self.input.generics.clone();
        if !generics.params.is_empty() {
            generics.make_where_clause().predicates.extend(bounds);
        }
        generics
    }

    /// The given name, or the type's name in snake case.
    pub(crate) fn name(self, given: Given<LitStr>, errors: &mut Errors) -> String {
        let Some(given) = given else {
            let name = names::snake_case(&self.input.ident);
            if let Err(problem) = names::check_name(&name) {
                errors.at(&self.input.ident, format!("{problem}; choose another with `name = \"…\"`"));
            }
            return name;
        };
        let Some(given) = given.or_report(errors) else {
            return String::new();
        };
        if let Err(problem) = names::check_name(&given.value()) {
            errors.at(&given, problem);
        }
        given.value()
    }

    /// The given type, or a hole in its place. Call it before another list of options is read.
    pub(crate) fn required(self, given: Given<Type>, option: &str, what: &str, errors: &mut Errors) -> Type {
        let given = given.map_or_else(
            || {
                let misspelled = errors.take_misspelled(option);
                Err(misspelled.unwrap_or_else(|| self.missing(&format!("`{option} = SomeType`: {what}"))))
            },
            |Value(given)| given,
        );
        given.unwrap_or_else(|error| self.filled(hole_type(&error), error, errors))
    }

    /// The mistake that an option of the attribute is missing.
    pub(crate) fn missing(self, what: &str) -> syn::Error {
        let attribute = attributes::named(&self.input.attrs, self.attribute).next();
        let span = attribute.map_or_else(|| self.input.ident.span(), |found| found.path().span());
        syn::Error::new(span, format!("missing {what}"))
    }

    /// Returns `hole`, which reports `error` in the impls. If there are no impls, adds `error` to the others.
    pub(crate) fn filled<Hole>(self, hole: Hole, error: syn::Error, errors: &mut Errors) -> Hole {
        if self.is_borrowed() {
            errors.add(error);
        }
        hole
    }

    /// The fields of a struct; any other kind of type is refused.
    pub(crate) fn struct_fields(self, what: &str) -> syn::Result<&'a Fields> {
        let (token, kind) = match &self.input.data {
            Data::Struct(data) => return Ok(&data.fields),
            Data::Enum(data) => (data.enum_token.to_token_stream(), "an enum"),
            Data::Union(data) => (data.union_token.to_token_stream(), "a union"),
        };
        Err(syn::Error::new_spanned(token, format!("{kind} cannot be {what}: expected a struct for each")))
    }

    /// The field that has the mark, or the mistake that the mark is misspelled. A mark on a second field is refused with
    /// `twice`.
    pub(crate) fn marked<Options: FromMeta + Default>(
        self,
        fields: &'a Fields,
        mark: &str,
        word: fn(Options) -> Option<Word>,
        twice: &str,
        errors: &mut Errors,
    ) -> Result<Option<Marked<'a>>, syn::Error> {
        let mut marks = Vec::new();
        let mut marked = Vec::new();
        let mut misspelled = None;
        for (field, member) in fields.iter().zip(fields.members()) {
            let options = attributes::read(&field.attrs, self.attribute, &[], errors);
            if let Some(Word(word)) = word(options) {
                marks.extend(errors.take(word));
                marked.push(Marked { member, ty: &field.ty });
            } else if misspelled.is_none() {
                misspelled = errors.take_misspelled(mark);
            }
        }
        // The next list of options is not one of a field.
        errors.begin_list();
        if marks.len() > 1 {
            for word in marks {
                errors.at(word, twice);
            }
        }
        match (marked.into_iter().next(), misspelled) {
            (None, Some(misspelled)) => Err(misspelled),
            (marked, misspelled) => {
                if let Some(error) = misspelled {
                    errors.add(error);
                }
                Ok(marked)
            }
        }
    }

    /// Refuses the attribute on fields and variants.
    pub(crate) fn refuse_inside(self, message: &str, errors: &mut Errors) {
        match &self.input.data {
            Data::Struct(data) => self.refuse_on(&data.fields, message, errors),
            Data::Enum(data) => {
                for variant in &data.variants {
                    attributes::refuse(&variant.attrs, self.attribute, message, errors);
                    self.refuse_on(&variant.fields, message, errors);
                }
            }
            Data::Union(_) => {}
        }
    }

    /// Refuses the attribute on `fields`.
    pub(crate) fn refuse_on(self, fields: &Fields, message: &str, errors: &mut Errors) {
        for field in fields {
            attributes::refuse(&field.attrs, self.attribute, message, errors);
        }
    }

    fn is_borrowed(self) -> bool {
        self.input.generics.lifetimes().next().is_some()
    }
}

/// A field that an attribute marks.
pub(crate) struct Marked<'a> {
    pub(crate) member: Member,
    pub(crate) ty: &'a Type,
}

/// The path of the framework: the given one, or the one without a rename.
pub(crate) fn framework(given: Given<Path>, errors: &mut Errors) -> Path {
    let given = given.and_then(|given| given.or_report(errors));
    given.unwrap_or_else(|| parse_quote!(::cqrs_core))
}

/// The span for generated code that is reported at `tokens`. Names in that code have the same meaning as in the rest of
/// the output, also if `tokens` come from a macro.
pub(crate) fn reported_at(tokens: &impl ToTokens) -> Span {
    tokens.span().resolved_at(Span::call_site())
}

/// `tokens` with the span `span`: a path is then reported at its beginning.
pub(crate) fn respanned(tokens: &impl ToTokens, span: Span) -> TokenStream {
    let respan = |mut token: TokenTree| {
        token.set_span(span);
        token
    };
    tokens.to_token_stream().into_iter().map(respan).collect()
}

/// Joins names as `` `a`, `b` and `c` ``, with that word or another.
pub(crate) fn list(names: &[impl ToString], word: &str) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{}`", name.to_string())).collect();
    match names.as_slice() {
        [first @ .., last] if !first.is_empty() => format!("{} {word} {last}", first.join(", ")),
        all => all.concat(),
    }
}
