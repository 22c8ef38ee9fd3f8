//! A snapshot: it is discarded, or a state. One with a valid checksum reaches the decoder.
#![no_main]

use cqrs_core::fuzzing;
use cqrs_fuzz::State;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    fuzzing::read_snapshot::<State>(input);
    fuzzing::read_framed_snapshot::<State>(input);
});
