//! The memory backend keeps the contracts of the ports.
#![cfg(feature = "contract")]

use cqrs_core::memory::{MemoryDeadlines, MemoryEvents, MemoryViews};

cqrs_core::event_store_contract!(async { (MemoryEvents::default(), ()) });
cqrs_core::view_store_contract!(async { (MemoryViews::default(), ()) });
cqrs_core::deadlines_contract!(async { (MemoryDeadlines::default(), ()) });
cqrs_core::notices_contract!(async { (MemoryEvents::default(), ()) });
