#[automatically_derived]
impl ::cqrs_core::Command for PayOrder {
    const NAMES: &'static [&'static str] = &["pay_order"];
    type Aggregate = Order;
    fn aggregate_id(&self) -> &<Order as ::cqrs_core::Aggregate>::Id {
        ::cqrs_core::__private::aggregate_id::<Self, OrderId>(&self.order)
    }
    fn serialize_fields<__S: ::cqrs_core::__private::serde::Serializer>(
        &self,
        serializer: __S,
    ) -> ::core::result::Result<__S::Ok, __S::Error> {
        ::cqrs_core::__private::AsCommand::write(self, serializer)
    }
    fn deserialize_fields<
        '__de,
        __D: ::cqrs_core::__private::serde::Deserializer<'__de>,
    >(_: &str, fields: __D) -> ::core::result::Result<Self, __D::Error> {
        ::cqrs_core::__private::AsCommand::read(fields)
    }
}
#[automatically_derived]
impl ::cqrs_core::__private::Stored<::cqrs_core::__private::AsCommand> for PayOrder {
    type This = PayOrder;
}
#[automatically_derived]
impl framework::Command for CreateOrder {
    const NAMES: &'static [&'static str] = &["create_order"];
    type Aggregate = Order;
    fn aggregate_id(&self) -> &<Order as framework::Aggregate>::Id {
        framework::__private::aggregate_id::<Self, OrderId>(&self.0)
    }
    fn lifecycle(&self) -> framework::Lifecycle {
        framework::Lifecycle::Create
    }
    fn serialize_fields<__S: framework::__private::serde::Serializer>(
        &self,
        serializer: __S,
    ) -> ::core::result::Result<__S::Ok, __S::Error> {
        framework::__private::AsCommand::write(self, serializer)
    }
    fn deserialize_fields<'__de, __D: framework::__private::serde::Deserializer<'__de>>(
        _: &str,
        fields: __D,
    ) -> ::core::result::Result<Self, __D::Error> {
        framework::__private::AsCommand::read(fields)
    }
}
#[automatically_derived]
impl framework::__private::Stored<framework::__private::AsCommand> for CreateOrder {
    type This = CreateOrder;
}
