//! A rejection that is neither `Send` nor `Sync`: the compiler reports both itself.

include!("../service/names.rs");
include!("../service/event.rs");
include!("../service/aggregate.rs");
include!("../service/apply.rs");
include!("../service/create.rs");
include!("../service/commands.rs");
include!("../service/view.rs");
include!("../service/project.rs");
include!("../service/queries.rs");
include!("../service/answer.rs");
include!("../service/policy.rs");
include!("../service/react.rs");
include!("../service/handler.rs");
include!("../service/run.rs");

#[derive(Debug, thiserror::Error)]
enum OrderRejection {
    #[error("the order is paid already")]
    AlreadyPaid,
    #[error("the order is {0}")]
    Is(std::rc::Rc<str>),
}
