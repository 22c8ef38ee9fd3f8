impl View for OrderSummary {
    const NAME: &'static str = "order-summary";
    type Of = Order;
}

impl Project<OrderEvent> for OrderSummary {
    fn project(&mut self, event: &Envelope<OrderEvent>) {
        match event.data {
            OrderEvent::Created { total } => self.total = total,
            OrderEvent::Paid => self.paid = true,
        }
    }
}
