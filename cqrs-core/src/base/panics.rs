//! Turns panics of users' code into text, so that a panic fails only the call that caused it.

use std::{
    any::Any,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    task::Poll,
};

/// The result of `rule`, or the text of its panic. After a panic, discard what `rule` was changing.
pub(crate) fn unless_panics<T>(rule: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(rule)).map_err(|panic| panic_text(&*panic))
}

/// The result of `future`.
///
/// # Errors
///
/// The text of its panic.
///
/// # Cancel safety
///
/// That of the future.
pub async fn awaited_unless_panics<F: Future>(future: F) -> Result<F::Output, String> {
    let mut future = pin!(future);
    poll_fn(|context| match unless_panics(|| future.as_mut().poll(context)) {
        Ok(polled) => polled.map(Ok),
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}

/// The text of a panic.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "no message".to_owned())
}
