//! The steps from an old version of an event's payload to the next, for the derive.

/// One step. It is implemented for every type from which the next version has [`From`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be upcast: `From<{Self}>` is not implemented for `{Next}`",
    label = "events that were stored in this version could not be read",
    note = "add `impl From<{Self}> for {Next}`"
)]
pub trait Upcast<Next> {
    /// The next version of the same fact.
    fn upcast(self) -> Next;
}

#[diagnostic::do_not_recommend]
impl<Old, Next: From<Old>> Upcast<Next> for Old {
    fn upcast(self) -> Next {
        self.into()
    }
}

/// Makes the next version of `old`. A function, so that the compiler reports a missing step where the old version is
/// named.
pub fn upcast<Old: Upcast<Next>, Next>(old: Old) -> Next {
    old.upcast()
}
