impl Apply<OrderEvent> for Order {
    fn apply(&mut self, event: &OrderEvent) {
        self.paid |= matches!(event, OrderEvent::Paid);
    }
}
