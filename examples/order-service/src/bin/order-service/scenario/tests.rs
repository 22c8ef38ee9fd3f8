//! What the stage shows while the fulfilment is faster than it.

use std::{cell::RefCell, io, rc::Rc};

use cqrs_core::memory::{Memory, MemoryEvents};
use order_service::{OrderService, views::GetHistory};

use super::*;

/// Waits until something has happened to a product.
async fn happened(service: &OrderService, product: &ProductId, event: &str) {
    loop {
        let history = service.query(GetHistory::of_stock(product)).await.unwrap().unwrap_or_default();
        if history.entries.iter().any(|entry| entry.event == event) {
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// A writer of which the test reads while the stage has it.
#[derive(Clone, Default)]
struct Out(Rc<RefCell<Vec<u8>>>);

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The lines that the stage has written since the last call.
fn lines(out: &Out) -> Vec<String> {
    let told = String::from_utf8(out.0.take()).unwrap();
    let plain = anstream::adapter::strip_str(&told).to_string();
    plain.lines().filter(|line| !line.is_empty()).map(|line| line.trim_end().to_owned()).collect()
}

#[tokio::test]
async fn nothing_is_shown_before_what_came_before_it_even_if_all_is_over() {
    let service =
        order_service::start_with_fulfilment(Memory::default(), MemoryEvents::default()).await.unwrap();
    let (out, tea) = (Out::default(), "tea".parse::<ProductId>().unwrap());
    let mut written = out.clone();
    let mut stage = Stage::new(&service, &mut written);
    let name = "Tea".parse().unwrap();
    stage.act("a pack", ReceiveStock { product: tea.clone(), name, units: 5 }).await.unwrap();
    let order: OrderId = "dora".parse().unwrap();
    let create = CreateOrder {
        order: order.clone(),
        customer: Customer { id: "DORA".parse().unwrap(), name: "Dora".parse().unwrap() },
        country: "Ireland".parse().unwrap(),
        placed: "2026-03-01".parse().unwrap(),
        lines: vec![line(&tea, "12.50", 3, "0").unwrap()],
    };
    stage.act("3 packs", create).await.unwrap();
    let submit = SubmitOrder { order: order.clone(), seconds_to_pay: 0 };
    let submitted = stage.begin("with no time to pay", submit).await.unwrap();
    let begun = lines(&out);
    assert_eq!(
        begun[begun.len() - 2..],
        [
            "  submit_order dora: with no time to pay",
            "    event 2  order.submitted: it goes its way by itself, to be paid within 0 s",
        ],
        "the view is not shown, which may be further already"
    );

    // The order is confirmed and cancelled before the stage looks.
    happened(&service, &tea, "stock.released").await;
    stage.watch(submitted, &key(&order).unwrap(), "order.confirmed").await.unwrap();
    let expected = [
        "  reserve_stock tea: sent by the fulfilment",
        "    event 2  stock.reserved: 3 promised to order dora",
        "  confirm_order dora: sent by the fulfilment",
        "    event 3  order.confirmed: a sale of 37.50",
    ];
    assert_eq!(lines(&out), expected);

    stage.watch(submitted, &stock(&tea).unwrap(), "stock.released").await.unwrap();
    stage.show(&[key(&order).unwrap(), stock(&tea).unwrap()]).await.unwrap();
    let expected = [
        "  expire_order dora: sent by the fulfilment",
        "    event 4  order.cancelled: not paid in time, a sale of 37.50 is undone",
        "  release_stock tea: sent by the fulfilment",
        "    event 3  stock.released: 3 not needed by order dora",
        "    view     order-summary: cancelled, 37.50 net",
        "    view     stock-level: 5 on the shelf, 5 available",
    ];
    assert_eq!(lines(&out), expected);
    service.stop().await;
}
