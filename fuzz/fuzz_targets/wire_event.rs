//! A message of one event in the JSON format.
#![no_main]

use cqrs_fuzz::key;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let headers = [("content-type", "application/cloudevents+json")];
    if let Ok(commit) = cqrs_nats::fuzzing::decode(key(), &headers, input) {
        assert!(commit.aggregate == key() && !commit.events.is_empty());
        cqrs_nats::fuzzing::assert_comes_back(&commit);
    }
});
