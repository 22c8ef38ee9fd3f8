//! The types of which a service consists, as a list in its type.
//!
//! A service is `Cqrs<(Order, Stock), (OrderSummary,)>`: its aggregates and its views are a part of its type,
//! so that a command for an aggregate that was never registered does not compile.

use std::sync::Arc;

use crate::{
    model::{
        aggregate::{Aggregate, Handle},
        command::Command,
    },
    read::{
        query::{Answer, Query},
        read_model::{ReadModel, ReadModels},
    },
    write::queue::Queues,
};

/// A service that has the aggregate `T`; `Index` is inferred.
#[diagnostic::on_unimplemented(
    message = "the aggregate `{T}` is not part of this service",
    label = "the service was built without `{T}`",
    note = "add `.aggregate::<{T}>()` where the service is built"
)]
pub trait HasAggregate<T: Aggregate, Index>: AggregateList {
    /// The cached states of `T`.
    #[doc(hidden)]
    fn queues_of(all: &Self::Queues) -> &Arc<Queues<T>>;
}

/// A service that has the view `T` or, if `T` is a tuple, each of its views; `Index` is inferred.
#[diagnostic::on_unimplemented(
    message = "the view `{T}` is not part of this service",
    label = "the service was built without `{T}`",
    note = "add `.view::<{T}>()` where the service is built; for rows of a database, `.read_model(…)` with the projection"
)]
pub trait HasView<T: ReadModels, Index>: ViewList {}

/// A command that a service with the aggregates `A` can execute, for functions that are generic over commands; `Index`
/// is inferred.
///
/// It is [`HasAggregate`] as a bound on the command. With the bound on the list, and one aggregate in the list, the
/// compiler infers that aggregate for every command, and reports a mismatch of types. With the bound on the command it
/// knows the aggregate already and prints the message of [`HasAggregate`]. The test is
/// `tests/derives/ui/not_in_the_service.rs`.
pub trait SentTo<A: AggregateList, Index>: Command<Aggregate: Handle<Self>> {
    #[doc(hidden)]
    fn queues_of(all: &A::Queues) -> &Arc<Queues<Self::Aggregate>>;
}

impl<C, A, Index> SentTo<A, Index> for C
where
    C: Command<Aggregate: Handle<C>>,
    A: HasAggregate<C::Aggregate, Index>,
{
    fn queues_of(all: &A::Queues) -> &Arc<Queues<C::Aggregate>> {
        A::queues_of(all)
    }
}

/// A query that a service with the views `V` can answer, for functions that are generic over queries; `Index` is
/// inferred. It is [`HasView`] as a bound on the query, as [`SentTo`] is on the command.
pub trait AskedOf<V, Index>: Query<View: Answer<Self>> + Sized {}

impl<Q: Query<View: Answer<Q>>, V: HasView<Q::View, Index>, Index> AskedOf<V, Index> for Q {}

/// The index of a type in a list; see [`HasAggregate`]. A type that is in a list twice has two, so that none is inferred.
#[derive(Debug)]
pub struct At<const N: usize>;

/// A list of types to which one more can be added at its end.
#[diagnostic::on_unimplemented(
    message = "`{T}` is one too many for this service",
    note = "a service has at most 16 aggregates and 16 views"
)]
pub trait Push<T> {
    /// The longer list.
    type Output;
}

/// A type that can be added to the list `L`.
///
/// It is [`Push`] as a bound on the type, as [`SentTo`] is on the command. With the bound on the list, the compiler says
/// of a service with 16 views that it has no such method. The tests are `tests/derives/ui/one/seventeen_views.rs` and
/// `seventeen_aggregates.rs`.
pub trait AddedTo<L> {
    /// The longer list.
    type Output;
}

impl<T, L: Push<T>> AddedTo<L> for T {
    type Output = L::Output;
}

