//! Each command: the events, each rejection, and no events for a repeat where the rules say so.

use cqrs_core::testing::{Given, given, given_nothing};

use super::*;
use crate::domain::{BadLine, ProductId, Sale};

fn id() -> OrderId {
    "A-1".parse().unwrap()
}

fn date(text: &str) -> Date {
    text.parse().unwrap()
}

fn money(text: &str) -> Money {
    text.parse().unwrap()
}

fn product(id: &str) -> ProductId {
    id.parse().unwrap()
}

fn customer() -> Customer {
    Customer { id: "ANNA".parse().unwrap(), name: "Anna".parse().unwrap() }
}

fn country() -> Country {
    "Norway".parse().unwrap()
}

fn line(of: &str, quantity: u32) -> Line {
    let discount = "0.1".parse().unwrap();
    Line { product: product(of), unit_price: money("12.50"), quantity, discount }
}

fn create(lines: Vec<Line>) -> CreateOrder {
    CreateOrder { order: id(), customer: customer(), country: country(), placed: date("2026-03-01"), lines }
}

fn confirm() -> ConfirmOrder {
    ConfirmOrder { order: id() }
}

fn pay(amount: &str) -> PayOrder {
    PayOrder { order: id(), amount: money(amount) }
}

fn ship(on: &str) -> ShipOrder {
    ShipOrder { order: id(), on: date(on) }
}

fn deliver() -> DeliverOrder {
    DeliverOrder { order: id() }
}

fn cancel() -> CancelOrder {
    CancelOrder { order: id(), reason: "changed my mind".parse().unwrap() }
}

fn created() -> OrderEvent {
    OrderEvent::Created {
        customer: customer(),
        country: country(),
        placed: date("2026-03-01"),
        lines: vec![line("11", 2)],
    }
}

fn sale() -> Sale {
    Sale {
        customer: customer(),
        country: country(),
        lines: 1,
        units: 2,
        gross: money("25.00"),
        net: money("22.50"),
    }
}

fn confirmed() -> OrderEvent {
    OrderEvent::Confirmed { sale: sale() }
}

fn paid() -> OrderEvent {
    OrderEvent::Paid { amount: money("22.50") }
}

fn shipped() -> OrderEvent {
    OrderEvent::Shipped { on: date("2026-03-05") }
}

fn cancelled(undone: Option<Sale>, refund: Option<Money>) -> OrderEvent {
    OrderEvent::Cancelled { reason: "changed my mind".parse().unwrap(), undone, refund }
}

/// The first `count` events of an order that is fulfilled.
fn after(count: usize) -> Given<Order> {
    let way = [created(), confirmed(), paid(), shipped(), OrderEvent::Delivered];
    given(way.into_iter().take(count))
}

fn after_cancelling() -> Given<Order> {
    given([created(), cancelled(None, None)])
}

#[test]
fn an_order_is_created_once() {
    given_nothing::<Order>().when(create(vec![line("11", 2)])).then([created()]);
    after(1).when(create(vec![line("11", 2)])).then_already_exists();
    after_cancelling().when(create(vec![line("11", 2)])).then_already_exists();
}

#[test]
fn an_order_needs_lines_that_make_sense() {
    let nothing = given_nothing::<Order>;
    nothing().when(create(vec![])).then_rejected(OrderRejection::NoLines);
    let many: Vec<_> = (0..=MAX_LINES).map(|n| line(&n.to_string(), 1)).collect();
    nothing().when(create(many)).then_rejected(OrderRejection::TooManyLines(MAX_LINES + 1));
    nothing()
        .when(create(vec![line("11", 1), line("12", 1), line("11", 2)]))
        .then_rejected(OrderRejection::ProductTwice(product("11")));
    nothing()
        .when(create(vec![line("11", 0)]))
        .then_rejected(BadLine::Quantity { product: product("11"), quantity: 0 }.into());
}

#[test]
fn confirming_makes_it_a_sale() {
    after(1).when(confirm()).then([confirmed()]);
}

#[test]
fn confirming_again_changes_nothing() {
    for count in 2..=5 {
        after(count).when(confirm()).then_nothing();
    }
    after_cancelling().when(confirm()).then_rejected(OrderRejection::Cancelled);
    after(0).when(confirm()).then_not_found();
}

#[test]
fn an_order_is_paid_in_full() {
    after(2).when(pay("22.5")).then([paid()]);
    after(2)
        .when(pay("20"))
        .then_rejected(OrderRejection::WrongAmount { due: money("22.50"), offered: money("20") });
}

