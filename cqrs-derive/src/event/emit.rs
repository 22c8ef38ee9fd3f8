//! The output of `#[derive(Event)]`.

use proc_macro2::{Literal, TokenStream};
use quote::quote;
use syn::{Path, parse_quote};

use super::{Model, Shape, StoredType};

impl Model<'_> {
    pub(super) fn emit(&self) -> TokenStream {
        let Self { target, krate, shape } = self;
        let (attributes, ty) = (target.attributes(), target.ty());
        let generics = target.bounded([
            parse_quote!(Self: #krate::__private::serde::Serialize),
            parse_quote!(Self: #krate::__private::serde::de::DeserializeOwned),
            parse_quote!(Self: ::core::marker::Send + ::core::marker::Sync + 'static),
        ]);
        let (impl_generics, _, where_clause) = generics.split_for_impl();
        let types = shape.types().into_iter().map(|stored| stored.emit(krate));
        let event_type = shape.emit_event_type(krate);
        let serialize_data = shape.emit_serialize_data(krate);
        let deserialize_data = shape.emit_deserialize_data(krate, &target.input.ident.to_string());
        quote! {
            #attributes
            impl #impl_generics #krate::Event for #ty #where_clause {
                const TYPES: &'static [#krate::EventType] = &[#(#types),*];

                fn event_type(&self) -> #krate::EventType {
                    #event_type
                }

                fn serialize_data<__S>(&self, serializer: __S) -> ::core::result::Result<__S::Ok, __S::Error>
                where
                    __S: #krate::__private::serde::Serializer,
                {
                    #serialize_data
                }

                fn deserialize_data<'__de, __D>(
                    event_type: #krate::EventType,
                    data: __D,
                ) -> ::core::result::Result<Self, __D::Error>
                where
                    __D: #krate::__private::serde::Deserializer<'__de>,
                {
                    #deserialize_data
                }
            }
        }
    }

    /// An impl beside mistakes: it does nothing, so that the user hears of nothing but the mistakes.
    pub(super) fn emit_stub(&self) -> TokenStream {
        let Self { target, krate, .. } = self;
        let (attributes, ty) = (target.attributes(), target.ty());
        let generics =
            target.bounded([parse_quote!(Self: ::core::marker::Send + ::core::marker::Sync + 'static)]);
        let (impl_generics, _, where_clause) = generics.split_for_impl();
        quote! {
            #attributes
            impl #impl_generics #krate::Event for #ty #where_clause {
                const TYPES: &'static [#krate::EventType] = &[];

                fn event_type(&self) -> #krate::EventType {
                    ::core::unreachable!()
                }

                fn serialize_data<__S>(&self, _: __S) -> ::core::result::Result<__S::Ok, __S::Error>
                where
                    __S: #krate::__private::serde::Serializer,
                {
                    ::core::unreachable!()
                }

                fn deserialize_data<'__de, __D>(
                    _: #krate::EventType,
                    _: __D,
                ) -> ::core::result::Result<Self, __D::Error>
                where
                    __D: #krate::__private::serde::Deserializer<'__de>,
                {
                    ::core::unreachable!()
                }
            }
        }
    }
}

impl Shape<'_> {
    fn types(&self) -> Vec<&StoredType> {
        match self {
            Self::Struct(stored) => vec![stored],
            Self::Enum(variants) => variants.iter().map(|(_, stored)| stored).collect(),
        }
    }

    fn emit_event_type(&self, krate: &Path) -> TokenStream {
        match self {
            Self::Struct(stored) => stored.emit(krate),
            Self::Enum(variants) => {
                let variant = variants.iter().map(|(variant, _)| variant);
                let stored = variants.iter().map(|(_, stored)| stored.emit(krate));
                quote! {
                    match self {
                        #(Self::#variant { .. } => #stored,)*
                    }
                }
            }
        }
    }

    fn emit_serialize_data(&self, krate: &Path) -> TokenStream {
        match self {
            Self::Struct(_) => quote!(#krate::__private::serde::Serialize::serialize(self, serializer)),
            Self::Enum(_) => quote!(#krate::__private::serialize_variant(self, serializer)),
        }
    }

    fn emit_deserialize_data(&self, krate: &Path, ident: &str) -> TokenStream {
        let unknown = format!("`{{}}` is not a stored type of `{ident}`");
        let unknown = quote! {
            ::core::result::Result::Err(#krate::__private::serde::de::Error::custom(
                ::core::format_args!(#unknown, unknown),
            ))
        };
        match self {
            Self::Struct(StoredType { name, .. }) => quote! {
                match event_type.name {
                    #name => #krate::__private::serde::Deserialize::deserialize(data),
                    unknown => #unknown,
                }
            },
            Self::Enum(variants) => {
                let name = variants.iter().map(|(_, stored)| &stored.name);
                let index = (0..variants.len()).map(Literal::usize_unsuffixed);
                quote! {
                    let index = match event_type.name {
                        #(#name => #index,)*
                        unknown => return #unknown,
                    };
                    #krate::__private::deserialize_variant(index, data)
                }
            }
        }
    }
}

impl StoredType {
    fn emit(&self, krate: &Path) -> TokenStream {
        let Self { name, version } = self;
        let version = Literal::u32_unsuffixed(*version);
        quote!(#krate::EventType::new(#name, #version))
    }
}
