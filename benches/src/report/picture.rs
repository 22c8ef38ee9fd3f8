//! Results as a picture: how far each goal is reached, and how many commands each framework carries out.

use std::fmt::Write as _;

use super::{Goal, Group, Line, Report, Unit, table::show};

const WIDTH: f64 = 960.0;
/// The position at which bars begin, after their names.
const LEFT: f64 = 430.0;
/// The length of the longest bar.
const LONGEST: f64 = 340.0;
const ROW: f64 = 22.0;

const INK: &str = "#1f2933";
const PALE: &str = "#7b8794";
const REACHED: &str = "#2f855a";
const MISSED: &str = "#c05621";
const OTHER: &str = "#9fb3c8";

/// A bar has its full length at twice the goal.
const FULL: f64 = 2.0;

impl Report {
    /// The picture as SVG.
    pub(crate) fn picture(&self) -> String {
        let mut picture = Picture { body: String::new(), y: 20.0 };
        picture.title("Goals: the line is the goal, what reaches beyond it is better");
        for group in &self.groups {
            picture.goals(group);
        }
        for group in self.groups.iter().filter(|group| group.title.starts_with(PEERS)) {
            picture.title(&group.title);
            picture.commands(group);
        }
        let machine = &self.machine;
        let (y, height) = (picture.y + 8.0, picture.y + 24.0);
        let about = format!("{}, {} cores, {}", machine.processor, machine.cores, machine.time);
        picture.text(16.0, y, PALE, "start", &about);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
             font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{}</svg>\n",
            picture.body
        )
    }
}

/// The beginning of the title of the group of other frameworks.
pub(crate) const PEERS: &str = "Frameworks";

struct Picture {
    body: String,
    y: f64,
}

/// How often a result reaches its goal: 1 is exactly.
fn reached(goal: Goal, value: f64) -> f64 {
    match goal {
        Goal::AtLeast(least) => value / least,
        // A value too small to measure is the best possible.
        Goal::AtMost(_) if value <= 0.0 => FULL,
        Goal::AtMost(most) => most / value,
    }
}

impl Picture {
    fn title(&mut self, text: &str) {
        self.y += 10.0;
        let y = self.y;
        let _ = writeln!(
            self.body,
            "<text x=\"16\" y=\"{y}\" fill=\"{INK}\" font-size=\"15\" font-weight=\"bold\">{}</text>",
            escaped(text)
        );
        self.y += ROW;
    }

    /// The lines that have a goal.
    fn goals(&mut self, group: &Group) {
        let goals: Vec<_> = group.lines.iter().flat_map(goals_of).collect();
        if goals.is_empty() {
            return;
        }
        let (y, top) = (self.y, self.y);
        self.text(16.0, y, PALE, "start", &group.title);
        self.y += ROW;
        for (what, goal, value, said) in goals {
            let factor = reached(goal, value);
            let colour = if goal.is_reached_by(value) { REACHED } else { MISSED };
            self.bar(&what, factor / FULL, colour, &said);
        }
        let x = LEFT + LONGEST / FULL;
        let bottom = self.y - ROW + 8.0;
        let _ = writeln!(
            self.body,
            "<line x1=\"{x}\" y1=\"{}\" x2=\"{x}\" y2=\"{bottom}\" stroke=\"{INK}\" stroke-width=\"1.5\"/>",
            top + 6.0
        );
        self.y += 6.0;
    }

    /// The lines in commands per second.
    fn commands(&mut self, group: &Group) {
        let lines = || group.lines.iter().filter(|line| line.unit == Unit::CommandsPerSecond);
        let most = lines().map(Line::median).fold(1.0, f64::max);
        for line in lines() {
            let colour = if line.what.starts_with("this") { REACHED } else { OTHER };
            self.bar(&line.what, line.median() / most, colour, &format!("{} /s", show(line.median())));
        }
    }

    /// A bar with this part of the full length.
    fn bar(&mut self, what: &str, part: f64, colour: &str, said: &str) {
        let (y, length) = (self.y, part.clamp(0.0, 1.0) * LONGEST);
        self.text(LEFT - 10.0, y, INK, "end", what);
        let _ = writeln!(
            self.body,
            "<rect x=\"{LEFT}\" y=\"{}\" width=\"{length:.1}\" height=\"14\" fill=\"{colour}\"/>",
            y - 11.0
        );
        self.text(LEFT + LONGEST + 12.0, y, INK, "start", said);
        self.y += ROW;
    }

    fn text(&mut self, x: f64, y: f64, colour: &str, anchor: &str, text: &str) {
        let _ = writeln!(
            self.body,
            "<text x=\"{x:.1}\" y=\"{y}\" fill=\"{colour}\" text-anchor=\"{anchor}\">{}</text>",
            escaped(text)
        );
    }
}

/// The measure of a line, with its goal and its value, both as text.
fn goals_of(line: &Line) -> Vec<(String, Goal, f64, String)> {
    let own = line.goal.map(|goal| {
        let said = format!("{} {} ({})", show(line.median()), line.unit.name(), goal.show(show));
        (line.what.clone(), goal, line.median(), said)
    });
    let beside = line.ratio.as_ref().and_then(|ratio| {
        let goal = ratio.goal?;
        let said = format!("{:.2} × ({})", ratio.median(), goal.show(|value| format!("{value}")));
        Some((line.what.clone(), goal, ratio.median(), said))
    });
    own.into_iter().chain(beside).collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_is_better_where_the_goal_is_a_most() {
        assert!((reached(Goal::AtLeast(2.0), 4.0) - 2.0).abs() < 1e-9);
        assert!((reached(Goal::AtMost(2.0), 4.0) - 0.5).abs() < 1e-9);
        assert!((reached(Goal::AtMost(2.0), -0.1) - FULL).abs() < 1e-9);
    }

    #[test]
    fn what_stands_in_a_name_is_no_markup() {
        assert_eq!(escaped("a < b & c"), "a &lt; b &amp; c");
    }
}
