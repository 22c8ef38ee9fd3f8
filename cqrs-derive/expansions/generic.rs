#[derive(Debug, Clone, Serialize, Deserialize, Event)]
#[event(prefix = "link")]
enum LinkEvent<Id, const MARKS: usize>
where
    Id: Clone,
{
    Added { to: Id },
    Marked,
}

#[derive(Debug, Default, Clone, Aggregate)]
#[aggregate(id = Id, event = LinkEvent<Id, 1>, rejection = No, commands(AddLink<Id>))]
struct Linked<Id: LinkId> {
    links: Vec<Id>,
}

#[derive(Debug, Serialize, Deserialize, Command)]
#[command(aggregate = Linked<Id>, upsert)]
struct AddLink<Id: LinkId> {
    #[command(id)]
    from: Id,
    to: Id,
}

#[derive(Debug, Query)]
#[query(view = Links, answer = Option<Links>)]
struct GetLinks<Id>(#[query(key)] Id);
