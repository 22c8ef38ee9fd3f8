//! Lanes: they run at the same time, and the items in each lane run in order.

use std::{collections::HashMap, hash::Hash};

use tokio::task::{JoinError, JoinSet};

/// Divides `items` into lanes by key: the items of one key are one lane, in order.
pub(crate) fn lanes<K: Eq + Hash, T>(
    items: impl IntoIterator<Item = T>,
    key: impl Fn(&T) -> K,
) -> Vec<Vec<T>> {
    let mut lanes: Vec<Vec<T>> = Vec::new();
    let mut known = HashMap::new();
    for item in items {
        let lane = *known.entry(key(&item)).or_insert_with(|| {
            lanes.push(Vec::new());
            lanes.len() - 1
        });
        lanes[lane].push(item);
    }
    lanes
}

/// Runs the lanes, at most `limit` at a time, and returns the result of each. Dropping the future ends the running
/// lanes.
pub(crate) async fn run<T, R, F>(
    lanes: Vec<Vec<T>>,
    limit: usize,
    lane: impl Fn(Vec<T>) -> F,
) -> Vec<Result<R, JoinError>>
where
    R: Send + 'static,
    F: Future<Output = R> + Send + 'static,
{
    let mut running = JoinSet::new();
    let mut ended = Vec::with_capacity(lanes.len());
    for items in lanes {
        if running.len() >= limit {
            ended.extend(running.join_next().await);
        }
        running.spawn(lane(items));
    }
    while let Some(end) = running.join_next().await {
        ended.push(end);
    }
    ended
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_keeps_its_order() {
        let items = [("a", 1), ("b", 2), ("a", 3), ("c", 4), ("b", 5)];
        let sorted = lanes(items, |(key, _)| *key);
        assert_eq!(sorted, [vec![("a", 1), ("a", 3)], vec![("b", 2), ("b", 5)], vec![("c", 4)]]);
    }
}
