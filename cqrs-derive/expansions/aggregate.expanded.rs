#[automatically_derived]
impl ::cqrs_core::Aggregate for Order {
    const NAME: &'static str = "order";
    type Id = OrderId;
    type Event = OrderEvent;
    type Rejection = OrderRejection;
}
#[automatically_derived]
impl ::cqrs_core::Aggregate for Stock {
    const NAME: &'static str = "stock-item";
    type Id = u32;
    type Event = StockEvent;
    type Rejection = StockRejection;
    fn visit_commands<__V: ::cqrs_core::model::CommandVisitor<Self>>(visitor: &mut __V) {
        visitor.command::<CountStock>();
        visitor.command::<TakeStock>();
    }
    fn visit_internal_commands<__V: ::cqrs_core::model::CommandVisitor<Self>>(
        visitor: &mut __V,
    ) {
        visitor.command::<LoseStock>();
    }
    fn snapshots() -> ::core::option::Option<::cqrs_core::model::Snapshots<Self>> {
        ::core::option::Option::Some(::cqrs_core::model::Snapshots::every(50).version(2))
    }
}
#[automatically_derived]
#[allow(deprecated)]
impl ::cqrs_core::model::Lists<CountStock> for Stock {}
#[automatically_derived]
#[allow(deprecated)]
impl ::cqrs_core::model::Lists<TakeStock> for Stock {}
#[automatically_derived]
#[allow(deprecated)]
impl ::cqrs_core::model::Lists<LoseStock> for Stock {}
