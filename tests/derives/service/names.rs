// The names of a small service, whose parts the cases in `ui/one` include, each in place of one part of its own.
#[allow(unused_imports, reason = "a case includes most parts, and not all")]
use cqrs_core::{
    Aggregate, Answer, Apply, Command, Context, Cqrs, Documents, Effects, Envelope, Error, Event, EventHandler, Handle,
    Handled, HandlerError, On, Policy, Project, Query, React, View, memory::Memory,
};
#[allow(unused_imports, reason = "the same")]
use serde::{Deserialize, Serialize};
