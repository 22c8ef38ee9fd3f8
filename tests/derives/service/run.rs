async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let cqrs = Cqrs::builder(Memory::default())
        .aggregate::<Order>()
        .view::<OrderSummary>()
        .policy::<Cancel>()
        .event_handler(Mailer { address: "a@b.c".into() })
        .start()
        .await?;
    cqrs.execute(CreateOrder { order: 7, total: 90 }).await?;
    let receipt = cqrs.execute(PayOrder { order: 7 }).await?;
    cqrs.query(GetOrder { order: 7 }).after(&receipt).await?;
    cqrs.query(PaidOrders { at_least: 7 }).after(&receipt).await?;
    Ok(())
}

fn main() {
    drop(run());
}
