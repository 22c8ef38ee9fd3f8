//! Backoff: how long to pause before another attempt.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

/// A pause that doubles with each attempt (from 0) up to `longest`, with jitter: a random duration between half and all
/// of that, so that callers that failed together do not try again together.
pub(crate) fn pause(first: Duration, longest: Duration, attempt: u32) -> Duration {
    let whole = first.saturating_mul(1_u32.checked_shl(attempt).unwrap_or(u32::MAX)).min(longest);
    // Each `RandomState` has new keys, so its hash of any value is a random number.
    let random = RandomState::new().hash_one(attempt) % 1024;
    let half = whole / 2;
    half + half.mul_f64(f64::from(u32::try_from(random).unwrap_or(0)) / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_pause_lies_between_half_and_all_of_its_step(attempt in 0_u32..200) {
            let (first, longest) = (Duration::from_millis(2), Duration::from_secs(1));
            let step = first.saturating_mul(2_u32.saturating_pow(attempt.min(20))).min(longest);
            let pause = pause(first, longest, attempt);
            prop_assert!(pause >= step / 2 && pause <= step, "{pause:?} for step {step:?}");
        }
    }
}
