//! `#[derive(Command)]`.

use darling::FromMeta;
use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::{DeriveInput, Fields, Ident, LitStr, Path, Type, WherePredicate, parse_quote};

use crate::{
    attributes,
    diagnostics::{Errors, hole},
    options::{Given, Word},
    target::{self, Marked, Target},
};

/// What `#[command(…)]` on the struct may say.
#[derive(Default, FromMeta)]
#[darling(default)]
struct Options {
    aggregate: Given<Type>,
    create: Option<Word>,
    update: Option<Word>,
    upsert: Option<Word>,
    name: Given<LitStr>,
    #[darling(rename = "crate")]
    krate: Given<Path>,
}

/// What `#[command(…)]` on a field may say.
#[derive(Default, FromMeta)]
#[darling(default)]
struct FieldOptions {
    id: Option<Word>,
}

struct Model<'a> {
    target: Target<'a>,
    krate: Path,
    name: String,
    lifecycle: Ident,
    aggregate: Type,
    id: Id<'a>,
}

enum Id<'a> {
    Field(Marked<'a>),
    /// A hole: there is no field that holds the id.
    None(TokenStream),
}

pub(crate) fn derive(input: &DeriveInput) -> TokenStream {
    let mut errors = Errors::default();
    let target = Target::new(input, "command", "a command", &mut errors);
    let options = attributes::read(&input.attrs, target.attribute, &mut errors);
    let model = Model::new(target, options, &mut errors);
    target.output(&errors, || model.emit())
}

impl<'a> Model<'a> {
    fn new(target: Target<'a>, options: Options, errors: &mut Errors) -> Self {
        let words = [("Create", options.create), ("Update", options.update), ("Upsert", options.upsert)];
        let missing = "`aggregate = SomeType`: who decides about the command";
        Self {
            target,
            krate: target::framework(options.krate, errors),
            name: target.name(options.name, errors),
            lifecycle: lifecycle(words, errors),
            aggregate: target.required(options.aggregate, missing, errors),
            id: match id(target, errors) {
                Ok(field) => Id::Field(field),
                Err(error) => Id::None(target.filled(hole(&error), error, errors)),
            },
        }
    }
}

fn lifecycle(words: [(&str, Option<Word>); 3], errors: &mut Errors) -> Ident {
    let mut given = Vec::new();
    for (lifecycle, word) in words {
        given.extend(word.and_then(|Word(word)| errors.take(word)).map(|word| (lifecycle, word)));
    }
    if given.len() > 1 {
        for (_, word) in &given {
            errors.at(word, "expected one of `create`, `update` and `upsert` at most");
        }
    }
    let lifecycle = given.first().map_or("Update", |(lifecycle, _)| lifecycle);
    Ident::new(lifecycle, Span::call_site())
}

fn id<'a>(target: Target<'a>, errors: &mut Errors) -> syn::Result<Marked<'a>> {
    let fields = target.struct_fields("a command")?;
    let twice = "a command is for one aggregate: expected this mark on one field only";
    let marked = target.marked(fields, |field: FieldOptions| field.id, twice, errors);
    marked.ok_or_else(|| unmarked(&target.input.ident, fields))
}

fn unmarked(command: &Ident, fields: &Fields) -> syn::Error {
    let names: Vec<_> = fields.members().map(|member| member.to_token_stream()).collect();
    let message = if names.is_empty() {
        "missing a field for the aggregate's id, with `#[command(id)]`".to_owned()
    } else {
        let names = target::list(&names, "or");
        format!("missing `#[command(id)]` on the field that holds the aggregate's id: {names}")
    };
    syn::Error::new_spanned(command, message)
}

impl Model<'_> {
    fn emit(&self) -> TokenStream {
        let Self { target, krate, name, lifecycle, aggregate, id } = self;
        let (attributes, ty) = (target.attributes(), target.ty());
        let generics = target.bounded(self.bounds());
        let (impl_generics, _, where_clause) = generics.split_for_impl();
        let id = match id {
            Id::Field(Marked { member, .. }) => {
                // A field of another type than the aggregate's id is reported at the field.
                quote_spanned!(target::reported_at(member)=> &self.#member)
            }
            Id::None(hole) => hole.clone(),
        };
        quote! {
            #attributes
            impl #impl_generics #krate::Command for #ty #where_clause {
                const NAME: &'static str = #name;
                const LIFECYCLE: #krate::Lifecycle = #krate::Lifecycle::#lifecycle;
                type Aggregate = #aggregate;

                fn aggregate_id(&self) -> &<#aggregate as #krate::Aggregate>::Id {
                    #id
                }
            }
        }
    }

    fn bounds(&self) -> Vec<WherePredicate> {
        let Self { krate, aggregate, id, .. } = self;
        let mut bounds = vec![
            parse_quote!(Self: #krate::__private::serde::Serialize),
            parse_quote!(Self: #krate::__private::serde::de::DeserializeOwned),
            parse_quote!(Self: ::core::marker::Send + ::core::marker::Sync + 'static),
        ];
        if let Id::Field(Marked { ty, .. }) = id {
            bounds.push(parse_quote!(#aggregate: #krate::Aggregate<Id = #ty>));
        }
        bounds
    }
}
