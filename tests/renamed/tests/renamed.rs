//! The derives' output works under another name of the crate.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use cqrs_renamed::{Already, GetUsage, LampBroken, Light, LightCommand, LightEvent, Switch, Usage};
use renamed::{
    Aggregate, Answer, Command, Context, Event, Handle, Lifecycle, Query,
    model::{CommandVisitor, EventType, replay},
};

fn round_trip<E: Event>(event: &E) -> E {
    let data = event.serialize_data(serde_json::value::Serializer).unwrap();
    E::deserialize_data(event.event_type(), data).unwrap()
}

struct Count(usize);

impl CommandVisitor<Light> for Count {
    fn command<C>(&mut self)
    where
        C: Command<Aggregate = Light>,
        Light: Handle<C>,
    {
        self.0 += 1;
    }
}

fn assert_answers<V: Answer<Q>, Q: Query<View = V>>() {}

#[test]
fn all_four_derives_work_under_another_name() {
    let event = LightEvent::Switched { on: true };
    assert_eq!(round_trip(&event), event);
    assert_eq!(round_trip(&LampBroken { hours: 3 }), LampBroken { hours: 3 });
    assert_eq!(LightEvent::TYPES, [EventType::new("light.switched", 1)]);

    let mut count = Count(0);
    Light::visit_commands(&mut count);
    assert_eq!(count.0, 2);

    let command = Switch { light: 4, on: true };
    assert_eq!(Switch::NAMES, ["switch"]);
    assert_eq!((command.lifecycle(), command.aggregate_id()), (Lifecycle::Upsert, &4));
    let context = Context::new(renamed::CommandId::derived(["4"]), "1970-01-01T00:00:00Z".parse().unwrap());
    assert_eq!(replay::<Light>(&[event]).handle(&command, &context), Err(Already));

    assert_eq!(LightCommand::NAMES, ["install_light", "remove_light"]);
    let remove = LightCommand::Remove { light: 4 };
    assert_eq!(
        (remove.name(), remove.lifecycle(), remove.aggregate_id()),
        ("remove_light", Lifecycle::Update, &4)
    );
    let fields = remove.serialize_fields(serde_json::value::Serializer).unwrap();
    assert_eq!(LightCommand::deserialize_fields("remove_light", fields).unwrap(), remove);

    assert_eq!(GetUsage::NAME, "get_usage");
    assert_answers::<Usage, GetUsage>();
}
