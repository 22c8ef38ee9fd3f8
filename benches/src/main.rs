//! The program that measures; see `cqrs-benches --help`.

fn main() {}
