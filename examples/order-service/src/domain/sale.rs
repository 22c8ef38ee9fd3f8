//! A sale: the lines of an order, its customer, and the sums.

use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::{Country, CustomerId, Money, Name, ProductId};

/// The most pieces that one line orders.
pub const MAX_QUANTITY: u32 = 1_000_000;
/// The highest price of one piece.
pub const MAX_PRICE: u32 = 1_000_000;
/// The most digits after the point, in a price or a discount.
pub const MAX_DECIMALS: u32 = 4;

/// One line of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Line {
    /// What is ordered.
    pub product: ProductId,
    /// The price of one piece.
    pub unit_price: Money,
    /// How many pieces.
    pub quantity: u32,
    /// The part of the price that is taken off: 0.15 is 15 percent.
    #[schemars(with = "String", example = &"0.15")]
    pub discount: Decimal,
}

impl Line {
    /// The price of all pieces.
    pub fn gross(&self) -> Money {
        self.unit_price * self.quantity
    }

    /// The price of all pieces less the discount, not rounded.
    pub fn net(&self) -> Money {
        self.gross() * (Decimal::ONE - self.discount)
    }

    /// Whether the line is valid. The limits keep every sum exact.
    ///
    /// # Errors
    ///
    /// [`BadLine`]: the first rule that it breaks.
    pub fn check(&self) -> Result<(), BadLine> {
        let product = || self.product.clone();
        let price = self.unit_price.amount();
        if !(1..=MAX_QUANTITY).contains(&self.quantity) {
            return Err(BadLine::Quantity { product: product(), quantity: self.quantity });
        }
        if price < Decimal::ZERO || price > Decimal::from(MAX_PRICE) || price.scale() > MAX_DECIMALS {
            return Err(BadLine::Price { product: product(), price: self.unit_price });
        }
        let discount = self.discount;
        if discount < Decimal::ZERO || discount >= Decimal::ONE || discount.scale() > MAX_DECIMALS {
            return Err(BadLine::Discount { product: product(), discount });
        }
        Ok(())
    }
}

/// Why a line is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadLine {
    /// The quantity is zero or too large.
    #[error("{quantity} pieces of product {product} cannot be ordered, only 1 to {MAX_QUANTITY}")]
    Quantity {
        /// The product.
        product: ProductId,
        /// The quantity.
        quantity: u32,
    },
    /// The price is negative, too high, or has too many digits.
    #[error("{price} is no price of product {product}: 0 to {MAX_PRICE}, up to {MAX_DECIMALS} decimals")]
    Price {
        /// The product.
        product: ProductId,
        /// The price.
        price: Money,
    },
    /// The discount is negative, or not less than the price.
    #[error(
        "{discount} is no discount on product {product}: from 0 to below 1, up to {MAX_DECIMALS} decimals"
    )]
    Discount {
        /// The product.
        product: ProductId,
        /// The discount.
        discount: Decimal,
    },
}

/// The customer of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Customer {
    /// The customer's id.
    pub id: CustomerId,
    /// The customer's name when the order was placed.
    pub name: Name,
}

/// The sums of an order: all that the figures about sales need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sale {
    /// The customer.
    pub customer: Customer,
    /// The country of delivery.
    pub country: Country,
    /// How many lines the order has.
    pub lines: u32,
    /// How many pieces they order together.
    pub units: u64,
    /// The sum before discounts.
    pub gross: Money,
    /// The sum less the discounts: the amount to pay.
    pub net: Money,
}

impl Sale {
    /// The sum of `lines`.
    pub fn of(customer: &Customer, country: &Country, lines: &[Line]) -> Self {
        Self {
            customer: customer.clone(),
            country: country.clone(),
            lines: u32::try_from(lines.len()).unwrap_or(u32::MAX),
            units: lines.iter().map(|line| u64::from(line.quantity)).sum(),
            gross: lines.iter().map(Line::gross).sum(),
            net: lines.iter().map(Line::net).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(unit_price: &str, quantity: u32, discount: &str) -> Line {
        let (unit_price, discount) = (unit_price.parse().unwrap(), discount.parse().unwrap());
        Line { product: "11".parse().unwrap(), unit_price, quantity, discount }
    }

    #[test]
    fn a_discount_is_taken_off_without_rounding() {
        let line = line("123.79", 7, "0.15");
        assert_eq!(line.gross().to_string(), "866.53");
        assert_eq!(line.net().to_string(), "736.5505");
    }

    #[test]
    fn the_largest_line_that_is_taken_is_still_exact() {
        let line = line("999999.9999", MAX_QUANTITY, "0.0001");
        assert_eq!(line.check(), Ok(()));
        assert_eq!(line.net().to_string(), "999,899,999,900.01");
    }

    #[test]
    fn a_line_without_sense_is_refused() {
        let product = || "11".parse().unwrap();
        assert_eq!(line("1", 0, "0").check(), Err(BadLine::Quantity { product: product(), quantity: 0 }));
        for bad in ["-0.01", "1000000.01", "0.00001"] {
            let price = bad.parse().unwrap();
            assert_eq!(line(bad, 1, "0").check(), Err(BadLine::Price { product: product(), price }), "{bad}");
        }
        for bad in ["-0.1", "1", "0.00001"] {
            let discount = bad.parse().unwrap();
            assert_eq!(
                line("1", 1, bad).check(),
                Err(BadLine::Discount { product: product(), discount }),
                "{bad}"
            );
        }
    }
}
