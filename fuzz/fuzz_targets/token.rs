//! An id in a subject: every token that is decoded is encoded in the same way.
#![no_main]

use cqrs_nats::{decode_token, encode_token};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &str| {
    if let Ok(id) = decode_token(input) {
        assert_eq!(encode_token(&id), input);
    }
    assert_eq!(decode_token(&encode_token(input)).as_deref(), Ok(input));
});
