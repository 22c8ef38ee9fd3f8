//! `#[derive(Aggregate)]`.

use darling::FromMeta;
use proc_macro2::TokenStream;
use quote::{ToTokens, quote, quote_spanned};
use syn::{Data, DeriveInput, LitStr, Path, Type, parse_quote};

use crate::{
    attributes,
    diagnostics::Errors,
    options::{Given, Types},
    target::{self, Target},
};

/// What `#[aggregate(…)]` may say.
#[derive(Default, FromMeta)]
#[darling(default)]
struct Options {
    name: Given<LitStr>,
    id: Given<Type>,
    event: Given<Type>,
    rejection: Given<Type>,
    commands: Option<Types>,
    #[darling(rename = "crate")]
    krate: Given<Path>,
}

struct Model<'a> {
    target: Target<'a>,
    krate: Path,
    name: String,
    id: Type,
    event: Type,
    rejection: Type,
    commands: Vec<Type>,
}

pub(crate) fn derive(input: &DeriveInput) -> TokenStream {
    let mut errors = Errors::default();
    let target = Target::new(input, "aggregate", "an aggregate", &mut errors);
    let options = attributes::read(&input.attrs, target.attribute, &mut errors);
    let model = Model::new(target, options, &mut errors);
    target.output(&errors, || model.emit())
}

impl<'a> Model<'a> {
    fn new(target: Target<'a>, options: Options, errors: &mut Errors) -> Self {
        if let Data::Union(data) = &target.input.data {
            errors.at(data.union_token, "a union cannot be an aggregate: expected a struct or an enum");
        }
        target.refuse_inside("`#[aggregate(…)]` belongs on the type", errors);
        let mut required = |given, what| target.required(given, what, errors);
        let id = required(options.id, "`id = SomeType`: what tells one aggregate from another");
        let event = required(options.event, "`event = SomeType`: what the aggregate records");
        let rejection = required(options.rejection, "`rejection = SomeType`: why it refuses a command");
        let krate = target::framework(options.krate, errors);
        let name = target.name(options.name, errors);
        let commands = commands(options.commands, errors);
        Self { target, krate, name, id, event, rejection, commands }
    }
}

fn commands(given: Option<Types>, errors: &mut Errors) -> Vec<Type> {
    let mut commands = given.and_then(|Types(types)| errors.take(types)).unwrap_or_default();
    let texts: Vec<_> = commands.iter().map(|command| command.to_token_stream().to_string()).collect();
    for (command, text) in commands.iter().zip(&texts) {
        if texts.iter().filter(|other| *other == text).count() > 1 {
            errors.at(command, "this command is listed more than once");
        }
    }
    commands.retain(|command| {
        let is_path = matches!(command, Type::Path(_));
        if !is_path {
            errors.at(command, "expected the type of a command");
        }
        is_path
    });
    commands
}

impl Model<'_> {
    fn emit(&self) -> TokenStream {
        let Self { target, krate, name, id, event, rejection, .. } = self;
        let (attributes, ty) = (target.attributes(), target.ty());
        let generics = target.bounded([
            parse_quote!(Self: #krate::Apply<#event> + ::core::default::Default + ::core::clone::Clone),
            parse_quote!(Self: ::core::marker::Send + ::core::marker::Sync + 'static),
            parse_quote!(#id: ::core::fmt::Display + ::core::marker::Send + ::core::marker::Sync),
            parse_quote!(#event: #krate::Event),
            parse_quote!(#rejection: ::core::error::Error + ::core::marker::Send + ::core::marker::Sync + 'static),
        ]);
        let (impl_generics, _, where_clause) = generics.split_for_impl();
        let visit_commands = self.emit_visit_commands();
        quote! {
            #attributes
            impl #impl_generics #krate::Aggregate for #ty #where_clause {
                const NAME: &'static str = #name;
                type Id = #id;
                type Event = #event;
                type Rejection = #rejection;

                #visit_commands
            }
        }
    }

    fn emit_visit_commands(&self) -> Option<TokenStream> {
        let Self { krate, commands, .. } = self;
        let visits = commands.iter().map(|command| {
            // That a command is not handled is reported where the attribute names the command.
            quote_spanned!(target::reported_at(command)=> visitor.command::<#command>();)
        });
        (!commands.is_empty()).then(|| {
            quote! {
                fn visit_commands<__V: #krate::CommandVisitor<Self>>(visitor: &mut __V) {
                    #(#visits)*
                }
            }
        })
    }
}
