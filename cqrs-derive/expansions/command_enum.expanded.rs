#[automatically_derived]
impl ::cqrs_core::Command for OrderCommand {
    const NAMES: &'static [&'static str] = &[
        "create_order",
        "pay_order",
        "ship_order",
        "withdraw",
    ];
    type Aggregate = Order;
    fn aggregate_id(&self) -> &<Order as ::cqrs_core::Aggregate>::Id {
        match self {
            Self::Create { order, .. } => {
                ::cqrs_core::__private::aggregate_id::<Self, OrderId>(order)
            }
            Self::Pay { r#for, .. } => {
                ::cqrs_core::__private::aggregate_id::<Self, OrderId>(r#for)
            }
            Self::Ship(_, id, ..) => {
                ::cqrs_core::__private::aggregate_id::<Self, OrderId>(id)
            }
            Self::Cancel(id) => ::cqrs_core::__private::aggregate_id::<Self, OrderId>(id),
        }
    }
    fn name(&self) -> &'static str {
        match self {
            Self::Create { .. } => "create_order",
            Self::Pay { .. } => "pay_order",
            Self::Ship { .. } => "ship_order",
            Self::Cancel { .. } => "withdraw",
        }
    }
    fn lifecycle(&self) -> ::cqrs_core::Lifecycle {
        match self {
            Self::Create { .. } => ::cqrs_core::Lifecycle::Create,
            Self::Pay { .. } | Self::Ship { .. } => ::cqrs_core::Lifecycle::Update,
            Self::Cancel { .. } => ::cqrs_core::Lifecycle::Upsert,
        }
    }
    fn serialize_fields<__S: ::cqrs_core::__private::serde::Serializer>(
        &self,
        serializer: __S,
    ) -> ::core::result::Result<__S::Ok, __S::Error> {
        ::cqrs_core::__private::AsCommand::write_variant(self, serializer)
    }
    fn deserialize_fields<
        '__de,
        __D: ::cqrs_core::__private::serde::Deserializer<'__de>,
    >(name: &str, fields: __D) -> ::core::result::Result<Self, __D::Error> {
        ::cqrs_core::__private::deserialize_command(name, fields)
    }
}
#[automatically_derived]
impl ::cqrs_core::__private::Stored<::cqrs_core::__private::AsCommand> for OrderCommand {
    type This = OrderCommand;
}
#[automatically_derived]
impl ::cqrs_core::Command for Payment {
    const NAMES: &'static [&'static str] = &["pay", "pay_back"];
    type Aggregate = Order;
    fn aggregate_id(&self) -> &<Order as ::cqrs_core::Aggregate>::Id {
        match self {
            Self::Pay(id) => ::cqrs_core::__private::aggregate_id::<Self, OrderId>(id),
            Self::PayBack(id) => {
                ::cqrs_core::__private::aggregate_id::<Self, OrderId>(id)
            }
        }
    }
    fn name(&self) -> &'static str {
        match self {
            Self::Pay { .. } => "pay",
            Self::PayBack { .. } => "pay_back",
        }
    }
    fn serialize_fields<__S: ::cqrs_core::__private::serde::Serializer>(
        &self,
        serializer: __S,
    ) -> ::core::result::Result<__S::Ok, __S::Error> {
        ::cqrs_core::__private::AsCommand::write_variant(self, serializer)
    }
    fn deserialize_fields<
        '__de,
        __D: ::cqrs_core::__private::serde::Deserializer<'__de>,
    >(name: &str, fields: __D) -> ::core::result::Result<Self, __D::Error> {
        ::cqrs_core::__private::deserialize_command(name, fields)
    }
}
#[automatically_derived]
impl ::cqrs_core::__private::Stored<::cqrs_core::__private::AsCommand> for Payment {
    type This = Payment;
}