#[test]
fn an_order_is_paid_once_and_only_while_it_is_binding() {
    after(1).when(pay("22.50")).then_rejected(OrderRejection::NotConfirmed);
    for count in 3..=5 {
        after(count).when(pay("22.50")).then_rejected(OrderRejection::AlreadyPaid);
    }
    after_cancelling().when(pay("22.50")).then_rejected(OrderRejection::Cancelled);
    after(0).when(pay("22.50")).then_not_found();
}

#[test]
fn a_paid_order_is_shipped() {
    after(3).when(ship("2026-03-05")).then([shipped()]);
    after(3).when(ship("2026-02-28")).then_rejected(OrderRejection::ShippedTooEarly {
        placed: date("2026-03-01"),
        on: date("2026-02-28"),
    });
    for count in 1..=2 {
        after(count).when(ship("2026-03-05")).then_rejected(OrderRejection::NotPaid);
    }
    after_cancelling().when(ship("2026-03-05")).then_rejected(OrderRejection::Cancelled);
    after(0).when(ship("2026-03-05")).then_not_found();
}

#[test]
fn shipping_again_on_the_same_day_changes_nothing() {
    for count in 4..=5 {
        after(count).when(ship("2026-03-05")).then_nothing();
        after(count)
            .when(ship("2026-03-06"))
            .then_rejected(OrderRejection::AlreadyShipped(date("2026-03-05")));
    }
}

#[test]
fn what_was_shipped_is_delivered_once() {
    after(4).when(deliver()).then([OrderEvent::Delivered]);
    after(5).when(deliver()).then_nothing();
    for count in 1..=3 {
        after(count).when(deliver()).then_rejected(OrderRejection::NotShipped);
    }
    after_cancelling().when(deliver()).then_rejected(OrderRejection::Cancelled);
    after(0).when(deliver()).then_not_found();
}

#[test]
fn cancelling_undoes_the_sale_and_pays_back() {
    after(1).when(cancel()).then([cancelled(None, None)]);
    after(2).when(cancel()).then([cancelled(Some(sale()), None)]);
    after(3).when(cancel()).then([cancelled(Some(sale()), Some(money("22.50")))]);
}

#[test]
fn cancelling_again_changes_nothing_and_comes_too_late_once_it_has_left() {
    after_cancelling().when(cancel()).then_nothing();
    for count in 4..=5 {
        after(count).when(cancel()).then_rejected(OrderRejection::AlreadyShipped(date("2026-03-05")));
    }
    after(0).when(cancel()).then_not_found();
}

fn created_with(lines: Vec<Line>) -> OrderEvent {
    OrderEvent::Created { customer: customer(), country: country(), placed: date("2026-03-01"), lines }
}

#[test]
fn an_order_is_submitted_once_and_with_its_lines() {
    let submit = || SubmitOrder { order: id(), seconds_to_pay: 60 };
    let submitted = || OrderEvent::Submitted { lines: vec![line("11", 2)], seconds_to_pay: 60 };
    given([created_with(vec![line("11", 2)])]).when(submit()).then([submitted()]);
    given([created_with(vec![line("11", 2)]), submitted()]).when(submit()).then_nothing();
    let sale = || Sale::of(&customer(), &country(), &[line("11", 2)]);
    given([created_with(vec![line("11", 2)]), OrderEvent::Confirmed { sale: sale() }])
        .when(submit())
        .then_rejected(OrderRejection::UnderWay);
}

#[test]
fn only_an_order_that_waits_for_its_payment_expires() {
    let expire = || ExpireOrder { order: id(), reason: "not paid in time".parse().unwrap() };
    let sale = || Sale::of(&customer(), &country(), &[line("11", 2)]);
    let confirmed = || vec![created_with(vec![line("11", 2)]), OrderEvent::Confirmed { sale: sale() }];
    let expired = || OrderEvent::Cancelled {
        reason: "not paid in time".parse().unwrap(),
        undone: Some(sale()),
        refund: None,
    };
    given(confirmed()).when(expire()).then([expired()]);
    given([confirmed(), vec![expired()]].concat()).when(expire()).then_nothing();
    given([confirmed(), vec![OrderEvent::Paid { amount: sale().net }]].concat())
        .when(expire())
        .then_rejected(OrderRejection::AlreadyPaid);
    given([created_with(vec![line("11", 2)])]).when(expire()).then_rejected(OrderRejection::NotConfirmed);
}
