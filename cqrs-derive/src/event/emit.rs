//! The output of `#[derive(Event)]`.

use proc_macro2::{Literal, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::{Path, Type, parse_quote};

use super::{Model, Shape, StoredType, versions::Codec};
use crate::target;

impl Model<'_> {
    pub(super) fn emit(&self) -> TokenStream {
        let Self { target, krate, codec, shape, .. } = self;
        let (attributes, ty) = (target.attributes(), target.ty());
        let generics = target.bounded([
            parse_quote!(Self: #krate::__private::serde::Serialize),
            parse_quote!(Self: #krate::__private::serde::de::DeserializeOwned),
            parse_quote!(Self: ::core::marker::Send + ::core::marker::Sync + 'static),
        ]);
        let (impl_generics, _, where_clause) = generics.split_for_impl();
        let types = shape.types().into_iter().flat_map(|stored| stored.emit_all(krate));
        let codec = codec
            .as_ref()
            .map(|Codec(codec)| quote!(const CODEC: #krate::model::Codec = #krate::model::Codec::#codec;));
        let event_type = shape.emit_event_type(krate);
        let is_retired = shape.emit_is_retired();
        let is_plain = shape.emit_is_plain(krate);
        let serialize_data = shape.emit_serialize_data(krate);
        let deserialize_data = shape.emit_deserialize_data(krate, &target.input.ident.to_string());
        let stored_shape = self.emit_stored_shape();
        let stored = target.stored("AsEvent", krate);
        quote! {
            #stored_shape

            #attributes
            impl #impl_generics #krate::Event for #ty #where_clause {
                const TYPES: &'static [#krate::model::EventType] = &[#(#types),*];
                #codec

                fn event_type(&self) -> #krate::model::EventType {
                    #event_type
                }

                #is_retired

                #is_plain

                fn serialize_data<__S>(&self, serializer: __S) -> ::core::result::Result<__S::Ok, __S::Error>
                where
                    __S: #krate::__private::serde::Serializer,
                {
                    #serialize_data
                }

                fn deserialize_data<'__de, __D>(
                    event_type: #krate::model::EventType,
                    data: __D,
                ) -> ::core::result::Result<Self, __D::Error>
                where
                    __D: #krate::__private::serde::Deserializer<'__de>,
                {
                    #deserialize_data
                }
            }

            #stored
        }
    }

    fn emit_stored_shape(&self) -> Option<TokenStream> {
        let Self { target, krate, schema, shape, .. } = self;
        let schema = schema.as_ref()?;
        let (attributes, ty) = (target.attributes(), target.ty());
        let generics = target.bounded([
            parse_quote!(Self: #krate::Event + #krate::__private::serde::de::DeserializeOwned),
            parse_quote!(Self: #krate::__private::schemars::JsonSchema),
        ]);
        let (impl_generics, _, where_clause) = generics.split_for_impl();
        let is_enum = matches!(shape, Shape::Enum(_));
        let types = shape.types();
        let aliases = types.iter().flat_map(|StoredType { name, aliases, .. }| {
            aliases.iter().map(move |alias| quote!((#alias, #name)))
        });
        let older = types.iter().flat_map(|StoredType { name, aliases, older, .. }| {
            older.iter().zip(1..).map(move |(payload, version)| {
                let version = Literal::u32_unsuffixed(version);
                quote_spanned! {target::reported_at(payload)=>
                    older.add::<#payload>(&[#name #(, #aliases)*], #version);
                }
            })
        });
        // The compiler reports a type without a schema where the attribute asks for one.
        let of = quote_spanned!(target::reported_at(schema)=> #krate::testing::StoredShape);
        Some(quote! {
            #attributes
            impl #impl_generics #of for #ty #where_clause {
                const IS_ENUM: bool = #is_enum;
                const ALIASES: &'static [(&'static str, &'static str)] = &[#(#aliases),*];

                fn older(older: &mut #krate::testing::Older) {
                    #(#older)*
                    let _ = older;
                }
            }
        })
    }

    /// An impl beside mistakes: it does nothing, so that only the mistakes are reported.
    pub(super) fn emit_stub(&self) -> TokenStream {
        let Self { target, krate, .. } = self;
        let (attributes, ty) = (target.attributes(), target.ty());
        let generics =
            target.bounded([parse_quote!(Self: ::core::marker::Send + ::core::marker::Sync + 'static)]);
        let (impl_generics, _, where_clause) = generics.split_for_impl();
        quote! {
            #attributes
            impl #impl_generics #krate::Event for #ty #where_clause {
                const TYPES: &'static [#krate::model::EventType] = &[];

                fn event_type(&self) -> #krate::model::EventType {
                    ::core::unreachable!()
                }

                fn serialize_data<__S>(&self, _: __S) -> ::core::result::Result<__S::Ok, __S::Error>
                where
                    __S: #krate::__private::serde::Serializer,
                {
                    ::core::unreachable!()
                }

                fn deserialize_data<'__de, __D>(
                    _: #krate::model::EventType,
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
            Self::Struct(_) => quote!(#krate::__private::AsEvent::write(self, serializer)),
            Self::Enum(_) => quote!(#krate::__private::AsEvent::write_variant(self, serializer)),
        }
    }

    fn emit_is_retired(&self) -> Option<TokenStream> {
        let Self::Enum(variants) = self else { return None };
        let retired = variants.iter().filter(|(_, stored)| stored.is_retired);
        let retired: Vec<_> = retired.map(|(variant, _)| quote!(Self::#variant { .. })).collect();
        (!retired.is_empty()).then(|| {
            quote! {
                fn is_retired(&self) -> bool {
                    ::core::matches!(self, #(#retired)|*)
                }
            }
        })
    }

    /// The method `is_plain`: for each payload it checks the types of the fields.
    fn emit_is_plain(&self, krate: &Path) -> Option<TokenStream> {
        let says = |fields: &[Type]| {
            let fields = fields.iter().map(|ty| quote!(<#krate::__private::Field<#ty>>::IS_PLAIN));
            if fields.len() == 0 { quote!(true) } else { quote!(#(#fields)&&*) }
        };
        let body = match self {
            Self::Struct(stored) => says(stored.fields.as_deref()?),
            Self::Enum(variants) => {
                let plain = variants.iter().filter_map(|(variant, stored)| {
                    let says = says(stored.fields.as_deref()?);
                    Some(quote!(Self::#variant { .. } => #says,))
                });
                let plain: Vec<_> = plain.collect();
                let others = (plain.len() < variants.len()).then(|| quote!(_ => false,));
                if plain.is_empty() {
                    return None;
                }
                quote!(match self { #(#plain)* #others })
            }
        };
        Some(quote! {
            fn is_plain(&self) -> bool {
                #[allow(unused_imports)]
                use #krate::__private::OfAnyType as _;
                #body
            }
        })
    }

    fn emit_deserialize_data(&self, krate: &Path, ident: &str) -> TokenStream {
        let unknown = format!("`{{}}` in version {{}} is not a stored type of `{ident}`");
        let current: Vec<_> = match self {
            Self::Struct(stored) => {
                vec![(stored, quote!(#krate::__private::AsEvent::read(data)))]
            }
            Self::Enum(variants) => (0..)
                .map(Literal::usize_unsuffixed)
                .zip(variants)
                .map(|(index, (_, stored))| {
                    (stored, quote!(#krate::__private::AsEvent::read_variant(#index, data)))
                })
                .collect(),
        };
        let arms = current.into_iter().map(|(stored, current)| stored.emit_arms(&current, krate));
        quote! {
            match (event_type.name, event_type.version) {
                #(#arms)*
                (name, version) => {
                    ::core::result::Result::Err(#krate::__private::serde::de::Error::custom(
                        ::core::format_args!(#unknown, name, version),
                    ))
                }
            }
        }
    }
}

impl StoredType {
    /// The type in which the event is recorded.
    fn emit(&self, krate: &Path) -> TokenStream {
        let Self { name, version, .. } = self;
        let version = Literal::u32_unsuffixed(*version);
        quote!(#krate::model::EventType::new(#name, #version))
    }

    /// All types in which it may be stored.
    fn emit_all(&self, krate: &Path) -> Vec<TokenStream> {
        // After a mistake in the versions there are fewer steps than versions, which may be very many.
        let versions = || (1..self.version).take(self.older.len()).chain([self.version]).rev();
        let of = |name| versions().map(Literal::u32_unsuffixed).map(move |version| (name, version));
        let all = [&self.name].into_iter().chain(&self.aliases).flat_map(of);
        all.map(|(name, version)| quote!(#krate::model::EventType::new(#name, #version))).collect()
    }

    /// The arms that read each version.
    fn emit_arms(&self, current: &TokenStream, krate: &Path) -> TokenStream {
        let Self { name, aliases, version, older, .. } = self;
        let version = Literal::u32_unsuffixed(*version);
        let arms = older.iter().enumerate().map(|(index, payload)| {
            let number = Literal::usize_unsuffixed(index + 1);
            // The compiler reports a wrong step where the attribute names its type.
            let read = quote_spanned! {target::reported_at(payload)=>
                <#payload as #krate::__private::serde::Deserialize<'__de>>::deserialize(data)
            };
            let steps = emit_steps(&older[index..], krate);
            quote! {
                (#name #(| #aliases)*, #number) => {
                    let payload = #read?;
                    #steps
                    ::core::result::Result::Ok(payload)
                }
            }
        });
        quote! {
            #(#arms)*
            (#name #(| #aliases)*, #version) => #current,
        }
    }
}

/// The steps from the first of these payloads to the event.
fn emit_steps(payloads: &[Type], krate: &Path) -> TokenStream {
    let next = payloads.iter().skip(1).map(ToTokens::to_token_stream).chain([quote!(Self)]);
    payloads
        .iter()
        .zip(next)
        .map(|(from, to)| {
            quote_spanned! {target::reported_at(from)=>
                let payload = #krate::__private::upcast::<#from, #to>(payload);
            }
        })
        .collect()
}
