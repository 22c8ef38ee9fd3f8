//! Names that are stored or sent: how they are made from Rust's names, and which are legal.

use syn::{Ident, ext::IdentExt};

/// The longest stored name of an event, in bytes.
const MAX_EVENT_NAME: usize = 128;

/// The longest name of an aggregate, a command or a query, in bytes.
const MAX_NAME: usize = 64;

/// `OrderCreated` as `order_created`, `HTTPFailed` as `http_failed`, `r#Type` as `type`.
pub(crate) fn snake_case(ident: &Ident) -> String {
    let name: Vec<char> = ident.unraw().to_string().chars().collect();
    let mut snake = String::new();
    for (i, c) in name.iter().enumerate() {
        let before = i.checked_sub(1).and_then(|before| name.get(before));
        let after = name.get(i + 1);
        let after_lower = before.is_some_and(|c| c.is_lowercase() || c.is_numeric());
        let ends_acronym =
            before.is_some_and(|c| c.is_uppercase()) && after.is_some_and(|c| c.is_lowercase());
        if c.is_uppercase() && (after_lower || ends_acronym) {
            snake.push('_');
        }
        snake.extend(c.to_lowercase());
    }
    snake
}

/// Checks that `name` is legal for an aggregate, a command or a query.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    if is_token(name) && name.len() <= MAX_NAME {
        return Ok(());
    }
    Err(format!("`{name}` cannot be a name: expected `a-z`, `0-9`, `_` and `-`, at most {MAX_NAME} of them"))
}

/// Checks that `name` is legal for a stored event, or as the prefix of its name.
pub(crate) fn check_event_name(name: &str) -> Result<(), String> {
    if name.split('.').all(is_token) && name.len() <= MAX_EVENT_NAME {
        return Ok(());
    }
    Err(format!(
        "{name:?} cannot be stored as the name of an event: expected words of `a-z`, `0-9`, `_` and `-`, \
         joined by dots, at most {MAX_EVENT_NAME} bytes"
    ))
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use syn::parse_str;

    #[test]
    fn names_follow_from_identifiers() {
        for (ident, expected) in [
            ("Created", "created"),
            ("OrderCreated", "order_created"),
            ("HTTPFailed", "http_failed"),
            ("FailedHTTP", "failed_http"),
            ("Line2Added", "line2_added"),
            ("V2", "v2"),
            ("Snake_Case", "snake_case"),
            ("_Hidden", "_hidden"),
            ("A", "a"),
            ("r#type", "type"),
            ("r#Yield", "yield"),
        ] {
            assert_eq!(snake_case(&parse_str(ident).unwrap()), expected, "{ident}");
        }
    }

    #[test]
    fn only_what_a_subject_can_carry_is_legal() {
        for good in ["order", "order-2", "_", "0", &"x".repeat(64)] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        for bad in ["", "Order", "a.b", "a b", "a*", "ü", &"x".repeat(65)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
        for good in ["order.created", "a", "a.b.c-d_e", &"x".repeat(128)] {
            assert_eq!(check_event_name(good), Ok(()), "{good}");
        }
        for bad in ["", ".", "a.", ".a", "a..b", "a.*", "Order.created", &"x".repeat(129)] {
            assert!(check_event_name(bad).is_err(), "{bad}");
        }
    }
}
