impl Answer<PaidOrders> for OrderSummary {
    async fn answer(query: PaidOrders, documents: &Documents<Self>) -> Result<u64, Error> {
        Ok(documents.all().await?.iter().filter(|(_, order)| order.total >= query.at_least).count() as u64)
    }
}
