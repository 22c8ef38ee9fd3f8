//! Money: exact to the last digit.

use std::{
    fmt,
    iter::Sum,
    ops::{Add, AddAssign, Mul, Sub, SubAssign},
    str::FromStr,
};

use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

/// An amount of money: a decimal number, never a float, and never rounded.
///
/// It has one form everywhere: all its digits, without the trailing zeros of sums and products, and at least the cents.
/// For people the thousands are separated. In JSON it is a string, because many readers of JSON make floats of numbers.
///
/// ```
/// use order_service::Money;
///
/// let price: Money = "1250.1".parse()?;
/// assert_eq!(price.to_string(), "1,250.10");
/// assert_eq!((price * "0.85".parse::<rust_decimal::Decimal>()?).to_string(), "1,062.585");
/// assert_eq!(serde_json::to_string(&price)?, r#""1250.10""#);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(example = &"12.50")]
pub struct Money(#[schemars(with = "String")] Decimal);

impl Money {
    /// No money.
    pub const ZERO: Self = Self(Decimal::ZERO);

    /// The amount as a number.
    pub const fn amount(self) -> Decimal {
        self.0
    }

    /// All digits, and at least the cents.
    fn digits(self) -> String {
        let amount = self.0.normalize();
        format!("{amount:.*}", amount.scale().max(2) as usize)
    }
}

impl From<Decimal> for Money {
    fn from(amount: Decimal) -> Self {
        Self(amount)
    }
}

impl FromStr for Money {
    type Err = rust_decimal::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Decimal::from_str_exact(text).map(Self)
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&grouped(self.digits()))
    }
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.digits())
    }
}

/// A number for people, with the thousands separated; a text after it stays as it is.
///
/// ```
/// assert_eq!(order_service::grouped(51_317), "51,317");
/// assert_eq!(order_service::grouped("-1265793.0395"), "-1,265,793.0395");
/// assert_eq!(order_service::grouped("1234 d 10 h"), "1,234 d 10 h");
/// ```
pub fn grouped(number: impl fmt::Display) -> String {
    let text = number.to_string();
    let is_whole = |c: char| c.is_ascii_digit() || c == '-';
    let (whole, rest) = text.split_at(text.find(|c| !is_whole(c)).unwrap_or(text.len()));
    let mut grouped = String::new();
    for (place, digit) in whole.char_indices() {
        let left = whole.len() - place;
        if left % 3 == 0 && grouped.ends_with(|before: char| before.is_ascii_digit()) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + rest
}

// A decimal number has 28 digits. The limits on a line (see `Line::check`) keep an order far below that,
// so that these sums and products are exact and cannot overflow.

impl Add for Money {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl AddAssign for Money {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Money {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}

impl SubAssign for Money {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl Mul<u32> for Money {
    type Output = Self;

    fn mul(self, times: u32) -> Self {
        Self(self.0 * Decimal::from(times))
    }
}

impl Mul<Decimal> for Money {
    type Output = Self;

    fn mul(self, factor: Decimal) -> Self {
        Self(self.0 * factor)
    }
}

impl Sum for Money {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_has_one_form_for_people_and_one_for_programs() {
        for (amount, people, program) in [
            ("0", "0.00", "0.00"),
            ("12.5", "12.50", "12.50"),
            ("25.0000", "25.00", "25.00"),
            ("110277.3050", "110,277.305", "110277.305"),
            ("1265793.0395", "1,265,793.0395", "1265793.0395"),
            ("-1234.5", "-1,234.50", "-1234.50"),
        ] {
            let money: Money = amount.parse().unwrap();
            assert_eq!(money.to_string(), people);
            let written = serde_json::to_string(&money).unwrap();
            assert_eq!(written, format!("{program:?}"));
            assert_eq!(serde_json::from_str::<Money>(&written).unwrap(), money);
        }
    }
}