/// A tuple of up to 16 aggregates.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a list of aggregates",
    label = "expected a tuple of at most 16 aggregates",
    note = "a service has a tuple of aggregates and a tuple of views; a tuple of one has a comma: `({Self},)`"
)]
pub trait AggregateList: 'static {
    /// The queues of each aggregate type.
    #[doc(hidden)]
    type Queues: Send + Sync + 'static;

    /// Makes a cache of `capacity` states for each aggregate type.
    #[doc(hidden)]
    fn queues(capacity: u64) -> Self::Queues;

    /// Passes each aggregate to `visitor`.
    #[doc(hidden)]
    fn visit<V: AggregateVisitor>(all: &Self::Queues, visitor: &mut V);
}

/// A tuple of up to 16 views: of types with [`View`](crate::View), and of other [`ReadModel`]s.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a list of views",
    label = "expected a tuple of at most 16 views",
    note = "a service has a tuple of aggregates and a tuple of views; a tuple of one has a comma: `({Self},)`"
)]
pub trait ViewList: 'static {}

#[doc(hidden)]
pub trait AggregateVisitor {
    fn aggregate<A: Aggregate>(&mut self, queues: &Arc<Queues<A>>);
}

/// For `[done] next rest…`: implements the traits for the list `(done, next)`, and recurses with the rest.
macro_rules! lists {
    ([$($index:tt $done:ident)*]) => {
        lists!(@traits $($index $done)*);
    };
    ([$($index:tt $done:ident)*] $next_index:tt $next:ident $($rest:tt)*) => {
        lists!(@traits $($index $done)*);
        impl<$($done,)* $next> Push<$next> for ($($done,)*) {
            type Output = ($($done,)* $next,);
        }
        lists!([$($index $done)* $next_index $next] $($rest)*);
    };
    (@traits $($index:tt $member:ident)*) => {
        #[allow(unused_variables, clippy::unused_unit, reason = "the empty list has nothing to visit")]
        impl<$($member: Aggregate),*> AggregateList for ($($member,)*) {
            type Queues = ($(Arc<Queues<$member>>,)*);

            fn queues(capacity: u64) -> Self::Queues {
                ($(Arc::new(Queues::<$member>::new(capacity)),)*)
            }

            fn visit<Visitor: AggregateVisitor>(all: &Self::Queues, visitor: &mut Visitor) {
                $(visitor.aggregate::<$member>(&all.$index);)*
            }
        }
        impl<$($member: ReadModel),*> ViewList for ($($member,)*) {}
        lists!(@has [$($member)*] $($index $member)*);
    };
    (@has $all:tt $($index:tt $member:ident)*) => {
        $(lists!(@one $all $index $member);)*
    };
    (@one [$($all:ident)*] $index:tt $member:ident) => {
        impl<$($all: Aggregate),*> HasAggregate<$member, At<$index>> for ($($all,)*) {
            fn queues_of(all: &Self::Queues) -> &Arc<Queues<$member>> {
                &all.$index
            }
        }
        impl<$($all: ReadModel),*> HasView<$member, At<$index>> for ($($all,)*) {}
    };
}

/// A list that has each view of a tuple.
macro_rules! has_views {
    ($($view:ident $index:ident)+) => {
        impl<List, $($view, $index),+> HasView<($($view,)+), ($($index,)+)> for List
        where
            $($view: ReadModel, List: HasView<$view, $index>,)+
        {
        }
    };
}

has_views! { A IndexA }
has_views! { A IndexA B IndexB }
has_views! { A IndexA B IndexB C IndexC }
has_views! { A IndexA B IndexB C IndexC D IndexD }
has_views! { A IndexA B IndexB C IndexC D IndexD E IndexE }
has_views! { A IndexA B IndexB C IndexC D IndexD E IndexE F IndexF }
has_views! { A IndexA B IndexB C IndexC D IndexD E IndexE F IndexF G IndexG }
has_views! { A IndexA B IndexB C IndexC D IndexD E IndexE F IndexF G IndexG H IndexH }

lists!([] 0 A 1 B 2 C 3 D 4 E 5 F 6 G 7 H 8 I 9 J 10 K 11 L 12 M 13 N 14 O 15 P);
