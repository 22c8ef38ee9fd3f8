#[automatically_derived]
impl ::cqrs_core::Command for PayOrder {
    const NAMES: &'static [&'static str] = &["pay_order"];
    type Aggregate = Order;
    fn aggregate_id(&self) -> &<Self::Aggregate as ::cqrs_core::Aggregate>::Id {
        &self.order
    }
}
#[automatically_derived]
impl framework::Command for CreateOrder {
    const NAMES: &'static [&'static str] = &["create_order"];
    type Aggregate = Order;
    fn aggregate_id(&self) -> &<Self::Aggregate as framework::Aggregate>::Id {
        &self.0
    }
    fn lifecycle(&self) -> framework::Lifecycle {
        framework::Lifecycle::Create
    }
}
