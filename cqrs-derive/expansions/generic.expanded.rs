#[automatically_derived]
impl<Id, const MARKS: usize> ::cqrs_core::Event for LinkEvent<Id, MARKS>
where
    Id: Clone,
    Self: ::cqrs_core::__private::serde::Serialize,
    Self: ::cqrs_core::__private::serde::de::DeserializeOwned,
    Self: ::core::marker::Send + ::core::marker::Sync + 'static,
{
    const TYPES: &'static [::cqrs_core::model::EventType] = &[
        ::cqrs_core::model::EventType::new("link.added", 1),
        ::cqrs_core::model::EventType::new("link.marked", 1),
    ];
    fn event_type(&self) -> ::cqrs_core::model::EventType {
        match self {
            Self::Added { .. } => ::cqrs_core::model::EventType::new("link.added", 1),
            Self::Marked { .. } => ::cqrs_core::model::EventType::new("link.marked", 1),
        }
    }
    fn is_plain(&self) -> bool {
        #[allow(unused_imports)]
        use ::cqrs_core::__private::OfAnyType as _;
        match self {
            Self::Added { .. } => <::cqrs_core::__private::Field<Id>>::IS_PLAIN,
            Self::Marked { .. } => true,
        }
    }
    fn serialize_data<__S>(
        &self,
        serializer: __S,
    ) -> ::core::result::Result<__S::Ok, __S::Error>
    where
        __S: ::cqrs_core::__private::serde::Serializer,
    {
        ::cqrs_core::__private::AsEvent::write_variant(self, serializer)
    }
    fn deserialize_data<'__de, __D>(
        event_type: ::cqrs_core::model::EventType,
        data: __D,
    ) -> ::core::result::Result<Self, __D::Error>
    where
        __D: ::cqrs_core::__private::serde::Deserializer<'__de>,
    {
        match (event_type.name, event_type.version) {
            ("link.added", 1) => ::cqrs_core::__private::AsEvent::read_variant(0, data),
            ("link.marked", 1) => ::cqrs_core::__private::AsEvent::read_variant(1, data),
            (name, version) => {
                ::core::result::Result::Err(
                    ::cqrs_core::__private::serde::de::Error::custom(
                        ::core::format_args!(
                            "`{}` in version {} is not a stored type of `LinkEvent`",
                            name, version
                        ),
                    ),
                )
            }
        }
    }
}
#[automatically_derived]
impl<
    Id,
    const MARKS: usize,
> ::cqrs_core::__private::Stored<::cqrs_core::__private::AsEvent>
for LinkEvent<Id, MARKS>
where
    Id: Clone,
    Self: ::cqrs_core::__private::serde::Serialize,
    Self: ::cqrs_core::__private::serde::de::DeserializeOwned,
{
    type This = LinkEvent<Id, MARKS>;
}
#[automatically_derived]
impl<Id: LinkId> ::cqrs_core::Aggregate for Linked<Id>
where
    Self: ::cqrs_core::Apply<LinkEvent<Id, 1>> + ::core::default::Default
        + ::core::clone::Clone,
    Self: ::core::marker::Send + ::core::marker::Sync + 'static,
    Id: ::core::fmt::Display + ::core::marker::Send + ::core::marker::Sync,
    LinkEvent<Id, 1>: ::cqrs_core::Event,
    No: ::core::error::Error + ::core::marker::Send + ::core::marker::Sync + 'static,
{
    const NAME: &'static str = "linked";
    type Id = Id;
    type Event = LinkEvent<Id, 1>;
    type Rejection = No;
    fn visit_commands<__V: ::cqrs_core::model::CommandVisitor<Self>>(visitor: &mut __V) {
        visitor.command::<AddLink<Id>>();
    }
}
#[automatically_derived]
#[allow(deprecated)]
impl<Id: LinkId> ::cqrs_core::model::Lists<AddLink<Id>> for Linked<Id> {}
#[automatically_derived]
impl<Id: LinkId> ::cqrs_core::Command for AddLink<Id>
where
    Self: ::cqrs_core::__private::serde::Serialize,
    Self: ::cqrs_core::__private::serde::de::DeserializeOwned,
    Self: ::core::marker::Send + ::core::marker::Sync + 'static,
    Linked<Id>: ::cqrs_core::Aggregate<Id = Id>,
{
    const NAMES: &'static [&'static str] = &["add_link"];
    type Aggregate = Linked<Id>;
    fn aggregate_id(&self) -> &<Linked<Id> as ::cqrs_core::Aggregate>::Id {
        ::cqrs_core::__private::aggregate_id::<Self, Id>(&self.from)
    }
    fn lifecycle(&self) -> ::cqrs_core::Lifecycle {
        ::cqrs_core::Lifecycle::Upsert
    }
    fn serialize_fields<__S: ::cqrs_core::__private::serde::Serializer>(
        &self,
        serializer: __S,
    ) -> ::core::result::Result<__S::Ok, __S::Error> {
        ::cqrs_core::__private::AsCommand::write(self, serializer)
    }
    fn deserialize_fields<
        '__de,
        __D: ::cqrs_core::__private::serde::Deserializer<'__de>,
    >(_: &str, fields: __D) -> ::core::result::Result<Self, __D::Error> {
        ::cqrs_core::__private::AsCommand::read(fields)
    }
}
#[automatically_derived]
impl<Id: LinkId> ::cqrs_core::__private::Stored<::cqrs_core::__private::AsCommand>
for AddLink<Id>
where
    Self: ::cqrs_core::__private::serde::Serialize,
    Self: ::cqrs_core::__private::serde::de::DeserializeOwned,
{
    type This = AddLink<Id>;
}
#[automatically_derived]
impl<Id> ::cqrs_core::Query for GetLinks<Id>
where
    Self: ::core::marker::Send + ::core::marker::Sync + 'static,
    Links: ::cqrs_core::View,
    Option<Links>: ::core::marker::Send,
{
    const NAME: &'static str = "get_links";
    type View = Links;
    type Answer = Option<Links>;
}
#[automatically_derived]
impl<Id> ::cqrs_core::Answer<GetLinks<Id>> for Links
where
    GetLinks<Id>: ::core::marker::Send + ::core::marker::Sync + 'static,
    Links: ::cqrs_core::View,
    Option<
        Links,
    >: ::core::convert::From<::core::option::Option<Links>> + ::core::marker::Send,
    Id: ::core::fmt::Display,
{
    async fn answer(
        query: GetLinks<Id>,
        reader: &<Self as ::cqrs_core::read_models::ReadModels>::Reader,
    ) -> ::core::result::Result<Option<Links>, ::cqrs_core::Error> {
        let key: ::std::string::String = ::cqrs_core::__private::document_key::<
            Id,
        >(&query.0);
        let document = ::cqrs_core::__private::document_of::<Self>(reader, &key).await?;
        ::core::result::Result::Ok(document.answer::<Option<Links>>())
    }
}
