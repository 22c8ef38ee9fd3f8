//! Results as a table, for a terminal and for Markdown.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, Table, presets};

use super::{Goal, Group, Line, Report, Unit};

const HEADER: [&str; 7] = ["what", "median", "rounds", "ratio", "to", "goal", ""];

impl Group {
    /// The lines for a terminal.
    pub(crate) fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::UTF8_BORDERS_ONLY).set_header(HEADER);
        for column in [1, 2, 3] {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        for line in &self.lines {
            table.add_row(cells(line));
        }
        format!("{} ({})\n{table}", self.title, self.setting)
    }
}

impl Report {
    /// Everything as Markdown.
    pub(crate) fn markdown(&self) -> String {
        let machine = &self.machine;
        let mut text = format!(
            "{} on {} cores, {} of memory, Linux {}; {}; {}. {} rounds of {} s each, medians; load before: {}. \
             Measured {}.\n",
            machine.processor,
            machine.cores,
            machine.memory,
            machine.kernel,
            machine.rustc,
            machine.client,
            machine.rounds,
            machine.seconds,
            machine.load_before,
            machine.time
        );
        if machine.load_before > 1.0 {
            text.push_str("\n**The machine was busy with other things: these figures are rough.**\n");
        }
        for group in &self.groups {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "\n### {}\n\n{}\n", group.title, group.setting);
            let _ = writeln!(text, "| {} |\n|---|--:|--:|--:|---|---|---|", HEADER.join(" | "));
            for line in &group.lines {
                let _ = writeln!(text, "| {} |", cells(line).join(" | "));
            }
        }
        text
    }
}

fn cells(line: &Line) -> [String; 7] {
    let (least, most) = (fold(&line.rounds, f64::min), fold(&line.rounds, f64::max));
    let rounds = format!("{}–{}", show(least), show(most));
    let median = format!("{} {}", show(line.median()), line.unit.name());
    let ratio = line.ratio.as_ref();
    let goals = [
        line.goal.map(|goal| (goal, goal.show(show), line.median())),
        ratio.and_then(|ratio| Some((ratio.goal?, ratio.goal?.show(|v| format!("{v} ×")), ratio.median()))),
    ];
    let goals: Vec<_> = goals.into_iter().flatten().collect();
    let reached: Vec<&str> =
        goals.iter().map(|(goal, _, value)| if goal.is_reached_by(*value) { "yes" } else { "no" }).collect();
    [
        line.what.clone(),
        median,
        rounds,
        ratio.map_or_else(String::new, |ratio| format!("{:.2} ×", ratio.median())),
        ratio.map_or_else(String::new, |ratio| ratio.to.clone()),
        goals.iter().map(|(_, text, _)| text.as_str()).collect::<Vec<_>>().join(", "),
        reached.join(", "),
    ]
}

fn fold(values: &[f64], of: fn(f64, f64) -> f64) -> f64 {
    values.iter().copied().reduce(of).unwrap_or(f64::NAN)
}

impl Goal {
    pub(crate) fn show(self, value: impl Fn(f64) -> String) -> String {
        match self {
            Self::AtLeast(least) => format!("≥ {}", value(least)),
            Self::AtMost(most) => format!("≤ {}", value(most)),
        }
    }
}

impl Unit {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::CommandsPerSecond => "commands/s",
            Self::EventsPerSecond => "events/s",
            Self::Milliseconds => "ms",
            Self::Microseconds => "µs",
            Self::Bytes => "bytes",
            Self::Megabytes => "MB",
        }
    }
}

/// A value with three significant digits, or its whole part with separated thousands.
pub(crate) fn show(value: f64) -> String {
    match value.abs() {
        small if small < 10.0 => format!("{value:.2}"),
        medium if medium < 100.0 => format!("{value:.1}"),
        _ => grouped(&format!("{value:.0}")),
    }
}

fn grouped(digits: &str) -> String {
    let mut grouped = String::new();
    for (place, digit) in digits.char_indices() {
        if place > 0
            && (digits.len() - place).is_multiple_of(3)
            && grouped.ends_with(|c: char| c.is_ascii_digit())
        {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_the_digits_that_count() {
        let shown = [0.123, 9.876, 12.34, 123.4, 1234.5, 1_234_567.0].map(show);
        assert_eq!(shown, ["0.12", "9.88", "12.3", "123", "1,234", "1,234,567"]);
    }

    #[test]
    fn a_line_says_whether_its_goals_are_reached() {
        let raw = Line::new("raw", Unit::CommandsPerSecond, vec![100.0]);
        let ours = Line::new("ours", Unit::CommandsPerSecond, vec![97.0]);
        let ours = ours.beside(&raw, Some(Goal::AtLeast(0.95))).goal(Goal::AtLeast(98.0));
        let cells = cells(&ours);
        assert_eq!(
            cells,
            ["ours", "97.0 commands/s", "97.0–97.0", "0.97 ×", "raw", "≥ 98.0, ≥ 0.95 ×", "no, yes"]
        );
    }
}
