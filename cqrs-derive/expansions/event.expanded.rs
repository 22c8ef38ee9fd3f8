::core::compile_error! {
    "version 2 needs a step from each version before it: `upcast(1 = SomeType)`"
}
#[automatically_derived]
impl ::cqrs_core::Event for OrderEvent {
    const TYPES: &'static [::cqrs_core::EventType] = &[];
    fn event_type(&self) -> ::cqrs_core::EventType {
        ::core::unreachable!()
    }
    fn serialize_data<__S>(&self, _: __S) -> ::core::result::Result<__S::Ok, __S::Error>
    where
        __S: ::cqrs_core::__private::serde::Serializer,
    {
        ::core::unreachable!()
    }
    fn deserialize_data<'__de, __D>(
        _: ::cqrs_core::EventType,
        _: __D,
    ) -> ::core::result::Result<Self, __D::Error>
    where
        __D: ::cqrs_core::__private::serde::Deserializer<'__de>,
    {
        ::core::unreachable!()
    }
}
#[automatically_derived]
impl ::cqrs_core::Event for StockCounted {
    const TYPES: &'static [::cqrs_core::EventType] = &[
        ::cqrs_core::EventType::new("stock.counted", 1),
    ];
    fn event_type(&self) -> ::cqrs_core::EventType {
        ::cqrs_core::EventType::new("stock.counted", 1)
    }
    fn serialize_data<__S>(
        &self,
        serializer: __S,
    ) -> ::core::result::Result<__S::Ok, __S::Error>
    where
        __S: ::cqrs_core::__private::serde::Serializer,
    {
        ::cqrs_core::__private::serde::Serialize::serialize(self, serializer)
    }
    fn deserialize_data<'__de, __D>(
        event_type: ::cqrs_core::EventType,
        data: __D,
    ) -> ::core::result::Result<Self, __D::Error>
    where
        __D: ::cqrs_core::__private::serde::Deserializer<'__de>,
    {
        match (event_type.name, event_type.version) {
            ("stock.counted", 1) => {
                ::cqrs_core::__private::serde::Deserialize::deserialize(data)
            }
            (name, version) => {
                ::core::result::Result::Err(
                    ::cqrs_core::__private::serde::de::Error::custom(
                        ::core::format_args!(
                            "`{}` in version {} is not a stored type of `StockCounted`",
                            name, version
                        ),
                    ),
                )
            }
        }
    }
}
