struct Mailer {
    address: String,
}

impl EventHandler for Mailer {
    const NAME: &'static str = "mailer";
    type Of = Order;
}

impl On<OrderEvent> for Mailer {
    async fn on(&self, event: &Envelope<OrderEvent>) -> Result<(), HandlerError> {
        println!("{} to {}", event.id, self.address);
        Ok(())
    }
}
