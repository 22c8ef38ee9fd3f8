//! A payload in bincode: it is refused, or an event.
#![no_main]

use cqrs_core::log::BINCODE;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let _ = cqrs_fuzz::read(input, BINCODE);
});
