//! The types that a service is made of, as a list in its type.
//!
//! A service is `Cqrs<Backend, (Order, Stock), (OrderSummary,)>`: its aggregates and its views are
//! part of its type, so that a command for an aggregate that was never registered does not compile.

use crate::{Aggregate, View};

/// That a list of types contains `T`; `Place` is inferred.
#[diagnostic::on_unimplemented(
    message = "`{T}` is not part of this service",
    label = "the service was built without `{T}`",
    note = "add `.aggregate::<{T}>()` or `.view::<{T}>()` where the service is built"
)]
pub trait Contains<T, Place> {}

/// The place of a type in a list; see [`Contains`].
#[derive(Debug)]
pub struct At<const N: usize>;

/// A list of types with one more at its end.
pub trait Push<T> {
    /// The longer list.
    type Output;
}

/// A tuple of up to 16 aggregates.
pub trait AggregateList: Send + Sync + 'static {
    /// Shows each aggregate to `visitor`.
    #[doc(hidden)]
    fn visit<V: AggregateVisitor>(visitor: &mut V);
}

/// A tuple of up to 16 views.
pub trait ViewList: Send + Sync + 'static {
    /// Shows each view to `visitor`.
    #[doc(hidden)]
    fn visit<V: ViewVisitor>(visitor: &mut V);
}

#[doc(hidden)]
pub trait AggregateVisitor {
    fn aggregate<A: Aggregate>(&mut self);
}

#[doc(hidden)]
pub trait ViewVisitor {
    fn view<V: View>(&mut self);
}

/// For `[done] next rest…`: the traits of the list `(done, next)`, and so on with the rest.
macro_rules! lists {
    ([$($place:literal $done:ident)*]) => {
        lists!(@traits $($place $done)*);
    };
    ([$($place:literal $done:ident)*] $next_place:literal $next:ident $($rest:tt)*) => {
        lists!(@traits $($place $done)*);
        impl<$($done,)* $next> Push<$next> for ($($done,)*) {
            type Output = ($($done,)* $next,);
        }
        lists!([$($place $done)* $next_place $next] $($rest)*);
    };
    (@traits $($place:literal $member:ident)*) => {
        impl<$($member: Aggregate),*> AggregateList for ($($member,)*) {
            fn visit<Visitor: AggregateVisitor>(visitor: &mut Visitor) {
                let _ = &visitor;
                $(visitor.aggregate::<$member>();)*
            }
        }
        impl<$($member: View),*> ViewList for ($($member,)*) {
            fn visit<Visitor: ViewVisitor>(visitor: &mut Visitor) {
                let _ = &visitor;
                $(visitor.view::<$member>();)*
            }
        }
        lists!(@contains [$($member)*] $($place $member)*);
    };
    (@contains $all:tt $($place:literal $member:ident)*) => {
        $(lists!(@one $all $place $member);)*
    };
    (@one [$($all:ident)*] $place:literal $member:ident) => {
        impl<$($all),*> Contains<$member, At<$place>> for ($($all,)*) {}
    };
}

lists!([] 0 A 1 B 2 C 3 D 4 E 5 F 6 G 7 H 8 I 9 J 10 K 11 L 12 M 13 N 14 O 15 P);
