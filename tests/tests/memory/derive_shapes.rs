//! The inputs that the derives accept, and their effect.

// The output must pass under lints that users set.
#![deny(missing_docs, unused_qualifications, clippy::pedantic)]

use cqrs_core::{
    Aggregate, Answer, Apply, Command, Context, Documents, Envelope, Error, Event, Handle, Handled,
    Lifecycle, Project, Query, View,
    model::{Codec, CommandVisitor, EventType, Snapshots, replay},
};
use serde::{Deserialize, Serialize};

/// What the log would keep of `event`.
fn payload(event: &impl Event) -> String {
    let mut json = Vec::new();
    event.serialize_data(&mut serde_json::Serializer::new(&mut json)).unwrap();
    String::from_utf8(json).unwrap()
}

fn read<E: Event>(name: &'static str, version: u32, json: &str) -> serde_json::Result<E> {
    E::deserialize_data(EventType::new(name, version), &mut serde_json::Deserializer::from_str(json))
}

/// The event is stored under `name` with the payload `json`, and read back as it was.
fn assert_stored<E: Event + PartialEq + std::fmt::Debug>(event: &E, name: &'static str, json: &str) {
    assert_eq!(event.event_type().name, name);
    assert_eq!(payload(event), json);
    assert_eq!(&read::<E>(name, event.event_type().version, json).unwrap(), event);
}

/// Collects the names of commands.
struct Names(Vec<&'static str>);

impl<A: Aggregate> CommandVisitor<A> for Names {
    fn command<C>(&mut self)
    where
        C: Command<Aggregate = A>,
        A: Handle<C>,
    {
        self.0.extend(C::NAMES);
    }
}

/// The names of an aggregate's public commands.
fn commands<A: Aggregate>() -> Vec<&'static str> {
    let mut names = Names(Vec::new());
    A::visit_commands(&mut names);
    names.0
}

/// The names of an aggregate's internal commands.
fn internal_commands<A: Aggregate>() -> Vec<&'static str> {
    let mut names = Names(Vec::new());
    A::visit_internal_commands(&mut names);
    names.0
}

#[derive(Debug, thiserror::Error)]
#[error("no")]
struct No;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
#[event(prefix = "shop.order")]
#[serde(rename_all = "SCREAMING_SNAKE_CASE", rename_all_fields = "camelCase")]
enum Fact {
    LineAdded {
        product_id: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
    Paid(u64),
    Moved(i8, i8),
    Shipped,
    #[event(name = "order.closed", version = 3, upcast(2 = OldClosed, 1 = bool), aliases("order.shut"), retired)]
    HTTPClosed,
    r#Type {
        r#type: bool,
    },
}

/// How an order was closed in version 2.
#[derive(Deserialize)]
struct OldClosed {
    secure: bool,
}

impl From<bool> for OldClosed {
    fn from(secure: bool) -> Self {
        Self { secure }
    }
}

impl From<OldClosed> for Fact {
    fn from(old: OldClosed) -> Self {
        if old.secure { Self::HTTPClosed } else { Self::Shipped }
    }
}

