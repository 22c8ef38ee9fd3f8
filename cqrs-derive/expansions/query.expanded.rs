#[automatically_derived]
impl ::cqrs_core::Query for GetOrder {
    const NAME: &'static str = "get_order";
    type View = OrderSummary;
    type Answer = Option<OrderSummary>;
}
#[automatically_derived]
impl ::cqrs_core::Answer<GetOrder> for OrderSummary {
    async fn answer(
        query: GetOrder,
        documents: &impl ::cqrs_core::Documents<Self>,
    ) -> ::core::result::Result<Option<OrderSummary>, ::cqrs_core::Error> {
        let key = ::std::string::ToString::to_string(&query.order);
        let document = documents.get(&key).await?;
        ::core::result::Result::Ok(::core::convert::From::from(document))
    }
}
#[automatically_derived]
impl ::cqrs_core::Query for AllOrders {
    const NAME: &'static str = "all-orders";
    type View = OrderSummary;
    type Answer = Vec<OrderSummary>;
}
