#[automatically_derived]
impl ::cqrs_core::Event for OrderEvent {
    const TYPES: &'static [::cqrs_core::model::EventType] = &[
        ::cqrs_core::model::EventType::new("order.created", 1),
        ::cqrs_core::model::EventType::new("order.settled", 2),
        ::cqrs_core::model::EventType::new("order.settled", 1),
        ::cqrs_core::model::EventType::new("order.paid", 2),
        ::cqrs_core::model::EventType::new("order.paid", 1),
        ::cqrs_core::model::EventType::new("order.cancelled", 1),
    ];
    fn event_type(&self) -> ::cqrs_core::model::EventType {
        match self {
            Self::Created { .. } => {
                ::cqrs_core::model::EventType::new("order.created", 1)
            }
            Self::Paid { .. } => ::cqrs_core::model::EventType::new("order.settled", 2),
            Self::Cancelled { .. } => {
                ::cqrs_core::model::EventType::new("order.cancelled", 1)
            }
        }
    }
    fn is_plain(&self) -> bool {
        #[allow(unused_imports)]
        use ::cqrs_core::__private::OfAnyType as _;
        match self {
            Self::Created { .. } => <::cqrs_core::__private::Field<String>>::IS_PLAIN,
            Self::Paid { .. } => <::cqrs_core::__private::Field<u64>>::IS_PLAIN,
            Self::Cancelled { .. } => true,
        }
    }
    fn serialize_data<__S>(
        &self,
        serializer: __S,
    ) -> ::core::result::Result<__S::Ok, __S::Error>
    where
        __S: ::cqrs_core::__private::serde::Serializer,
    {
        ::cqrs_core::__private::AsEvent::write_variant(self, serializer)
    }
    fn deserialize_data<'__de, __D>(
        event_type: ::cqrs_core::model::EventType,
        data: __D,
    ) -> ::core::result::Result<Self, __D::Error>
    where
        __D: ::cqrs_core::__private::serde::Deserializer<'__de>,
    {
        match (event_type.name, event_type.version) {
            ("order.created", 1) => {
                ::cqrs_core::__private::AsEvent::read_variant(0, data)
            }
            ("order.settled" | "order.paid", 1) => {
                let payload = <PaidV1 as ::cqrs_core::__private::serde::Deserialize<
                    '__de,
                >>::deserialize(data)?;
                let payload = ::cqrs_core::__private::upcast::<PaidV1, Self>(payload);
                ::core::result::Result::Ok(payload)
            }
            ("order.settled" | "order.paid", 2) => {
                ::cqrs_core::__private::AsEvent::read_variant(1, data)
            }
            ("order.cancelled", 1) => {
                ::cqrs_core::__private::AsEvent::read_variant(2, data)
            }
            (name, version) => {
                ::core::result::Result::Err(
                    ::cqrs_core::__private::serde::de::Error::custom(
                        ::core::format_args!(
                            "`{}` in version {} is not a stored type of `OrderEvent`",
                            name, version
                        ),
                    ),
                )
            }
        }
    }
}
#[automatically_derived]
impl ::cqrs_core::__private::Stored<::cqrs_core::__private::AsEvent> for OrderEvent {
    type This = OrderEvent;
}
#[automatically_derived]
impl ::cqrs_core::Event for StockCounted {
    const TYPES: &'static [::cqrs_core::model::EventType] = &[
        ::cqrs_core::model::EventType::new("stock.counted", 1),
    ];
    fn event_type(&self) -> ::cqrs_core::model::EventType {
        ::cqrs_core::model::EventType::new("stock.counted", 1)
    }
    fn is_plain(&self) -> bool {
        #[allow(unused_imports)]
        use ::cqrs_core::__private::OfAnyType as _;
        <::cqrs_core::__private::Field<u32>>::IS_PLAIN
    }
    fn serialize_data<__S>(
        &self,
        serializer: __S,
    ) -> ::core::result::Result<__S::Ok, __S::Error>
    where
        __S: ::cqrs_core::__private::serde::Serializer,
    {
        ::cqrs_core::__private::AsEvent::write(self, serializer)
    }
    fn deserialize_data<'__de, __D>(
        event_type: ::cqrs_core::model::EventType,
        data: __D,
    ) -> ::core::result::Result<Self, __D::Error>
    where
        __D: ::cqrs_core::__private::serde::Deserializer<'__de>,
    {
        match (event_type.name, event_type.version) {
            ("stock.counted", 1) => ::cqrs_core::__private::AsEvent::read(data),
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
#[automatically_derived]
impl ::cqrs_core::__private::Stored<::cqrs_core::__private::AsEvent> for StockCounted {
    type This = StockCounted;
}