#[test]
fn older_versions_and_names_become_the_newest() {
    for name in ["order.closed", "order.shut"] {
        assert_eq!(read::<Fact>(name, 1, "true").unwrap(), Fact::HTTPClosed);
        assert_eq!(read::<Fact>(name, 1, "false").unwrap(), Fact::Shipped);
        assert_eq!(read::<Fact>(name, 2, r#"{"secure":true}"#).unwrap(), Fact::HTTPClosed);
        assert_eq!(read::<Fact>(name, 3, "{}").unwrap(), Fact::HTTPClosed);
        for unknown in [0, 4] {
            let error = read::<Fact>(name, unknown, "{}").unwrap_err().to_string();
            let expected = format!("`{name}` in version {unknown} is not a stored type of `Fact`");
            assert!(error.contains(&expected), "{error}");
        }
    }
    let old = read::<Point>("point.reached", 1, "[4,5]").unwrap();
    assert_eq!(old, Point { x: 4, y: 5 });
}

#[test]
fn only_what_is_marked_is_retired() {
    assert!(Fact::HTTPClosed.is_retired());
    assert!(!Fact::Shipped.is_retired() && !Braces {}.is_retired());
}

#[test]
fn variants_of_every_shape_are_stored_and_read_back() {
    let line = Fact::LineAdded { product_id: 7, note: None };
    assert_stored(&line, "shop.order.line_added", r#"{"productId":7}"#);
    assert_stored(&Fact::Paid(5), "shop.order.paid", "5");
    assert_stored(&Fact::Moved(1, -1), "shop.order.moved", "[1,-1]");
    assert_stored(&Fact::Shipped, "shop.order.shipped", "{}");
    assert_stored(&Fact::HTTPClosed, "order.closed", "{}");
    assert_stored(&Fact::Type { r#type: true }, "shop.order.type", r#"{"type":true}"#);
}

#[test]
fn types_are_listed_in_the_order_of_the_variants() {
    let types: Vec<_> = Fact::TYPES.iter().map(|stored| (stored.name, stored.version)).collect();
    let expected = [
        ("shop.order.line_added", 1),
        ("shop.order.paid", 1),
        ("shop.order.moved", 1),
        ("shop.order.shipped", 1),
        ("order.closed", 3),
        ("order.closed", 2),
        ("order.closed", 1),
        ("order.shut", 3),
        ("order.shut", 2),
        ("order.shut", 1),
        ("shop.order.type", 1),
    ];
    assert_eq!(types, expected);
}

#[test]
fn a_name_that_is_not_the_types_is_an_error() {
    let error = read::<Fact>("shop.order.lost", 1, "{}").unwrap_err().to_string();
    assert!(error.contains("`shop.order.lost` in version 1 is not a stored type of `Fact`"), "{error}");
    let error = read::<Point>("shop.order.lost", 1, "{}").unwrap_err().to_string();
    assert!(error.contains("`shop.order.lost` in version 1 is not a stored type of `Point`"), "{error}");
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
#[event(name = "point.reached", version = 2, upcast(1 = (i32, i32)), codec = bincode)]
struct Point {
    x: i32,
    y: i32,
}

impl From<(i32, i32)> for Point {
    fn from((x, y): (i32, i32)) -> Self {
        Self { x, y }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
#[event(name = "named")]
struct Named(String);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
#[event(name = "pair")]
struct Pair(u8, u8);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
#[event(name = "braces")]
struct Braces {}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
#[event(name = "unit")]
struct Unit;

#[test]
fn structs_are_events() {
    assert_stored(&Braces {}, "braces", "{}");
    assert_stored(&Unit, "unit", "null");
    assert_stored(&Point { x: 1, y: 2 }, "point.reached", r#"{"x":1,"y":2}"#);
    assert_stored(&Named("a".to_owned()), "named", r#""a""#);
    assert_stored(&Pair(1, 2), "pair", "[1,2]");
    assert_eq!(Point::TYPES, [EventType::new("point.reached", 2), EventType::new("point.reached", 1)]);
    assert_eq!((Point::CODEC, Named::CODEC), (Codec::Bincode, Codec::Json));
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
enum EachNamed {
    #[event(name = "a.b-c_1")]
    First,
    #[event(name = "second")]
    Second,
}

#[test]
fn no_prefix_is_needed_when_every_variant_has_a_name() {
    assert_stored(&EachNamed::First, "a.b-c_1", "{}");
    assert_eq!(EachNamed::Second.event_type(), EventType::new("second", 1));
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
#[event(prefix = "serde")]
enum WithSerde {
    #[serde(rename = "flat", alias = "even")]
    Flat {
        id: u8,
        #[serde(flatten)]
        rest: std::collections::BTreeMap<String, u8>,
    },
    #[serde(with = "text")]
    Text(u16),
    Nested(#[serde(with = "text")] u16),
}

mod text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for this signature")]
    pub(crate) fn serialize<S: Serializer>(number: &u16, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(number)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(Error::custom)
    }
}

#[test]
fn what_serde_does_to_variants_and_fields_it_does_here() {
    let flat = WithSerde::Flat { id: 1, rest: [("more".to_owned(), 2)].into() };
    assert_stored(&flat, "serde.flat", r#"{"id":1,"more":2}"#);
    assert_stored(&WithSerde::Text(5), "serde.text", r#""5""#);
    assert_stored(&WithSerde::Nested(6), "serde.nested", r#""6""#);
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
#[event(prefix = "link")]
enum LinkEvent<Id, const MARKS: usize>
where
    Id: Clone,
{
    Added { to: Id },
    Removed(Vec<Id>),
    Marked,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
#[event(name = "wrapped")]
struct Wrapped<T>(T);

#[test]
fn generic_events_are_stored_and_read_back() {
    assert_stored(&LinkEvent::<_, 2>::Added { to: 1_u8 }, "link.added", r#"{"to":1}"#);
    assert_stored(&LinkEvent::<_, 2>::Removed(vec!["a".to_owned()]), "link.removed", r#"["a"]"#);
    assert_stored(&LinkEvent::<u8, 2>::Marked, "link.marked", "{}");
    assert_stored(&Wrapped(Some(7_u8)), "wrapped", "7");
}

mod ids {
    pub(crate) type Number = u32;
}

/// The default name, aliases and paths for types, and a state that is an enum.
#[derive(Debug, Default, Clone, PartialEq, Aggregate)]
#[aggregate(id = ids::Number, event = Fact, rejection = Box<No>, commands(Open, Pay), internal(Close))]
enum WebOrder {
    #[default]
    New,
    Paid(u64),
}

impl Apply<Fact> for WebOrder {
    fn apply(&mut self, event: &Fact) {
        if let Fact::Paid(amount) = event {
            *self = Self::Paid(*amount);
        }
    }
}

#[derive(Debug, Serialize, Deserialize, Command)]
#[command(aggregate = WebOrder, create)]
struct Open {
    #[command(id)]
    order: u32,
    #[allow(dead_code)]
    customer: String,
}

#[derive(Debug, Serialize, Deserialize, Command)]
#[command(aggregate = WebOrder)]
struct Pay(u64, #[command(id)] ids::Number);

#[derive(Debug, Serialize, Deserialize, Command)]
#[command(upsert)]
#[command(aggregate = WebOrder, name = "close-order")]
struct Close {
    #[command(id)]
    r#type: u32,
}

macro_rules! handle {
    ($($command:ty),+ => $aggregate:ty) => {$(
        impl Handle<$command> for $aggregate {
            fn handle(&self, _: &$command, _: &Context) -> Handled<Self> {
                Ok(cqrs_core::Events::none())
            }
        }
    )+};
}

handle!(Open, Pay, Close => WebOrder);

#[test]
fn an_aggregate_knows_its_name_and_its_commands() {
    assert_eq!(WebOrder::NAME, "web_order");
    assert_eq!(commands::<WebOrder>(), ["open", "pay"]);
    assert_eq!(internal_commands::<WebOrder>(), ["close-order"]);
    assert_eq!(replay::<WebOrder>(&[Fact::Shipped, Fact::Paid(3)]), WebOrder::Paid(3));
}

#[derive(Debug, Default, Clone, Serialize, Deserialize, Aggregate)]
#[aggregate(id = u32, event = Fact, rejection = No, snapshot(every = 4_294_967_295, version = 3))]
struct Kept {
    paid: u64,
}

impl Apply<Fact> for Kept {
    fn apply(&mut self, _: &Fact) {}
}

#[derive(Debug, Default, Clone, Serialize, Deserialize, Aggregate)]
#[aggregate(id = u32, event = Fact, rejection = No)]
#[aggregate(snapshot(every = 1))]
struct KeptAlways<T>(T);

impl<T> Apply<Fact> for KeptAlways<T> {
    fn apply(&mut self, _: &Fact) {}
}

#[test]
fn an_aggregate_says_how_its_snapshots_are_kept() {
    let said = |snapshots: Option<Snapshots<_>>| format!("{:?}", snapshots.unwrap());
    assert!(said(Kept::snapshots()).ends_with("every: 4294967295, version: 3, .. }"));
    let always = format!("{:?}", KeptAlways::<String>::snapshots().unwrap());
    assert!(always.ends_with("every: 1, version: 1, .. }"), "{always}");
    assert!(WebOrder::snapshots().is_none());
}

#[test]
fn a_command_knows_its_lifecycle_and_its_aggregate() {
    fn of<C: Command<Aggregate = WebOrder>>(command: &C) -> (&'static str, Lifecycle, u32) {
        (command.name(), command.lifecycle(), *command.aggregate_id())
    }
    let open = Open { order: 1, customer: "ANNA".to_owned() };
    assert_eq!(of(&open), ("open", Lifecycle::Create, 1));
    assert_eq!(of(&Pay(100, 2)), ("pay", Lifecycle::Update, 2));
    assert_eq!(of(&Close { r#type: 3 }), ("close-order", Lifecycle::Upsert, 3));
}

/// The requirements on an id; the bound is on the type, so that every impl may rely on it.
trait LinkId:
    std::fmt::Display + Clone + Send + Sync + Serialize + serde::de::DeserializeOwned + 'static
{
}

impl LinkId for String {}

#[derive(Debug, Clone, Aggregate)]
#[aggregate(name = "linked", id = Id, event = LinkEvent<Id, 1>, rejection = No, commands(AddLink<Id>))]
struct Linked<Id: LinkId> {
    links: Vec<Id>,
}

impl<Id: LinkId> Default for Linked<Id> {
    fn default() -> Self {
        Self { links: Vec::new() }
    }
}

impl<Id: LinkId> Apply<LinkEvent<Id, 1>> for Linked<Id> {
    fn apply(&mut self, event: &LinkEvent<Id, 1>) {
        if let LinkEvent::Added { to } = event {
            self.links.push(to.clone());
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize, Command)]
#[command(aggregate = Linked<Id>, upsert)]
#[serde(bound = "")]
struct AddLink<Id: LinkId> {
    #[command(id)]
    from: Id,
    to: Id,
}

impl<Id: LinkId> Handle<AddLink<Id>> for Linked<Id> {
    fn handle(&self, command: &AddLink<Id>, _: &Context) -> Handled<Self> {
        Ok(LinkEvent::Added { to: command.to.clone() }.into())
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Command)]
#[command(aggregate = Linked<Id>, suffix = "link")]
#[serde(bound = "")]
enum LinkCommand<Id: LinkId, const TIMES: usize> {
    #[command(upsert)]
    Follow {
        #[command(id)]
        from: Id,
    },
    Cut(Vec<Id>, #[command(id)] Id),
}

#[test]
fn generic_enums_of_commands_work() {
    let cut = LinkCommand::<String, 2>::Cut(vec!["b".to_owned()], "a".to_owned());
    assert_eq!(
        (cut.name(), cut.lifecycle(), cut.aggregate_id().as_str()),
        ("cut_link", Lifecycle::Update, "a")
    );
    let fields = cut.serialize_fields(serde_json::value::Serializer).unwrap();
    assert_eq!(fields, serde_json::json!([["b"], "a"]));
    assert_eq!(LinkCommand::deserialize_fields("cut_link", fields).unwrap(), cut);
}

#[test]
fn generic_aggregates_and_commands_work() {
    let command = AddLink { from: "a".to_owned(), to: "b".to_owned() };
    let context = Context::new(cqrs_core::CommandId::derived(["a"]), "1970-01-01T00:00:00Z".parse().unwrap());
    let events = Linked::<String>::default().handle(&command, &context).unwrap();
    let linked = replay::<Linked<String>>(&events);
    assert_eq!(linked.links, ["b"]);
    assert_eq!(command.aggregate_id(), "a");
    assert_eq!(commands::<Linked<String>>(), ["add_link"]);
}

#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
struct Summary {
    paid: u64,
}

impl View for Summary {
    const NAME: &'static str = "summary";
    type Of = WebOrder;
}

impl Project<Fact> for Summary {
    fn key(_: &Envelope<Fact>) -> Option<String> {
        None
    }

    fn project(&mut self, _: &Envelope<Fact>) {}
}

/// The documents `a` and `7`.
fn stored() -> Documents<Summary> {
    Documents::of([("a", Summary { paid: 1 }), ("7", Summary { paid: 2 })]).unwrap()
}

#[derive(Debug, Query)]
#[query(view = Summary, answer = Option<Summary>)]
struct GetSummary {
    #[query(key)]
    order: u32,
}

#[derive(Debug, PartialEq)]
struct Paid(Option<u64>);

impl From<Option<Summary>> for Paid {
    fn from(summary: Option<Summary>) -> Self {
        Self(summary.map(|summary| summary.paid))
    }
}

#[derive(Debug, Query)]
#[query(view = Summary, answer = Paid, name = "how-much")]
struct GetPaid<Key>(#[query(key)] Key, #[allow(dead_code)] bool);

#[derive(Debug, Query)]
#[query(view = Summary, answer = std::collections::BTreeMap<String, Summary>)]
struct Everything;

impl Answer<Everything> for Summary {
    async fn answer(
        _: Everything,
        documents: &Documents<Self>,
    ) -> Result<std::collections::BTreeMap<String, Self>, Error> {
        Ok(documents.all().await?.into_iter().collect())
    }
}

#[tokio::test]
async fn a_query_with_a_key_is_answered_by_its_document() {
    assert_eq!(GetSummary::NAME, "get_summary");
    let found = Summary::answer(GetSummary { order: 7 }, &stored()).await.unwrap();
    assert_eq!(found, Some(Summary { paid: 2 }));
    let none = Summary::answer(GetSummary { order: 8 }, &stored()).await.unwrap();
    assert_eq!(none, None);
}

#[tokio::test]
async fn an_answer_is_whatever_can_be_made_from_the_document() {
    assert_eq!(GetPaid::<String>::NAME, "how-much");
    assert_eq!(Summary::answer(GetPaid("a", true), &stored()).await.unwrap(), Paid(Some(1)));
    assert_eq!(Summary::answer(GetPaid('b', true), &stored()).await.unwrap(), Paid(None));
}

#[tokio::test]
async fn a_query_without_a_key_is_answered_by_the_view() {
    assert_eq!(Summary::answer(Everything, &stored()).await.unwrap().len(), 2);
}

/// Every name that the output might rely on has another meaning here.
mod shadowed {
    #![allow(dead_code, non_camel_case_types)]

    mod core {}
    mod std {}
    mod serde {}
    mod cqrs_core {}

    struct Option;
    struct Result;
    struct String;
    struct Vec;
    struct Box;
    struct Some;
    struct None;
    struct Ok;
    struct Err;
    struct EventType;
    struct Serializer;
    trait Default {}
    trait Clone {}
    trait Send {}
    trait Sync {}
    trait From {}
    trait Into {}
    trait ToString {}
    trait Serialize {}
    trait Deserialize {}
    trait Event {}
    trait Aggregate {}
    trait Command {}
    trait Query {}

    #[derive(
        ::core::fmt::Debug,
        ::core::cmp::PartialEq,
        ::serde::Serialize,
        ::serde::Deserialize,
        ::cqrs_core::Event,
    )]
    #[event(prefix = "shadow")]
    pub(super) enum Fact {
        Seen { who: u8 },
        Gone,
    }

    #[derive(
        ::core::fmt::Debug,
        ::core::cmp::PartialEq,
        ::serde::Serialize,
        ::serde::Deserialize,
        ::cqrs_core::Event,
    )]
    #[event(name = "shadow")]
    pub(super) struct Shadow {
        pub(super) who: u8,
    }

    #[derive(::core::default::Default, ::core::clone::Clone, ::cqrs_core::Aggregate)]
    #[aggregate(id = u8, event = Fact, rejection = super::No, commands(Look))]
    pub(super) struct State;

    impl ::cqrs_core::Apply<Fact> for State {
        fn apply(&mut self, _: &Fact) {}
    }

    #[derive(::serde::Serialize, ::serde::Deserialize, ::cqrs_core::Command)]
    #[command(aggregate = State, create)]
    pub(super) struct Look {
        #[command(id)]
        who: u8,
    }

    #[derive(::cqrs_core::Query)]
    #[query(view = super::Summary, answer = super::Paid)]
    pub(super) struct Ask {
        #[query(key)]
        pub(super) who: u8,
    }
}

handle!(shadowed::Look => shadowed::State);

#[tokio::test]
async fn the_output_does_not_depend_on_names_in_scope() {
    assert_stored(&shadowed::Fact::Seen { who: 1 }, "shadow.seen", r#"{"who":1}"#);
    assert_stored(&shadowed::Fact::Gone, "shadow.gone", "{}");
    assert_stored(&shadowed::Shadow { who: 1 }, "shadow", r#"{"who":1}"#);
    assert_eq!(commands::<shadowed::State>(), ["look"]);
    assert_eq!(Summary::answer(shadowed::Ask { who: 7 }, &stored()).await.unwrap(), Paid(Some(2)));
}

/// Types that come out of macros, with types and names that went into them.
macro_rules! declare {
    ($aggregate:ident, $event:ident($prefix:literal), $command:ident, $query:ident, $id:ty, $answer:ty) => {
        #[derive(Debug, PartialEq, Serialize, Deserialize, Event)]
        #[event(prefix = $prefix)]
        enum $event {
            Happened { inside: bool },
        }

        #[derive(Default, Clone, Aggregate)]
        #[aggregate(id = $id, event = $event, rejection = No, commands($command))]
        struct $aggregate;

        impl Apply<$event> for $aggregate {
            fn apply(&mut self, _: &$event) {}
        }

        #[derive(Serialize, Deserialize, Command)]
        #[command(aggregate = $aggregate)]
        struct $command {
            #[command(id)]
            inside: $id,
        }

        handle!($command => $aggregate);

        #[derive(Query)]
        #[query(view = Summary, answer = $answer)]
        struct $query {
            #[query(key)]
            inside: $id,
        }
    };
}

declare!(Declared, DeclaredEvent("declared"), Declare, GetDeclared, u64, Option<Summary>);

#[tokio::test]
async fn types_from_macros_work() {
    assert_stored(&DeclaredEvent::Happened { inside: true }, "declared.happened", r#"{"inside":true}"#);
    assert_eq!(commands::<Declared>(), ["declare"]);
    assert_eq!(Declare { inside: 9 }.aggregate_id(), &9);
    assert!(Summary::answer(GetDeclared { inside: 7 }, &stored()).await.unwrap().is_some());
}

/// The output does not use deprecated items.
mod deprecated {
    #![deny(deprecated)]
    #![allow(dead_code, reason = "only what the derives write is of interest")]

    #[derive(serde::Serialize, serde::Deserialize, cqrs_core::Event)]
    #[event(prefix = "old")]
    pub(super) enum Fact {
        #[deprecated]
        Old {
            #[deprecated]
            field: u8,
        },
        New,
    }

    #[deprecated]
    #[derive(serde::Serialize, serde::Deserialize, cqrs_core::Command)]
    #[command(aggregate = super::WebOrder)]
    pub(super) struct Old {
        #[deprecated]
        #[command(id)]
        order: u32,
    }

    #[derive(serde::Serialize, serde::Deserialize, cqrs_core::Command)]
    #[command(aggregate = super::WebOrder)]
    pub(super) enum Commands {
        #[deprecated]
        Gone {
            #[deprecated]
            #[command(id)]
            order: u32,
        },
        Here(#[command(id)] u32),
    }

    #[deprecated]
    #[derive(cqrs_core::Query)]
    #[query(view = super::Summary, answer = super::Paid)]
    pub(super) struct Ask {
        #[deprecated]
        #[query(key)]
        order: u32,
    }
}

#[test]
fn what_is_deprecated_can_still_be_read() {
    assert_eq!(
        read::<deprecated::Fact>("old.old", 1, r#"{"field":1}"#).unwrap().event_type().name,
        "old.old"
    );
    assert_eq!(deprecated::Fact::New.event_type().name, "old.new");
}

/// `crate = …` takes a path or a string.
mod elsewhere {
    pub(crate) use cqrs_core as framework;

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize, framework::Event)]
    #[event(prefix = "elsewhere", crate = crate::derive_shapes::elsewhere::framework)]
    pub(super) enum ByPath {
        Happened,
    }

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize, framework::Event)]
    #[event(prefix = "elsewhere", crate = "self::framework")]
    pub(super) enum ByString {
        Happened,
    }
}

#[test]
fn the_framework_can_be_elsewhere() {
    assert_stored(&elsewhere::ByPath::Happened, "elsewhere.happened", "{}");
    assert_stored(&elsewhere::ByString::Happened, "elsewhere.happened", "{}");
}
