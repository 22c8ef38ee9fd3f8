//! The id of an aggregate as its own type, read back from its text.

use std::{any::type_name, str::FromStr};

use crate::{
    base::id::{AggregateKey, with_text},
    model::aggregate::Aggregate,
};

impl AggregateKey {
    /// The id as the type of ids of `A`, if it can be read back: the key is one of `A`, and the id displays as the same
    /// text again. Otherwise the id would belong to another aggregate: `007` is no id of an aggregate whose ids are
    /// numbers, since `7` is another one.
    ///
    /// ```
    /// # use cqrs_core::{Aggregate, AggregateKey, Apply, Event};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Debug, Clone, Serialize, Deserialize, Event)]
    /// # #[event(name = "order.paid")]
    /// # struct Paid;
    /// # #[derive(Debug, thiserror::Error)]
    /// # enum Never {}
    /// # #[derive(Default, Clone, Aggregate)]
    /// # #[aggregate(id = u32, event = Paid, rejection = Never)]
    /// # struct Order;
    /// # impl Apply<Paid> for Order { fn apply(&mut self, _: &Paid) {} }
    /// let key = AggregateKey::new("order", "7")?;
    /// assert_eq!(key.id_of::<Order>()?, 7_u32);
    ///
    /// for (name, id) in [("order", "007"), ("order", "seven"), ("offer", "7")] {
    ///     assert!(AggregateKey::new(name, id)?.id_of::<Order>().is_err());
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ForeignId`].
    pub fn id_of<A>(&self) -> Result<A::Id, ForeignId>
    where
        A: Aggregate<Id: FromStr>,
    {
        if self.name() != A::NAME {
            return Err(ForeignId::AnotherType { aggregate: self.clone(), expected: A::NAME });
        }
        let id = self.id().parse::<A::Id>().ok();
        let same = id.filter(|id| with_text(id, |text| text == self.id()));
        same.ok_or_else(|| ForeignId::Text { aggregate: self.clone(), id_type: type_name::<A::Id>() })
    }
}

/// The id of an aggregate is none of the expected type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForeignId {
    /// The aggregate has another type.
    #[error("{aggregate} is no aggregate of type {expected}")]
    AnotherType {
        /// The aggregate.
        aggregate: AggregateKey,
        /// The stored name of the expected type.
        expected: &'static str,
    },
    /// The text of the id is not what an id of this type displays.
    #[error("the id of {aggregate} is not the text of a {id_type}")]
    Text {
        /// The aggregate.
        aggregate: AggregateKey,
        /// The type of the ids.
        id_type: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use cqrs_derive::{Aggregate, Event};
    use serde::{Deserialize, Serialize};
    use uuid::Uuid;

    use super::*;
    use crate::model::aggregate::Apply;

    #[derive(Debug, Clone, Serialize, Deserialize, Event)]
    #[event(crate = crate, name = "sale.closed")]
    struct Closed;

    macro_rules! aggregate {
        ($name:ident $stored:literal $id:ty) => {
            #[derive(Default, Clone, Aggregate)]
            #[aggregate(crate = crate, name = $stored, id = $id, event = Closed, rejection = std::convert::Infallible)]
            struct $name;
            impl Apply<Closed> for $name {
                fn apply(&mut self, _: &Closed) {}
            }
        };
    }

    aggregate!(Numbered "numbered" u32);
    aggregate!(Named "named" String);
    aggregate!(Unique "unique" Uuid);

    fn key(name: &'static str, id: &str) -> AggregateKey {
        AggregateKey::new(name, id).unwrap()
    }

    #[test]
    fn an_id_is_read_back_if_it_displays_as_the_same_text() {
        assert_eq!(key("numbered", "7").id_of::<Numbered>(), Ok(7));
        assert_eq!(key("numbered", "4294967295").id_of::<Numbered>(), Ok(u32::MAX));
        for text in ["007", "+7", "", " 7", "7.0", "4294967296", "-1", "seven"] {
            let foreign = key("numbered", text).id_of::<Numbered>().unwrap_err();
            assert_eq!(foreign, ForeignId::Text { aggregate: key("numbered", text), id_type: "u32" });
        }
        for text in ["", "007", " a\r\n", "é"] {
            assert_eq!(key("named", text).id_of::<Named>(), Ok(text.to_owned()));
        }
        let id = "6f4c51a0-7b1e-4f53-9c55-0d3a52be8e17";
        assert_eq!(key("unique", id).id_of::<Unique>(), Ok(id.parse().unwrap()));
        assert!(key("unique", &id.to_uppercase()).id_of::<Unique>().is_err());
    }

    #[test]
    fn an_aggregate_of_another_type_has_no_such_id() {
        let foreign = key("named", "7").id_of::<Numbered>().unwrap_err();
        assert_eq!(foreign, ForeignId::AnotherType { aggregate: key("named", "7"), expected: "numbered" });
        assert_eq!(foreign.to_string(), "named/7 is no aggregate of type numbered");
        let foreign = key("numbered", "007").id_of::<Numbered>().unwrap_err();
        assert_eq!(foreign.to_string(), "the id of numbered/007 is not the text of a u32");
    }
}
