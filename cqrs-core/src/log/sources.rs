//! Tuples of event sources: an event belongs to one of them, and is passed to the rule for that one.

/// Implements a trait of sources for tuples of up to eight aggregates and, in this crate, for each aggregate alone.
///
/// The trait's method `$step` calls `$of`, a function that is generic over the aggregate and the follower, for events
/// of that aggregate only. What it needs of the follower besides the rules is a bound of the method, after `where`.
/// (Another crate cannot implement a trait for each [`EventSource`](crate::model::EventSource)
/// beside tuples, because this crate could make a tuple an `EventSource`.)
#[doc(hidden)]
#[macro_export]
macro_rules! sources {
    (impl $Sources:ident<$F:ident> where each: $Rule:ident, fn $step:ident($($argument:ident: $Argument:ty)?) -> $Step:ty $(where $Needy:ident: $Bound:path)? = $of:ident) => {
        impl<$F, A> $Sources<$F> for A
        where
            A: $crate::model::EventSource,
            $F: $Rule<A::Event>,
        {
            $crate::sources! {
                @methods $step, ($($argument: $Argument)?), ($Step $(, $Needy: $Bound)?), A => $of::<A, $F>
            }
        }

        $crate::sources! {
            @tuples [$Sources, $F, (), $Rule, $step, ($($argument: $Argument)?), ($Step $(, $Needy: $Bound)?), $of]
        }
    };
    (impl $Sources:ident<$F:ident, $DB:ident: $Database:ident> where each: $Rule:ident, fn $step:ident($($argument:ident: $Argument:ty)?) -> $Step:ty = $of:ident) => {
        $crate::sources! {
            @tuples [$Sources, $F, ($DB: $Database), $Rule, $step, ($($argument: $Argument)?), ($Step), $of]
        }
    };
    (@tuples $trait:tt) => {
        $crate::sources! { @tuple $trait [A1] }
        $crate::sources! { @tuple $trait [A1 A2] }
        $crate::sources! { @tuple $trait [A1 A2 A3] }
        $crate::sources! { @tuple $trait [A1 A2 A3 A4] }
        $crate::sources! { @tuple $trait [A1 A2 A3 A4 A5] }
        $crate::sources! { @tuple $trait [A1 A2 A3 A4 A5 A6] }
        $crate::sources! { @tuple $trait [A1 A2 A3 A4 A5 A6 A7] }
        $crate::sources! { @tuple $trait [A1 A2 A3 A4 A5 A6 A7 A8] }
    };
    (@tuple [$Sources:ident, $F:ident, (), $Rule:ident, $step:ident, $arguments:tt, $Step:tt, $of:ident] [$($A:ident)+]) => {
        impl<$F, $($A),+> $Sources<$F> for ($($A,)+)
        where
            $($A: $crate::model::EventSource, $F: $Rule<$A::Event>,)+
        {
            $crate::sources! { @methods $step, $arguments, $Step, $($A => $of::<$A, $F>),+ }
        }
    };
    (@tuple [$Sources:ident, $F:ident, ($DB:ident: $Database:ident), $Rule:ident, $step:ident, $arguments:tt, $Step:tt, $of:ident] [$($A:ident)+]) => {
        impl<$F, $DB: $Database, $($A),+> $Sources<$F, $DB> for ($($A,)+)
        where
            $F: Send + Sync + 'static,
            $($A: $crate::model::EventSource, $F: $Rule<$A::Event, $DB>,)+
        {
            $crate::sources! { @methods $step, $arguments, $Step, $($A => $of::<$A, $F, $DB>),+ }
        }
    };
    (@methods $step:ident, ($($argument:ident: $Argument:ty)?), ($Step:ty $(, $Needy:ident: $Bound:path)?), $($A:ident => $of:expr),+) => {
        fn names() -> Vec<&'static str> {
            vec![$($A::NAME),+]
        }

        fn $step(
            $($argument: $Argument,)?
            event: &$crate::log::Recorded<'_>,
        ) -> Result<Option<$Step>, $crate::StoreError>
        where
            $($Needy: $Bound,)?
        {
            let of: fn($($Argument,)? &$crate::log::Recorded<'_>) -> _ = match event.aggregate() {
                $(name if name == $A::NAME => $of,)+
                _ => return Ok(None),
            };
            of($($argument,)? event)
        }
    };
}

pub(crate) use sources;
