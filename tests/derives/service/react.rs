impl Policy for Cancel {
    const NAME: &'static str = "cancel";
    const START: cqrs_core::Start = cqrs_core::Start::Beginning;
    type Of = Order;
}

impl React<OrderEvent> for Cancel {
    fn react(&mut self, event: &Envelope<OrderEvent>, effects: &mut Effects) {
        self.seen += 1;
        effects.send(CancelOrder { order: 1 });
        effects.at("later", event.time, CancelOrder { order: 1 });
    }
}
