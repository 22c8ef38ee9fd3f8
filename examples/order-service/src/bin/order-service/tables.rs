//! Tables and numbers for the terminal.

use std::{
    fmt::{self, Display},
    time::Duration,
};

use comfy_table::{CellAlignment, ContentArrangement, presets};
use order_service::{grouped, views::Sales};

use crate::terminal::{shortened, width};

/// The characters between two columns, and those of the borders.
const BETWEEN: usize = 2;
const BORDERS: usize = 4;

/// The fewest characters that a column of names is shortened to.
const FEWEST: usize = 12;

/// A table with columns of text and then columns of numbers, which fits into the terminal.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    texts: usize,
    /// The column whose texts are shortened if the table is too wide.
    names: Option<usize>,
}

impl Table {
    /// A table of these columns. A heading may have several lines.
    pub(crate) fn new(texts: &[&str], numbers: &[&str]) -> Self {
        let heading = texts.iter().chain(numbers).map(|heading| (*heading).to_owned()).collect();
        Self { rows: vec![heading], texts: texts.len(), names: None }
    }

    /// A table that shortens the texts of this column if it is too wide: names of people, but not ids, which are copied.
    pub(crate) fn with_names(self, column: usize) -> Self {
        Self { names: Some(column), ..self }
    }

    pub(crate) fn row(&mut self, texts: &[&str], numbers: &[impl Display]) {
        let texts = texts.iter().map(|text| (*text).to_owned());
        self.rows.push(texts.chain(numbers.iter().map(grouped)).collect());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }

    /// The rows as they are shown in a terminal of this width.
    fn fitted(&self, width: usize) -> Vec<Vec<String>> {
        let mut rows = self.rows.clone();
        let columns = rows[0].len();
        for column in self.texts..columns {
            align_points(&mut rows, column);
        }
        let Some(names) = self.names else { return rows };
        let lines = |row: &Vec<String>, column: usize| {
            row[column].lines().map(|line| line.chars().count()).max().unwrap_or_default()
        };
        let widest = |column| rows.iter().map(|row| lines(row, column)).max().unwrap_or_default();
        let others = (0..columns).filter(|column| *column != names).map(widest).sum::<usize>();
        let left = width.saturating_sub(others + BORDERS + BETWEEN * (columns - 1));
        for row in &mut rows[1..] {
            row[names] = shortened(&row[names], left.max(FEWEST));
        }
        rows
    }
}

/// Adds spaces to the numbers of a column, so that their decimal points are below each other.
fn align_points(rows: &mut [Vec<String>], column: usize) {
    let fraction = |number: &str| number.find('.').map_or(0, |point| number.len() - point);
    let longest = rows[1..].iter().map(|row| fraction(&row[column])).max().unwrap_or_default();
    for row in &mut rows[1..] {
        let missing = longest - fraction(&row[column]);
        row[column].push_str(&" ".repeat(missing));
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = width();
        let mut rows = self.fitted(width).into_iter();
        let mut table = comfy_table::Table::new();
        table.load_style(presets::UTF8_BORDERS_ONLY).set_header(rows.next().unwrap_or_default());
        table.set_content_arrangement(ContentArrangement::Dynamic);
        table.set_width(u16::try_from(width).unwrap_or(u16::MAX));
        table.add_rows(rows);
        for column in table.column_iter_mut().skip(1) {
            column.set_padding((0, 1));
        }
        for column in table.column_iter_mut().skip(self.texts) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table.fmt(f)
    }
}

/// The columns that [`sales`] fills.
pub(crate) const SALES: &[&str] = &["orders", "units", "gross", "net"];

/// Sums over sales as the numbers of a row.
pub(crate) fn sales(sales: &Sales) -> [String; 4] {
    [sales.orders.to_string(), sales.units.to_string(), sales.gross.to_string(), sales.net.to_string()]
}

/// A duration as text, in its largest unit: `0 s`, `12 s`, `3 min`, `5 h`, `2 d`.
pub(crate) fn lasting(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_told_in_their_largest_unit() {
        for (seconds, expected) in [
            (0, "0 s"),
            (59, "59 s"),
            (200, "3 min"),
            (3_599, "59 min"),
            (5 * 3_600 + 200, "5 h"),
            (50 * 3_600, "2 d"),
        ] {
            assert_eq!(lasting(Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn points_are_below_each_other() {
        let mut table = Table::new(&["country"], &["net"]);
        table.row(&["USA"], &["245584.6105"]);
        table.row(&["Norway"], &["5735.15"]);
        let numbers: Vec<_> = table.fitted(80).into_iter().map(|mut row| row.swap_remove(1)).collect();
        assert_eq!(numbers, ["net", "245,584.6105", "5,735.15  "]);
    }

    #[test]
    fn names_give_way_and_ids_do_not() {
        let mut table = Table::new(&["customer", "name"], &["orders"]).with_names(1);
        table.row(&["an-id-that-is-not-short", "Hungry Owl All-Night Grocers"], &["19"]);
        let cells = |width| table.fitted(width).swap_remove(1);
        assert_eq!(cells(80)[1], "Hungry Owl All-Night Grocers");
        assert_eq!(cells(60)[..2], ["an-id-that-is-not-short", "Hungry Owl All-Night G…"]);
        assert_eq!(cells(10)[1], "Hungry Owl…");
    }
}
