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
        let key: ::std::string::String = ::cqrs_core::__private::document_key::<
            OrderId,
        >(&query.order);
        let document = documents.get(&key).await?;
        ::core::result::Result::Ok(
            ::cqrs_core::__private::answer_of::<Self, Option<OrderSummary>>(document),
        )
    }
}
#[automatically_derived]
impl ::cqrs_core::Query for AllOrders {
    const NAME: &'static str = "all-orders";
    type View = OrderSummary;
    type Answer = Vec<OrderSummary>;
}
