//! `#[derive(Aggregate)]`.

use std::collections::HashSet;

use darling::FromMeta;
use proc_macro2::{Ident, Literal, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::{Data, DeriveInput, Fields, LitStr, Path, Type, WherePredicate, parse_quote};

use crate::{
    attributes,
    diagnostics::Errors,
    options::{Given, List, Types, Version},
    serde_attributes,
    target::{self, Target},
};

/// The options of `#[aggregate(…)]`.
#[derive(Default, FromMeta)]
#[darling(default)]
struct Options {
    name: Given<LitStr>,
    id: Given<Type>,
    event: Given<Type>,
    rejection: Given<Type>,
    commands: Option<Types>,
    internal: Option<Types>,
    snapshot: Option<List>,
    #[darling(rename = "crate")]
    krate: Given<Path>,
}

/// The options of `snapshot(…)`.
#[derive(Default, FromMeta)]
#[darling(default)]
struct SnapshotOptions {
    every: Given<Version>,
    version: Given<Version>,
}

/// The settings of snapshots, and the place of the option.
struct Snapshot {
    every: Option<Version>,
    version: Option<Version>,
    span: Span,
}

struct Model<'a> {
    target: Target<'a>,
    krate: Path,
    name: String,
    id: Type,
    event: Type,
    rejection: Type,
    commands: Vec<Type>,
    internal: Vec<Type>,
    snapshot: Option<Snapshot>,
}

pub(crate) fn derive(input: &DeriveInput) -> TokenStream {
    let mut errors = Errors::default();
    let target = Target::new(input, "aggregate", "an aggregate", &mut errors);
    let options = attributes::read(&input.attrs, target.attribute, &[], &mut errors);
    let model = Model::new(target, options, &mut errors);
    target.output(&errors, || model.emit())
}

impl<'a> Model<'a> {
    fn new(target: Target<'a>, options: Options, errors: &mut Errors) -> Self {
        if let Data::Union(data) = &target.input.data {
            errors.at(data.union_token, "a union cannot be an aggregate: expected a struct or an enum");
        }
        target.refuse_inside("`#[aggregate(…)]` belongs on the type", errors);
        let mut required = |given, option, what| target.required(given, option, what, errors);
        let id = required(options.id, "id", "what tells one aggregate from another");
        let event = required(options.event, "event", "what the aggregate records");
        let rejection = required(options.rejection, "rejection", "why it refuses a command");
        let krate = target::framework(options.krate, errors);
        let name = target.name(options.name, errors);
        let [commands, internal] = commands([options.commands, options.internal], errors);
        let snapshot = options.snapshot.and_then(|given| snapshot(target, given, errors));
        Self { target, krate, name, id, event, rejection, commands, internal, snapshot }
    }
}

/// The lists of commands. Each command must be in one list, once; a second entry is reported and left out.
fn commands(given: [Option<Types>; 2], errors: &mut Errors) -> [Vec<Type>; 2] {
    let mut listed = HashSet::new();
    given.map(|given| {
        let mut list = given.and_then(|Types(types)| errors.take(types)).unwrap_or_default();
        list.retain(|command| {
            let text = command.to_token_stream().to_string();
            let mistake = if !matches!(command, Type::Path(_)) {
                "expected the type of a command".to_owned()
            } else if listed.insert(text.clone()) {
                return true;
            } else {
                format!(
                    "`{text}` is listed twice: each command is in `commands(…)` or in `internal(…)`, once"
                )
            };
            errors.at(command, mistake);
            false
        });
        list
    })
}

fn snapshot(target: Target<'_>, given: List, errors: &mut Errors) -> Option<Snapshot> {
    let List { item, content } = given;
    let options: SnapshotOptions = attributes::read_list(errors.take(content)?, errors);
    if options.every.is_none() && !errors.is_misspelled("every") {
        errors.at(&item, "missing `every = 50`: after how many events a snapshot is made");
    }
    refuse_skipped_fields(target, errors);
    let mut number = |given: Given<Version>| given.and_then(|given| given.or_report(errors));
    Some(Snapshot {
        every: number(options.every),
        version: number(options.version),
        span: target::reported_at(&item),
    })
}

