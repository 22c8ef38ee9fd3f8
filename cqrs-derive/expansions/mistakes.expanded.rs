::core::compile_error! {
    "unknown option `prefx`, did you mean `prefix`? Expected here: `codec`, `crate`, `prefix` or `schema`"
}
#[automatically_derived]
impl ::cqrs_core::Event for OrderEvent {
    const TYPES: &'static [::cqrs_core::model::EventType] = &[];
    fn event_type(&self) -> ::cqrs_core::model::EventType {
        ::core::unreachable!()
    }
    fn serialize_data<__S>(&self, _: __S) -> ::core::result::Result<__S::Ok, __S::Error>
    where
        __S: ::cqrs_core::__private::serde::Serializer,
    {
        ::core::unreachable!()
    }
    fn deserialize_data<'__de, __D>(
        _: ::cqrs_core::model::EventType,
        _: __D,
    ) -> ::core::result::Result<Self, __D::Error>
    where
        __D: ::cqrs_core::__private::serde::Deserializer<'__de>,
    {
        ::core::unreachable!()
    }
}
::core::compile_error! {
    "`commands` takes types in parentheses: `commands(One, Another)`"
}
#[automatically_derived]
impl ::cqrs_core::Aggregate for Order {
    const NAME: &'static str = "order";
    type Id = OrderId;
    type Event = OrderEvent;
    type Rejection = [(); ::core::compile_error!(
        "missing `rejection = SomeType`: why it refuses a command"
    )];
}
::core::compile_error! {
    "`crate` takes a path: `crate = some::path`"
}
#[automatically_derived]
impl ::cqrs_core::Command for PayOrder {
    const NAMES: &'static [&'static str] = &["pay_order"];
    type Aggregate = [(); ::core::compile_error!(
        "`aggregate` takes a type: `aggregate = SomeType`"
    )];
    fn aggregate_id(
        &self,
    ) -> &<[(); ::core::compile_error!(
        "`aggregate` takes a type: `aggregate = SomeType`"
    )] as ::cqrs_core::Aggregate>::Id {
        ::core::compile_error!(
            "missing `#[command(id)]` on the field that holds the aggregate's id: `order`"
        )
    }
    fn serialize_fields<__S: ::cqrs_core::__private::serde::Serializer>(
        &self,
        serializer: __S,
    ) -> ::core::result::Result<__S::Ok, __S::Error> {
        ::core::unreachable!()
    }
    fn deserialize_fields<
        '__de,
        __D: ::cqrs_core::__private::serde::Deserializer<'__de>,
    >(_: &str, fields: __D) -> ::core::result::Result<Self, __D::Error> {
        ::core::unreachable!()
    }
}
::core::compile_error! {
    "a query owns its data and cannot have a lifetime parameter"
}
::core::compile_error! {
    "missing `answer = SomeType`: what the answer is"
}
::core::compile_error! {
    "unknown option `keys`: expected `key`"
}
