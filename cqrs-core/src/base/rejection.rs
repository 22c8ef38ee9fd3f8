//! The errors by which aggregates reject commands.

use std::error::Error as StdError;

/// An error type, for rejections; implemented for each type that implements [`std::error::Error`].
///
/// [`CommandError`](crate::CommandError) of such a type is an error itself, in generic code too. It has no supertrait
/// `Error`, because the compiler reports a missing supertrait at each use of the type.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a rejection: it does not implement `std::error::Error`",
    label = "expected an error type",
    note = "add `thiserror::Error` to the derives of `{Self}`, or implement `std::error::Error`"
)]
pub trait IsRejection: 'static {
    /// The rejection as an error.
    fn as_error(&self) -> &(dyn StdError + 'static);
}

#[diagnostic::do_not_recommend]
impl<R: StdError + 'static> IsRejection for R {
    fn as_error(&self) -> &(dyn StdError + 'static) {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::{error::Error as _, fmt};

    use crate::base::{error::CommandError, id::AggregateKey};

    #[derive(Debug, thiserror::Error)]
    #[error("the order is paid already")]
    struct AlreadyPaid(#[source] fmt::Error);

    #[test]
    fn a_rejection_is_shown_as_itself() {
        let error = CommandError::Rejected(AlreadyPaid(fmt::Error));
        assert_eq!(error.to_string(), "the order is paid already");
        assert_eq!(format!("{error:?}"), "Rejected(AlreadyPaid(Error))");
        assert!(error.source().and_then(|source| source.downcast_ref::<fmt::Error>()).is_some());
        let gone = CommandError::<AlreadyPaid>::NotFound(AggregateKey::new("order", "7").expect("an id"));
        assert_eq!(gone.to_string(), "order/7 does not exist");
        assert!(gone.source().is_none());
    }
}
