//! The permissions that a service's user needs, and no others.

use std::fmt;

use cqrs_core::port::ProjectionId;

use crate::{
    client::api::{Api, INFO, acknowledgments, advisories},
    topology::Topology,
    wire::names::{Bucket, Names},
};

/// What the user of a service must be allowed to publish and to subscribe to, as the server's configuration has it.
///
/// It begins with what commands need, and traces of what came of them. The rest is added for what the service has:
///
/// ```
/// use cqrs_core::port::ProjectionId;
/// use cqrs_nats::Topology;
///
/// let permissions = Topology::new("orders").permissions("_INBOX.orders").projection(&ProjectionId::new("summary", 1));
/// println!("{{ user: orders, password: $ORDERS, {permissions} }}");
/// # assert!(permissions.to_string().contains("$KV.orders__summary-v1.>"));
/// ```
///
/// Nothing may be taken away: without any of its lines something fails, and the error or the log names the line. What
/// creates a stream (`STREAM.CREATE`) can be left out where an operator has created it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permissions {
    names: Names,
    publish: Vec<String>,
    subscribe: Vec<String>,
}

impl Topology {
    /// The permissions that the user of a service needs whose inboxes are beneath `inbox`; see
    /// [`Connect::inbox_prefix`](crate::Connect::inbox_prefix).
    pub fn permissions(&self, inbox: &str) -> Permissions {
        let (names, stream) = (self.names().clone(), self.stream());
        let asked = [Api::StreamInfo, Api::StreamCreate, Api::MessageGet, Api::DirectGet];
        let own = [Api::ConsumerCreate, Api::ConsumerNext, Api::ConsumerDelete];
        let mut publish = vec![format!("{}.>", names.log()), INFO.to_owned()];
        publish.extend(asked.map(|api| api.of(stream)));
        publish.extend(own.map(|api| api.of(format_args!("{stream}.*"))));
        Permissions { names, publish, subscribe: vec![format!("{inbox}.>"), advisories(stream)] }
    }
}

impl Permissions {
    /// With what a view, a policy or a handler needs whose progress is kept in buckets: one build of one version.
    pub fn projection(mut self, id: &ProjectionId) -> Self {
        let stream = self.names.stream();
        let asked = [Api::StreamInfo, Api::StreamCreate, Api::MessageGet, Api::DirectGet];
        let consumer = [Api::ConsumerInfo, Api::ConsumerUnpin];
        let mut lines: Vec<String> = consumer.map(|api| api.of(format_args!("{stream}.*"))).into();
        lines.push(acknowledgments(format_args!("{stream}.>")));
        lines.extend(bucket(&self.names.views_bucket(), &asked[..3]));
        let own = self.names.bucket(id);
        lines.extend(bucket(&own, &asked));
        lines.push(Api::ConsumerCreate.of(format_args!("{}.>", own.stream)));
        let consumer = [Api::ConsumerNext, Api::ConsumerDelete];
        lines.extend(consumer.map(|api| api.of(format_args!("{}.*", own.stream))));
        self.add(lines);
        self
    }

    /// With what removes a build that nobody answers from any more.
    pub fn removal(mut self, id: &ProjectionId) -> Self {
        let line = Api::StreamDelete.of(self.names.bucket(id).stream);
        self.add(vec![line]);
        self
    }

    /// With what aggregates need that keep snapshots.
    pub fn snapshots(mut self) -> Self {
        let own = self.names.snapshots_bucket();
        let mut lines: Vec<String> = bucket(&own, &[Api::StreamCreate]).collect();
        lines.push(Api::DirectGet.of(format_args!("{}.>", own.stream)));
        self.add(lines);
        self
    }

    /// With what policies need beside what every projection does.
    pub fn deadlines(mut self) -> Self {
        let stream = self.names.deadlines_stream();
        let mut lines = vec![format!("{}.>", self.names.deadlines())];
        let asked = [Api::StreamInfo, Api::StreamCreate, Api::MessageGet, Api::StreamPurge];
        lines.extend(asked.map(|api| api.of(&stream)));
        let consumer =
            [(Api::ConsumerInfo, "due"), (Api::ConsumerCreate, "due.>"), (Api::ConsumerNext, "due")];
        lines.extend(consumer.map(|(api, name)| api.of(format_args!("{stream}.{name}"))));
        lines.push(acknowledgments(format_args!("{stream}.>")));
        self.add(lines);
        self
    }

    /// With what those need who listen to notices.
    pub fn notices(mut self) -> Self {
        self.subscribe.push(format!("{}.>", self.names.notices()));
        self
    }

    /// The subjects to publish to.
    pub fn publish(&self) -> &[String] {
        &self.publish
    }

    /// The subjects to subscribe to.
    pub fn subscribe(&self) -> &[String] {
        &self.subscribe
    }

    fn add(&mut self, lines: Vec<String>) {
        for line in lines {
            if !self.publish.contains(&line) {
                self.publish.push(line);
            }
        }
    }
}

/// What writes into a bucket, and what these questions about it are asked on.
fn bucket(bucket: &Bucket, asked: &[Api]) -> impl Iterator<Item = String> {
    let asked = asked.iter().map(|api| api.of(&bucket.stream));
    std::iter::once(format!("{}>", bucket.prefix)).chain(asked)
}

impl fmt::Display for Permissions {
    /// A block of the server's configuration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |lines: &[String]| lines.iter().map(|line| format!("{line:?}")).collect::<Vec<_>>();
        writeln!(f, "permissions: {{\n    publish: [")?;
        for line in quoted(&self.publish) {
            writeln!(f, "        {line}")?;
        }
        write!(f, "    ]\n    subscribe: [ {} ]\n}}", quoted(&self.subscribe).join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guide_has_them() {
        let permissions = Topology::new("orders").permissions("_INBOX.orders");
        let permissions = permissions.projection(&ProjectionId::new("order-summary", 1));
        let block = permissions.snapshots().deadlines().notices().to_string();
        let guide = include_str!("../docs/commands.md");
        assert!(guide.contains(&block), "{block}");
    }
}
