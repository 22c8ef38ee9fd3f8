//! `#[derive(Query)]`.

use darling::FromMeta;
use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::{DeriveInput, LitStr, Path, Type, WherePredicate, parse_quote};

use crate::{
    attributes,
    diagnostics::{Errors, hole},
    options::{Given, Word},
    target::{self, Marked, Target},
};

/// The options of `#[query(…)]` on the struct.
#[derive(Default, FromMeta)]
#[darling(default)]
struct Options {
    view: Given<Type>,
    answer: Given<Type>,
    name: Given<LitStr>,
    #[darling(rename = "crate")]
    krate: Given<Path>,
}

/// The options of `#[query(…)]` on a field.
#[derive(Default, FromMeta)]
#[darling(default)]
struct FieldOptions {
    key: Option<Word>,
}

struct Model<'a> {
    target: Target<'a>,
    krate: Path,
    name: String,
    view: Type,
    answer: Type,
    /// The field with the key of the document that answers; without one, the user implements `Answer`.
    key: Option<Key<'a>>,
}

enum Key<'a> {
    Field(Marked<'a>),
    /// The mark of the field is misspelled: a hole in place of the key.
    Misspelled(TokenStream),
    /// There are several views: a hole in place of the answer.
    OfSeveral(TokenStream),
}

const OF_SEVERAL: &str =
    "a key finds a document of one view: leave out `#[query(key)]`, and implement `Answer` for the tuple";

pub(crate) fn derive(input: &DeriveInput) -> TokenStream {
    let mut errors = Errors::default();
    let target = Target::new(input, "query", "a query", &mut errors);
    let options = attributes::read(&input.attrs, target.attribute, &[], &mut errors);
    let model = Model::new(target, options, &mut errors);
    target.output(&errors, || model.emit())
}

impl<'a> Model<'a> {
    fn new(target: Target<'a>, options: Options, errors: &mut Errors) -> Self {
        // An answer by key is an impl for the view, so the view must be given.
        let has_view = matches!(&options.view, Some(view) if view.0.is_ok());
        let view = target.required(options.view, "view", "who answers the query", errors);
        let answer = target.required(options.answer, "answer", "what the answer is", errors);
        let krate = target::framework(options.krate, errors);
        let name = target.name(options.name, errors);
        let key = key(target, errors).filter(|_| has_view).map(|key| {
            let Type::Tuple(several) = &view else { return key };
            let error = syn::Error::new_spanned(several, OF_SEVERAL);
            Key::OfSeveral(target.filled(hole(&error), error, errors))
        });
        Self { target, krate, name, view, answer, key }
    }
}

fn key<'a>(target: Target<'a>, errors: &mut Errors) -> Option<Key<'a>> {
    let fields = errors.take(target.struct_fields("a query"))?;
    let twice = "a document has one key: expected this mark on one field only";
    match target.marked(fields, "key", |field: FieldOptions| field.key, twice, errors) {
        Ok(marked) => marked.map(Key::Field),
        Err(error) => Some(Key::Misspelled(target.filled(hole(&error), error, errors))),
    }
}

impl Model<'_> {
    fn emit(&self) -> TokenStream {
        let Self { target, krate, name, view, answer, key } = self;
        let (attributes, ty) = (target.attributes(), target.ty());
        let generics = target.bounded([
            parse_quote!(Self: ::core::marker::Send + ::core::marker::Sync + 'static),
            self.is_asked(),
            parse_quote!(#answer: ::core::marker::Send),
        ]);
        let (impl_generics, _, where_clause) = generics.split_for_impl();
        let answered = key.as_ref().map(|key| self.emit_answer(key));
        quote! {
            #attributes
            impl #impl_generics #krate::Query for #ty #where_clause {
                const NAME: &'static str = #name;
                type View = #view;
                type Answer = #answer;
            }

            #answered
        }
    }

    /// The bound on the view.
    fn is_asked(&self) -> WherePredicate {
        let Self { krate, view, key, .. } = self;
        match key {
            Some(Key::Field(_) | Key::Misspelled(_)) => parse_quote!(#view: #krate::View),
            Some(Key::OfSeveral(_)) | None => parse_quote!(#view: #krate::read_models::ReadModels),
        }
    }

    fn emit_answer(&self, key: &Key<'_>) -> TokenStream {
        let Self { target, krate, view, answer, .. } = self;
        let (attributes, ty) = (target.attributes(), target.ty());
        let mut bounds: Vec<WherePredicate> = vec![
            parse_quote!(#ty: ::core::marker::Send + ::core::marker::Sync + 'static),
            self.is_asked(),
            parse_quote!(#answer: ::core::convert::From<::core::option::Option<#view>> + ::core::marker::Send),
        ];
        let body = match key {
            Key::Field(Marked { member, ty }) => {
                bounds.push(parse_quote!(#ty: ::core::fmt::Display));
                // The compiler reports a key without `Display` at its type.
                let there = target::reported_at(ty);
                let krate = target::respanned(krate, there);
                self.found(&quote_spanned!(there=> #krate::__private::document_key::<#ty>(&query.#member)))
            }
            Key::Misspelled(hole) => self.found(hole),
            Key::OfSeveral(hole) => hole.clone(),
        };
        let generics = target.bounded(bounds);
        let (impl_generics, _, where_clause) = generics.split_for_impl();
        quote! {
            #attributes
            impl #impl_generics #krate::Answer<#ty> for #view #where_clause {
                async fn answer(
                    query: #ty,
                    reader: &<Self as #krate::read_models::ReadModels>::Reader,
                ) -> ::core::result::Result<#answer, #krate::Error> {
                    #body
                }
            }
        }
    }

    /// The answer from the document of `key`. The compiler reports a view without documents, and an answer that cannot
    /// be made of one, at their types.
    fn found(&self, key: &TokenStream) -> TokenStream {
        let Self { krate, view, answer, .. } = self;
        let document = {
            let there = target::reported_at(view);
            let krate = target::respanned(krate, there);
            quote_spanned!(there=> #krate::__private::document_of::<Self>(reader, &key).await?)
        };
        let made = quote_spanned!(target::reported_at(answer)=> document.answer::<#answer>());
        quote! {
            let key: ::std::string::String = #key;
            let document = #document;
            ::core::result::Result::Ok(#made)
        }
    }
}
