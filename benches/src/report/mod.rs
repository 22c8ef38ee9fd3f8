//! Results: the measurements, the machine, and the goals.

mod machine;
mod picture;
mod table;

use serde::{Deserialize, Serialize};

pub(crate) use machine::Machine;
pub(crate) use picture::PEERS;

/// The results of one run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) groups: Vec<Group>,
}

/// The results of one workload.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Group {
    pub(crate) title: String,
    /// Their conditions: the server, its storage, when it writes to the disk.
    pub(crate) setting: String,
    pub(crate) lines: Vec<Line>,
}

/// The measurements of one contender in each round.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) what: String,
    pub(crate) unit: Unit,
    pub(crate) rounds: Vec<f64>,
    pub(crate) goal: Option<Goal>,
    pub(crate) ratio: Option<Ratio>,
}

/// Its ratio to another contender.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Ratio {
    pub(crate) to: String,
    pub(crate) rounds: Vec<f64>,
    pub(crate) goal: Option<Goal>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unit {
    CommandsPerSecond,
    EventsPerSecond,
    Milliseconds,
    Microseconds,
    Bytes,
    Megabytes,
}

impl Line {
    pub(crate) fn new(what: impl Into<String>, unit: Unit, rounds: Vec<f64>) -> Self {
        Self { what: what.into(), unit, rounds, goal: None, ratio: None }
    }

    /// Sets the goal of the median.
    pub(crate) fn goal(mut self, goal: Goal) -> Self {
        self.goal = Some(goal);
        self
    }

    /// Compares it with another contender of the same rounds.
    pub(crate) fn beside(mut self, other: &Self, goal: Option<Goal>) -> Self {
        let rounds = self.rounds.iter().zip(&other.rounds).map(|(own, other)| own / other).collect();
        self.ratio = Some(Ratio { to: other.what.clone(), rounds, goal });
        self
    }

    pub(crate) fn median(&self) -> f64 {
        median(&self.rounds)
    }
}

impl Ratio {
    pub(crate) fn median(&self) -> f64 {
        median(&self.rounds)
    }
}

impl Goal {
    pub(crate) fn is_reached_by(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }
}

/// The lines, each after the first compared with it, with the goal that the function returns for its index.
pub(crate) fn beside_the_first(lines: Vec<Line>, goal: impl Fn(usize) -> Option<Goal>) -> Vec<Line> {
    let mut lines = lines.into_iter();
    let Some(first) = lines.next() else { return Vec::new() };
    let others: Vec<Line> = lines.enumerate().map(|(place, line)| line.beside(&first, goal(place))).collect();
    std::iter::once(first).chain(others).collect()
}

/// The median, or the mean of the two values in the middle.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[odd / 2],
        even => f64::midpoint(sorted[even / 2 - 1], sorted[even / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        let slow = Line::new("slow", Unit::Milliseconds, vec![1.0, 2.0, 4.0]);
        let fast = Line::new("fast", Unit::Milliseconds, vec![2.0, 2.0, 2.0]).beside(&slow, None);
        assert_eq!(fast.ratio.expect("a ratio").rounds, [2.0, 1.0, 0.5]);
    }

    #[test]
    fn a_goal_is_a_bound() {
        assert!(Goal::AtLeast(0.9).is_reached_by(0.9) && !Goal::AtLeast(0.9).is_reached_by(0.89));
        assert!(Goal::AtMost(1.1).is_reached_by(1.1) && !Goal::AtMost(1.1).is_reached_by(1.11));
    }
}
