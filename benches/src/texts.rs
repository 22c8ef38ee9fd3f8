//! What the events of a usual order say.

/// Who placed it.
pub(crate) const CUSTOMER: &str = "Anna-Katharina Lindqvist-Hernández";
/// Where it is to go.
pub(crate) const ADDRESS: &str = "c/o Example Ltd, 4th floor, 17 Long Harbour Street, 12345 Middle-of-Nowhere, \
                                  Norway, the back door please";
/// What it costs.
pub(crate) const TOTAL: u64 = 129_900;
/// How much an instalment is.
pub(crate) const AMOUNT: u64 = 43_300;
/// What the bank calls a payment.
pub(crate) const REFERENCE: &str = "RF18-5390-0754-7034-2026-11";
/// What the payer wrote.
pub(crate) const NOTE: &str = "Second of three instalments as agreed on the phone with your colleague; please \
                               confirm it by post or by mail";
