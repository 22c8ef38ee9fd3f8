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
        reader: &<Self as ::cqrs_core::read_models::ReadModels>::Reader,
    ) -> ::core::result::Result<Option<OrderSummary>, ::cqrs_core::Error> {
        let key: ::std::string::String = ::cqrs_core::__private::document_key::<
            OrderId,
        >(&query.order);
        let document = ::cqrs_core::__private::document_of::<Self>(reader, &key).await?;
        ::core::result::Result::Ok(document.answer::<Option<OrderSummary>>())
    }
}
#[automatically_derived]
impl ::cqrs_core::Query for AllOrders {
    const NAME: &'static str = "all-orders";
    type View = OrderSummary;
    type Answer = Vec<OrderSummary>;
}
