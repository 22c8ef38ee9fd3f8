//! Commands on one aggregate in memory and nothing else, on one thread: for profilers and for counting
//! instructions, which need a program that does the same in every run.
//!
//! `on_memory 10000` carries out ten thousand commands of one event; `on_memory 10000 three` of three events.

use cqrs_benches::domain::{CreateOrder, Order, PayOrder, SendParcel};
use cqrs_core::{Cqrs, memory::Memory};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let commands: u64 = arguments.next().ok_or("how many commands?")?.parse()?;
    let three = arguments.next().is_some();
    let cqrs = Cqrs::builder(Memory::default()).aggregate::<Order>().start().await?;
    cqrs.execute(CreateOrder::usual(1)).await?;
    for _ in 0..commands {
        if three {
            cqrs.execute(SendParcel::usual(1)).await?;
        } else {
            cqrs.execute(PayOrder::usual(1)).await?;
        }
    }
    Ok(())
}
