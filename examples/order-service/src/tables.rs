//! Tables and numbers for people.

use std::fmt::{self, Display};

use comfy_table::{CellAlignment, presets};

/// A table with columns of text and then columns of numbers.
pub(crate) struct Table(comfy_table::Table);

impl Table {
    pub(crate) fn new(texts: &[&str], numbers: &[&str]) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header(texts.iter().chain(numbers));
        for column in table.column_iter_mut().skip(texts.len()) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        Self(table)
    }

    pub(crate) fn row<'a>(
        &mut self,
        texts: impl IntoIterator<Item = impl Display>,
        numbers: impl IntoIterator<Item = &'a dyn Display>,
    ) {
        let texts = texts.into_iter().map(|text| text.to_string());
        self.0.add_row(texts.chain(numbers.into_iter().map(grouped)));
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A number with its thousands apart: 1,265,793.0395.
pub(crate) fn grouped(number: impl Display) -> String {
    let text = number.to_string();
    let (whole, fraction) = text.split_at(text.find('.').unwrap_or(text.len()));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_stand_apart() {
        for (number, expected) in [
            ("0", "0"),
            ("830", "830"),
            ("51317", "51,317"),
            ("1265793.0395", "1,265,793.0395"),
            ("-123456.7", "-123,456.7"),
        ] {
            assert_eq!(grouped(number), expected);
        }
    }
}
