//! Money: exact to the last digit.

use std::{
    fmt,
    iter::Sum,
    ops::{Add, AddAssign, Mul, Sub, SubAssign},
    str::FromStr,
};

use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An amount of money: a decimal number, never a float, and never rounded.
///
/// In JSON it is a string, because many readers of JSON make floats of numbers.
///
/// ```
/// use order_service::Money;
///
/// let price: Money = "0.10".parse()?;
/// assert_eq!((price * 3).to_string(), "0.30");
/// assert_eq!((price * "0.85".parse::<rust_decimal::Decimal>()?).to_string(), "0.085");
/// assert_eq!(serde_json::to_string(&price)?, r#""0.10""#);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
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
        // The exact value, with cents and without the trailing zeros of sums and products.
        let amount = self.0.normalize();
        f.pad(&format!("{amount:.*}", amount.scale().max(2) as usize))
    }
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
