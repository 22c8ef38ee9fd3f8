//! The output of `#[derive(Command)]`.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::{Member, Type, Variant, WherePredicate, parse_quote};

use super::{Id, Kind, Lifecycle, Model, Shape};
use crate::target::{self, Marked};

impl Model<'_> {
    /// The impl. If there are mistakes, it uses no serde trait, so that only the mistakes are reported.
    pub(super) fn emit(&self, is_whole: bool) -> TokenStream {
        let Self { target, krate, aggregate, shape } = self;
        let (attributes, ty) = (target.attributes(), target.ty());
        let generics = target.bounded(self.bounds());
        let (impl_generics, _, where_clause) = generics.split_for_impl();
        let names = shape.kinds().into_iter().map(|kind| &kind.name);
        let (id, id_type) = (self.emit_id(is_whole), self.emit_id_type());
        let name = self.emit_name();
        let lifecycle = self.emit_lifecycle();
        let (serialize, deserialize) = self.emit_serde(is_whole);
        let stored = is_whole.then(|| target.stored("AsCommand", krate));
        let name_parameter = if matches!(shape, Shape::Enum(_)) { quote!(name) } else { quote!(_) };
        quote! {
            #attributes
            impl #impl_generics #krate::Command for #ty #where_clause {
                const NAMES: &'static [&'static str] = &[#(#names),*];
                type Aggregate = #aggregate;

                fn aggregate_id(&self) -> #id_type {
                    #id
                }

                #name
                #lifecycle

                fn serialize_fields<__S: #krate::__private::serde::Serializer>(
                    &self,
                    serializer: __S,
                ) -> ::core::result::Result<__S::Ok, __S::Error> {
                    #serialize
                }

                fn deserialize_fields<'__de, __D: #krate::__private::serde::Deserializer<'__de>>(
                    #name_parameter: &str,
                    fields: __D,
                ) -> ::core::result::Result<Self, __D::Error> {
                    #deserialize
                }
            }

            #stored
        }
    }

    fn emit_serde(&self, is_whole: bool) -> (TokenStream, TokenStream) {
        let krate = &self.krate;
        match self.shape {
            _ if !is_whole => (quote!(::core::unreachable!()), quote!(::core::unreachable!())),
            Shape::Struct(_) => (
                quote!(#krate::__private::AsCommand::write(self, serializer)),
                quote!(#krate::__private::AsCommand::read(fields)),
            ),
            Shape::Enum(_) => (
                quote!(#krate::__private::AsCommand::write_variant(self, serializer)),
                quote!(#krate::__private::deserialize_command(name, fields)),
            ),
        }
    }

    /// The method that returns the name of an enum's value.
    fn emit_name(&self) -> Option<TokenStream> {
        let Shape::Enum(variants) = &self.shape else { return None };
        let name = matching(variants.iter().map(|(variant, kind)| {
            let (variant, name) = (&variant.ident, &kind.name);
            quote!(Self::#variant { .. } => #name)
        }));
        Some(quote! {
            fn name(&self) -> &'static str {
                #name
            }
        })
    }

    /// A reference to an id of the aggregate, as a type. If the aggregate is none, the compiler reports this type and the body of the
    /// method at the same place, which is one error.
    fn emit_id_type(&self) -> TokenStream {
        let Self { krate, aggregate, shape, .. } = self;
        let fields = shape.kinds().into_iter().filter_map(|kind| match kind.id {
            Id::Field(Marked { ty, .. }) => Some(ty),
            Id::None(_) => None,
        });
        let there = fields.map(target::reported_at).next().unwrap_or_else(Span::call_site);
        let (krate, aggregate) = (target::respanned(krate, there), target::respanned(aggregate, there));
        quote_spanned!(there=> &<#aggregate as #krate::Aggregate>::Id)
    }

    fn emit_id(&self, is_whole: bool) -> TokenStream {
        let Self { krate, shape, .. } = self;
        // The compiler reports a field of another type than the aggregate's id at that type.
        let checked = |field: TokenStream, ty: &Type| {
            if !is_whole {
                return field;
            }
            let there = target::reported_at(ty);
            let (krate, field) = (target::respanned(krate, there), target::respanned(&field, there));
            quote_spanned! {there=>
                #krate::__private::aggregate_id::<Self, #ty>(#field)
            }
        };
        match shape {
            Shape::Struct(Kind { id: Id::Field(Marked { member, ty }), .. }) => {
                checked(quote!(&self.#member), ty)
            }
            Shape::Struct(Kind { id: Id::None(hole), .. }) => hole.clone(),
            Shape::Enum(variants) => {
                matching(variants.iter().map(|(variant, kind)| emit_variants_id(variant, &kind.id, checked)))
            }
        }
    }

    /// The lifecycle, unless it is the default.
    fn emit_lifecycle(&self) -> Option<TokenStream> {
        let Self { krate, shape, .. } = self;
        if shape.kinds().iter().all(|kind| kind.lifecycle == Lifecycle::Update) {
            return None;
        }
        let lifecycle = match shape {
            Shape::Struct(Kind { lifecycle, .. }) => quote!(#krate::Lifecycle::#lifecycle),
            Shape::Enum(variants) => {
                let all = [Lifecycle::Create, Lifecycle::Update, Lifecycle::Upsert];
                matching(all.into_iter().filter_map(|lifecycle| {
                    let such = variants.iter().filter(|(_, kind)| kind.lifecycle == lifecycle);
                    let such: Vec<_> = such.map(|(variant, _)| &variant.ident).collect();
                    (!such.is_empty())
                        .then(|| quote!(#(Self::#such { .. })|* => #krate::Lifecycle::#lifecycle))
                }))
            }
        };
        Some(quote! {
            fn lifecycle(&self) -> #krate::Lifecycle {
                #lifecycle
            }
        })
    }

    fn bounds(&self) -> Vec<WherePredicate> {
        let Self { krate, aggregate, shape, .. } = self;
        let mut bounds = vec![
            parse_quote!(Self: #krate::__private::serde::Serialize),
            parse_quote!(Self: #krate::__private::serde::de::DeserializeOwned),
            parse_quote!(Self: ::core::marker::Send + ::core::marker::Sync + 'static),
        ];
        let mut types: Vec<&Type> = Vec::new();
        for kind in shape.kinds() {
            if let Id::Field(Marked { ty, .. }) = kind.id
                && !types.contains(&ty)
            {
                types.push(ty);
                bounds.push(parse_quote!(#aggregate: #krate::Aggregate<Id = #ty>));
            }
        }
        bounds
    }
}

impl<'a> Shape<'a> {
    fn kinds(&self) -> Vec<&Kind<'a>> {
        match self {
            Self::Struct(kind) => vec![kind],
            Self::Enum(variants) => variants.iter().map(|(_, kind)| kind).collect(),
        }
    }
}

impl ToTokens for Lifecycle {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        tokens.extend(match self {
            Self::Create => quote!(Create),
            Self::Update => quote!(Update),
            Self::Upsert => quote!(Upsert),
        });
    }
}

fn matching(arms: impl Iterator<Item = TokenStream>) -> TokenStream {
    let mut arms = arms.peekable();
    if arms.peek().is_none() {
        // An enum without variants has been reported.
        return quote!(::core::unreachable!());
    }
    quote! {
        match self {
            #(#arms,)*
        }
    }
}

/// The arm that returns the id of one variant.
fn emit_variants_id(
    variant: &Variant,
    id: &Id<'_>,
    checked: impl Fn(TokenStream, &Type) -> TokenStream,
) -> TokenStream {
    let ident = &variant.ident;
    match id {
        Id::Field(Marked { member: Member::Named(field), ty }) => {
            let id = checked(field.to_token_stream(), ty);
            quote!(Self::#ident { #field, .. } => #id)
        }
        Id::Field(Marked { member: Member::Unnamed(index), ty }) => {
            let id = checked(quote!(id), ty);
            let before = (0..index.index).map(|_| quote!(_,));
            let is_last = index.index as usize + 1 == variant.fields.len();
            let after = (!is_last).then(|| quote!(, ..));
            quote!(Self::#ident(#(#before)* id #after) => #id)
        }
        Id::None(hole) => quote!(Self::#ident { .. } => #hole),
    }
}
