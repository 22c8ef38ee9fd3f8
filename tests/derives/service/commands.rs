impl Handle<CreateOrder> for Order {
    fn handle(&self, command: &CreateOrder, _: &Context) -> Handled<Self> {
        Ok(OrderEvent::Created { total: command.total }.into())
    }
}

#[derive(Serialize, Deserialize, Command)]
#[command(aggregate = Order)]
struct PayOrder {
    #[command(id)]
    order: u32,
}

impl Handle<PayOrder> for Order {
    fn handle(&self, _: &PayOrder, _: &Context) -> Handled<Self> {
        if self.paid { Err(OrderRejection::AlreadyPaid) } else { Ok(OrderEvent::Paid.into()) }
    }
}

#[derive(Serialize, Deserialize, Command)]
#[command(aggregate = Order)]
struct CancelOrder {
    #[command(id)]
    order: u32,
}

impl Handle<CancelOrder> for Order {
    fn handle(&self, _: &CancelOrder, _: &Context) -> Handled<Self> {
        Err(OrderRejection::AlreadyPaid)
    }
}
