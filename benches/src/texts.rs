//! The texts in the events of a usual order.

/// The customer.
pub(crate) const CUSTOMER: &str = "Anna-Katharina Lindqvist-Hernández";
/// The address of delivery.
pub(crate) const ADDRESS: &str = "c/o Example Ltd, 4th floor, 17 Long Harbour Street, 12345 Middle-of-Nowhere, \
                                  Norway, the back door please";
/// The price.
pub(crate) const TOTAL: u64 = 129_900;
/// The amount of an instalment.
pub(crate) const AMOUNT: u64 = 43_300;
/// The bank's reference for a payment.
pub(crate) const REFERENCE: &str = "RF18-5390-0754-7034-2026-11";
/// The payer's text.
pub(crate) const NOTE: &str = "Second of three instalments as agreed on the phone with your colleague; please \
                               confirm it by post or by mail";
