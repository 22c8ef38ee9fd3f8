//! A payload in JSON: it is refused, or an event that is the same when it is written and read again.
#![no_main]

use cqrs_core::{Event, log::JSON};
use cqrs_fuzz::{Fact, read};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Some(fact) = read(input, JSON) {
        let mut written = Vec::new();
        fact.serialize_data(&mut serde_json::Serializer::new(&mut written))
            .expect("what was read can be written");
        let mut json = serde_json::Deserializer::from_slice(&written);
        let again =
            Fact::deserialize_data(fact.event_type(), &mut json).expect("what was written can be read");
        assert_eq!(again, fact);
    }
});
