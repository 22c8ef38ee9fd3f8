struct Mailer {
    address: String,
}

impl EventHandler for Mailer {
    const NAME: &'static str = "mailer";
    const START: cqrs_core::Start = cqrs_core::Start::Beginning;
    type Of = Order;
}

impl On<OrderEvent> for Mailer {
    async fn on(&self, event: &Envelope<OrderEvent>) -> Result<(), HandlerError> {
        println!("{} to {}", event.id, self.address);
        Ok(())
    }
}