/// Refuses fields that serde does not write: a state that comes back without them would differ.
fn refuse_skipped_fields(target: Target<'_>, errors: &mut Errors) {
    let mut check = |fields: &Fields| {
        for field in fields {
            serde_attributes::check_kept(&field.attrs, errors);
        }
    };
    match &target.input.data {
        Data::Struct(data) => check(&data.fields),
        Data::Enum(data) => data.variants.iter().for_each(|variant| check(&variant.fields)),
        Data::Union(_) => {}
    }
}

impl Model<'_> {
    fn emit(&self) -> TokenStream {
        let Self { target, krate, name, id, event, rejection, .. } = self;
        let (attributes, ty) = (target.attributes(), target.ty());
        let kept = self.snapshot.as_ref().map(|_| -> WherePredicate {
            parse_quote!(Self: #krate::__private::serde::Serialize + #krate::__private::serde::de::DeserializeOwned)
        });
        let bounds = [
            parse_quote!(Self: #krate::Apply<#event> + ::core::default::Default + ::core::clone::Clone),
            parse_quote!(Self: ::core::marker::Send + ::core::marker::Sync + 'static),
            parse_quote!(#id: ::core::fmt::Display + ::core::marker::Send + ::core::marker::Sync),
            parse_quote!(#event: #krate::Event),
            parse_quote!(#rejection: ::core::error::Error + ::core::marker::Send + ::core::marker::Sync + 'static),
        ];
        let generics = target.bounded(bounds.into_iter().chain(kept));
        let (impl_generics, _, where_clause) = generics.split_for_impl();
        let visit_commands = self.emit_visit("visit_commands", &self.commands);
        let visit_internal = self.emit_visit("visit_internal_commands", &self.internal);
        let snapshots = self.emit_snapshots();
        let lists = self.emit_lists();
        quote! {
            #attributes
            impl #impl_generics #krate::Aggregate for #ty #where_clause {
                const NAME: &'static str = #name;
                type Id = #id;
                type Event = #event;
                type Rejection = #rejection;

                #visit_commands
                #visit_internal
                #snapshots
            }

            #lists
        }
    }

    fn emit_visit(&self, method: &str, commands: &[Type]) -> Option<TokenStream> {
        let (krate, method) = (&self.krate, Ident::new(method, Span::call_site()));
        let visits = commands.iter().map(|command| {
            // The compiler reports a missing `Handle` where the attribute names the command.
            quote_spanned!(target::reported_at(command)=> visitor.command::<#command>();)
        });
        (!commands.is_empty()).then(|| {
            quote! {
                fn #method<__V: #krate::model::CommandVisitor<Self>>(visitor: &mut __V) {
                    #(#visits)*
                }
            }
        })
    }

    /// The impls that let policies send the commands.
    fn emit_lists(&self) -> TokenStream {
        let Self { target, krate, .. } = self;
        let ty = target.ty();
        let (impl_generics, _, where_clause) = target.input.generics.split_for_impl();
        let commands = self.commands.iter().chain(&self.internal);
        let lists = commands.map(|command| {
            // The compiler reports a command that is listed under two paths where the attribute names it.
            let there = target::reported_at(command);
            let (krate, ty) = (target::respanned(krate, there), target::respanned(&ty, there));
            quote_spanned! {there=>
                #[automatically_derived]
                #[allow(deprecated)]
                impl #impl_generics #krate::model::Lists<#command> for #ty #where_clause {}
            }
        });
        lists.collect()
    }

    fn emit_snapshots(&self) -> Option<TokenStream> {
        let krate = &self.krate;
        let Snapshot { every, version, span } = self.snapshot.as_ref()?;
        let unsuffixed = |number: &Version| Literal::u32_unsuffixed(number.number.get());
        let every = every.as_ref().map_or_else(|| Literal::u32_unsuffixed(1), unsuffixed);
        let version = version.as_ref().map(unsuffixed);
        let version = version.map(|version| quote!(.version(#version)));
        // The compiler reports a state without serde's traits where the attribute asks for snapshots.
        let krate_there = target::respanned(krate, *span);
        let snapshots = quote_spanned!(*span=> #krate_there::model::Snapshots::every(#every));
        Some(quote! {
            fn snapshots() -> ::core::option::Option<#krate::model::Snapshots<Self>> {
                ::core::option::Option::Some(#snapshots #version)
            }
        })
    }
}
