//! A message in binary mode: lines of headers, an empty line, and the payload.
#![no_main]

use cqrs_fuzz::key;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let end = input.windows(2).position(|pair| pair == b"\n\n").unwrap_or(input.len());
    let (headers, payload) = (&input[..end], input.get(end + 2..).unwrap_or_default());
    let headers = String::from_utf8_lossy(headers);
    let headers: Vec<_> = headers.lines().filter_map(|line| line.split_once(':')).collect();
    if let Ok(commit) = cqrs_nats::fuzzing::decode(key(), &headers, payload) {
        assert_eq!(commit.aggregate, key());
        cqrs_nats::fuzzing::assert_comes_back(&commit);
    }
});
