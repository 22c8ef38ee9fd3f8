//! A query by key of a read model that has no documents.

include!("../../service/names.rs");
include!("../../service/event.rs");
include!("../../service/rejection.rs");
include!("../../service/aggregate.rs");
include!("../../service/apply.rs");
include!("../../service/create.rs");
include!("../../service/commands.rs");
include!("../../service/rows.rs");

#[derive(Query)]
#[query(view = OrderRows, answer = Option<u64>)]
struct GetTotal {
    #[query(key)]
    order: u32,
}

fn main() {}
