//! A call that is put together first, and begins when it is polled for the first time.

use std::{
    mem,
    pin::Pin,
    task::{Context, Poll},
};

use crate::base::future::BoxFuture;

/// A future with settings `S`, which can be changed until it begins.
pub(crate) enum Deferred<S, T> {
    /// The function that begins it. A pointer keeps the bounds of the call off `Future`, so that a missing handler is
    /// one compile error, where the call is made, and not a second one at the `await`.
    Prepared(S, fn(S) -> BoxFuture<'static, T>),
    Begun(BoxFuture<'static, T>),
    /// Only while it begins.
    Taken,
}

impl<S, T> Deferred<S, T> {
    /// Changes a setting. A call that has begun has taken its settings, and is not changed.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut S)) -> Self {
        if let Self::Prepared(settings, _) = &mut self {
            change(settings);
        }
        self
    }

    /// Begins before it is polled.
    pub(crate) fn begun(self) -> BoxFuture<'static, T> {
        match self {
            Self::Prepared(settings, begin) => begin(settings),
            Self::Begun(begun) => begun,
            Self::Taken => panic!("a call was begun again after a panic"),
        }
    }
}

/// The settings are moved before the first poll, and never pinned.
impl<S, T> Unpin for Deferred<S, T> {}

impl<S, T> Future for Deferred<S, T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        if let Self::Prepared(..) = *self
            && let Self::Prepared(settings, begin) = mem::replace(&mut *self, Self::Taken)
        {
            *self = Self::Begun(begin(settings));
        }
        match &mut *self {
            Self::Begun(begun) => begun.as_mut().poll(context),
            // `begin` panicked.
            Self::Prepared(..) | Self::Taken => panic!("a call was polled again after a panic"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_begins_when_it_is_polled_with_the_settings_that_it_then_has() {
        let begin = |number: u32| -> BoxFuture<'static, u32> { Box::pin(async move { number * 2 }) };
        let call = Deferred::Prepared(1, begin).with(|number| *number = 4);
        assert_eq!(call.await, 8);
    }
}
