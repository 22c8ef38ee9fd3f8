//! Short texts with a meaning: ids, names and places.
//!
//! Each is checked when it is made, also from a message, so that no rule has to check it again: ids become a part of a
//! NATS subject and countries become keys of a view, and neither may be longer than the framework's limit.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The longest of these texts, in bytes; half of [`cqrs_core::model::MAX_ID_BYTES`].
pub const MAX_TEXT_BYTES: usize = 64;

/// A text that is empty, too long, or not in one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not 1 to {MAX_TEXT_BYTES} bytes of text in one line")]
pub struct BadText {
    text: String,
}

macro_rules! text {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadText;

            fn try_from(text: String) -> Result<Self, BadText> {
                check(text).map(Self)
            }
        }

        impl FromStr for $name {
            type Err = BadText;

            fn from_str(text: &str) -> Result<Self, BadText> {
                check(text.to_owned()).map(Self)
            }
        }

        impl From<$name> for String {
            fn from(text: $name) -> Self {
                text.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

text! {
    /// The id of an order.
    OrderId
}

text! {
    /// The id of a product.
    ProductId
}

text! {
    /// The id of a customer.
    CustomerId
}

text! {
    /// The name of a customer or a product.
    Name
}

text! {
    /// The country of delivery of an order.
    Country
}

text! {
    /// Why an order is cancelled.
    Reason
}

fn check(text: String) -> Result<String, BadText> {
    let blank = text.trim().is_empty();
    if blank || text.len() > MAX_TEXT_BYTES || text.chars().any(char::is_control) {
        return Err(BadText { text: text.chars().take(MAX_TEXT_BYTES).collect() });
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_short_texts_in_one_line_are_taken() {
        assert_eq!("Jalapeño & Söhne".parse::<Name>().unwrap().as_str(), "Jalapeño & Söhne");
        for bad in ["", "  ", "a\nb", &"x".repeat(65)] {
            assert!(bad.parse::<OrderId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_bad_text_off_a_wire_is_refused() {
        let error = serde_json::from_str::<Country>("\"\"").unwrap_err().to_string();
        assert!(error.contains("is not 1 to 64 bytes"), "{error}");
    }
}
