//! Tables and numbers for the terminal.

use std::{
    fmt::{self, Display},
    time::Duration,
};

use comfy_table::{CellAlignment, presets};
use order_service::{Money, views::Sales};

/// A table with columns of text and then columns of numbers.
pub(crate) struct Table(comfy_table::Table);

impl Table {
    pub(crate) fn new(texts: &[&str], numbers: &[&str]) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::UTF8_BORDERS_ONLY).set_header(texts.iter().chain(numbers));
        for column in table.column_iter_mut().skip(texts.len()) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        Self(table)
    }

    pub(crate) fn row(&mut self, texts: &[&str], numbers: &[impl Display]) {
        let texts = texts.iter().map(|text| (*text).to_owned());
        self.0.add_row(texts.chain(numbers.iter().map(grouped)));
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The columns that [`sales`] fills.
pub(crate) const SALES: &[&str] = &["orders", "units", "gross", "net"];

/// Sums over sales as the numbers of a row.
pub(crate) fn sales(sales: &Sales) -> [String; 4] {
    [sales.orders.to_string(), sales.units.to_string(), exact(sales.gross, 2), exact(sales.net, 4)]
}

/// A number with separated thousands, and any text after it: 1,265,793.0395, 12 s.
pub(crate) fn grouped(number: impl Display) -> String {
    let text = number.to_string();
    let (whole, fraction) =
        text.split_at(text.find(|c: char| !c.is_ascii_digit() && c != '-').unwrap_or(text.len()));
    let mut grouped = String::new();
    for (place, digit) in whole.char_indices() {
        let left = whole.len() - place;
        if left % 3 == 0 && grouped.ends_with(|before: char| before.is_ascii_digit()) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + fraction
}

/// A duration as text: `0 s`, `12 s`, `3 min 20 s`, `5 h 3 min`, `2 d 4 h`.
pub(crate) fn lasting(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// An amount of money with at least so many decimals, to align a column; never rounded.
pub(crate) fn exact(money: Money, decimals: u32) -> String {
    let amount = money.amount().normalize();
    format!("{amount:.*}", amount.scale().max(decimals) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_their_two_largest_parts() {
        for (seconds, expected) in [
            (0, "0 s"),
            (59, "59 s"),
            (200, "3 min 20 s"),
            (5 * 3_600 + 200, "5 h 3 min"),
            (50 * 3_600, "2 d 2 h"),
        ] {
            assert_eq!(lasting(Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn thousands_stand_apart() {
        for (number, expected) in [
            ("0", "0"),
            ("830", "830"),
            ("51317", "51,317"),
            ("1265793.0395", "1,265,793.0395"),
            ("-123456.7", "-123,456.7"),
            ("13 s", "13 s"),
            ("1234 d 10 h", "1,234 d 10 h"),
        ] {
            assert_eq!(grouped(number), expected);
        }
    }
}
