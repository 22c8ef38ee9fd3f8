//! The types that a service is made of, as a list in its type.
//!
//! A service is `Cqrs<Backend, (Order, Stock), (OrderSummary,)>`: its aggregates and its views are
//! part of its type, so that a command for an aggregate that was never registered does not compile.

use std::sync::Arc;

use crate::{
    model::{aggregate::Aggregate, command::Command},
    read::{query::Query, view::View},
    write::queue::Entities,
};

/// That a service has the aggregate `T`; `Place` is inferred.
#[diagnostic::on_unimplemented(
    message = "the aggregate `{T}` is not part of this service",
    label = "the service was built without `{T}`",
    note = "add `.aggregate::<{T}>()` where the service is built"
)]
pub trait HasAggregate<T: Aggregate, Place>: AggregateList {
    /// The states of `T` that the service has seen lately.
    #[doc(hidden)]
    fn entities_of(all: &Self::Entities) -> &Arc<Entities<T>>;
}

/// That a service has the view `T`; `Place` is inferred.
#[diagnostic::on_unimplemented(
    message = "the view `{T}` is not part of this service",
    label = "the service was built without `{T}`",
    note = "add `.view::<{T}>()` where the service is built"
)]
pub trait HasView<T: View, Place>: ViewList {}

/// [`HasAggregate`] as a bound on the command. With the bound on the list, and one aggregate in the list, the compiler
/// infers that aggregate for every command, and reports a mismatch of types. With the bound on the command it knows the
/// aggregate already and prints the message of [`HasAggregate`]. The test is `tests/derives/ui/not_in_the_service.rs`.
pub trait SentTo<A: AggregateList, Place>: Command {
    #[doc(hidden)]
    fn entities_of(all: &A::Entities) -> &Arc<Entities<Self::Aggregate>>;
}

impl<C: Command, A: HasAggregate<C::Aggregate, Place>, Place> SentTo<A, Place> for C {
    fn entities_of(all: &A::Entities) -> &Arc<Entities<C::Aggregate>> {
        A::entities_of(all)
    }
}

/// [`HasView`], seen from the query, as [`SentTo`] is from the command.
pub trait AskedOf<V, Place>: Query {}

impl<Q: Query, V: HasView<Q::View, Place>, Place> AskedOf<V, Place> for Q {}

/// The place of a type in a list; see [`HasAggregate`].
#[derive(Debug)]
pub struct At<const N: usize>;

/// A list of types with one more at its end.
#[diagnostic::on_unimplemented(
    message = "`{T}` is one too many for this service",
    note = "a service has at most 16 aggregates and 16 views"
)]
pub trait Push<T> {
    /// The longer list.
    type Output;
}

/// A tuple of up to 16 aggregates.
pub trait AggregateList: Send + Sync + 'static {
    /// What the service keeps for each aggregate type.
    #[doc(hidden)]
    type Entities: Send + Sync + 'static;

    /// Room for `capacity` states of each aggregate type.
    #[doc(hidden)]
    fn entities(capacity: u64) -> Self::Entities;

    /// Shows each aggregate to `visitor`.
    #[doc(hidden)]
    fn visit<V: AggregateVisitor>(all: &Self::Entities, visitor: &mut V);
}

/// A tuple of up to 16 views.
pub trait ViewList: Send + Sync + 'static {
    /// Shows each view to `visitor`.
    #[doc(hidden)]
    fn visit<V: ViewVisitor>(visitor: &mut V);
}

#[doc(hidden)]
pub trait AggregateVisitor {
    fn aggregate<A: Aggregate>(&mut self, entities: &Arc<Entities<A>>);
}

#[doc(hidden)]
pub trait ViewVisitor {
    fn view<V: View>(&mut self);
}

/// For `[done] next rest…`: the traits of the list `(done, next)`, and so on with the rest.
macro_rules! lists {
    ([$($place:tt $done:ident)*]) => {
        lists!(@traits $($place $done)*);
    };
    ([$($place:tt $done:ident)*] $next_place:tt $next:ident $($rest:tt)*) => {
        lists!(@traits $($place $done)*);
        impl<$($done,)* $next> Push<$next> for ($($done,)*) {
            type Output = ($($done,)* $next,);
        }
        lists!([$($place $done)* $next_place $next] $($rest)*);
    };
    (@traits $($place:tt $member:ident)*) => {
        #[allow(unused_variables, clippy::unused_unit, reason = "the empty list has nothing to visit")]
        impl<$($member: Aggregate),*> AggregateList for ($($member,)*) {
            type Entities = ($(Arc<Entities<$member>>,)*);

            fn entities(capacity: u64) -> Self::Entities {
                ($(Arc::new(Entities::<$member>::new(capacity)),)*)
            }

            fn visit<Visitor: AggregateVisitor>(all: &Self::Entities, visitor: &mut Visitor) {
                $(visitor.aggregate::<$member>(&all.$place);)*
            }
        }
        #[allow(unused_variables, reason = "the empty list has nothing to visit")]
        impl<$($member: View),*> ViewList for ($($member,)*) {
            fn visit<Visitor: ViewVisitor>(visitor: &mut Visitor) {
                $(visitor.view::<$member>();)*
            }
        }
        lists!(@has [$($member)*] $($place $member)*);
    };
    (@has $all:tt $($place:tt $member:ident)*) => {
        $(lists!(@one $all $place $member);)*
    };
    (@one [$($all:ident)*] $place:tt $member:ident) => {
        impl<$($all: Aggregate),*> HasAggregate<$member, At<$place>> for ($($all,)*) {
            fn entities_of(all: &Self::Entities) -> &Arc<Entities<$member>> {
                &all.$place
            }
        }
        impl<$($all: View),*> HasView<$member, At<$place>> for ($($all,)*) {}
    };
}

lists!([] 0 A 1 B 2 C 3 D 4 E 5 F 6 G 7 H 8 I 9 J 10 K 11 L 12 M 13 N 14 O 15 P);
