//! Two contexts on one server: the shop ships, and customers get points.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

use cqrs_tests::{TestContext, eventually};
use loyalty::GetBalance;
use order_service::{
    CancelOrder, CreateOrder, Customer, Line, OrderId, PayOrder, ProductId, ReceiveStock, Status,
    SubmitOrder, views::GetOrder,
};

const CUSTOMER: &str = "ANNA";

fn create(order: &OrderId, product: &ProductId, quantity: u32) -> CreateOrder {
    CreateOrder {
        order: order.clone(),
        customer: Customer { id: CUSTOMER.parse().unwrap(), name: "Anna Aas".parse().unwrap() },
        country: "Norway".parse().unwrap(),
        placed: "2026-01-02".parse().unwrap(),
        lines: vec![Line {
            product: product.clone(),
            unit_price: "12.50".parse().unwrap(),
            quantity,
            discount: "0".parse().unwrap(),
        }],
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_sent_something_has_points_for_it() {
    let context = TestContext::new("shop").await;
    let public = context.nats.public_log(&context.name).await.unwrap();
    let shop = order_service::start_with_fulfilment(context.backend().await, public.clone()).await.unwrap();
    let own = context.nats.context(&format!("{}-loyalty", context.name)).await.unwrap();
    let service = loyalty::start(own, &public).await.unwrap();
    let coffee: ProductId = "coffee".parse().unwrap();
    let received = ReceiveStock { product: coffee.clone(), name: "Coffee".parse().unwrap(), units: 100 };
    shop.execute(received).await.unwrap();
    for (order, quantity, paid) in [("1", 3, Some("37.50")), ("2", 2, None), ("3", 1, Some("12.50"))] {
        let order: OrderId = order.parse().unwrap();
        shop.execute(create(&order, &coffee, quantity)).await.unwrap();
        shop.execute(SubmitOrder { order: order.clone(), seconds_to_pay: 900 }).await.unwrap();
        let until = async |status: Status| {
            eventually(&format!("order {order} is {status}"), async || {
                let found = shop.query(GetOrder { order: order.clone() }).await.unwrap();
                found.is_some_and(|found| found.status == status)
            })
            .await;
        };
        until(Status::Confirmed).await;
        if let Some(amount) = paid {
            let amount = amount.parse().unwrap();
            shop.execute(PayOrder { order: order.clone(), amount }).await.unwrap();
            until(Status::Shipped).await;
        } else {
            let reason = "second thoughts".parse().unwrap();
            shop.execute(CancelOrder { order: order.clone(), reason }).await.unwrap();
        }
    }
    // 37 for the first order, 12 for the third, and 0 for the cancelled one.
    eventually("the points are there", async || {
        let balance = service.query(GetBalance { customer: CUSTOMER.parse().unwrap() }).await.unwrap();
        balance.is_some_and(|balance| balance.points == 49)
    })
    .await;
    shop.stop().await;
    service.stop().await;

    // The program continues where this service ended.
    let mut program = Command::new(env!("CARGO_BIN_EXE_loyalty"));
    let program = program.arg(&context.name).env("NATS_URL", cqrs_tests::server().await.url());
    let output = program.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "      49  ANNA\n");
}
