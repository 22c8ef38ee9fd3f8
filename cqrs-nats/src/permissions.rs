//! The permissions that a service's user needs, and no others.

use std::fmt;

use cqrs_core::port::ProjectionId;

use crate::{
    client::api::{Api, Domain, acknowledgments, advisories},
    topology::Topology,
    wire::names::{Bucket, Names},
};

/// The subjects that a service's user must be allowed to publish and subscribe to, in the format of the server's
/// configuration.
///
/// The first set is for commands and traces. Add the sets for the other parts of the service:
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
/// No line may be removed: without it something fails, and the error or the log names the line. The lines that create a
/// stream (`STREAM.CREATE`) are not needed if an operator has created it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permissions {
    names: Names,
    domain: Domain,
    publish: Vec<String>,
    subscribe: Vec<String>,
}

impl Topology {
    /// The permissions of a service's user whose inboxes are beneath `inbox`; see
    /// [`Connect::inbox_prefix`](crate::Connect::inbox_prefix).
    pub fn permissions(&self, inbox: &str) -> Permissions {
        self.permissions_in(Domain::own(), inbox)
    }

    /// The same for a user of another JetStream domain, which the service reaches through a leaf node; see
    /// [`Connect::domain`](crate::Connect::domain).
    ///
    /// ```
    /// use cqrs_nats::Topology;
    ///
    /// let permissions = Topology::new("orders").permissions_in_domain("hub", "_INBOX.orders");
    /// assert!(permissions.publish().contains(&"$JS.hub.API.STREAM.INFO.ORDERS".to_owned()));
    /// ```
    pub fn permissions_in_domain(&self, domain: &str, inbox: &str) -> Permissions {
        self.permissions_in(Domain::named(domain.to_owned()), inbox)
    }

    fn permissions_in(&self, domain: Domain, inbox: &str) -> Permissions {
        let (names, stream) = (self.names().clone(), self.stream());
        let asked = [Api::StreamInfo, Api::StreamCreate, Api::MessageGet, Api::DirectGet];
        let own = [Api::ConsumerCreate, Api::ConsumerNext, Api::ConsumerDelete];
        let mut publish = vec![format!("{}.>", names.log()), domain.info()];
        publish.extend(asked.map(|api| api.of(&domain, stream)));
        publish.extend(own.map(|api| api.of(&domain, format_args!("{stream}.*"))));
        Permissions { names, domain, publish, subscribe: vec![format!("{inbox}.>"), advisories(stream)] }
    }
}

impl Permissions {
    /// Adds the permissions for a view, a policy or a handler whose progress is kept in buckets: for one build of one
    /// version.
    pub fn projection(mut self, id: &ProjectionId) -> Self {
        let (stream, domain) = (self.names.stream(), &self.domain);
        let asked = [Api::StreamInfo, Api::StreamCreate, Api::MessageGet, Api::DirectGet];
        let consumer = [Api::ConsumerInfo, Api::ConsumerUnpin];
        let mut lines: Vec<String> = consumer.map(|api| api.of(domain, format_args!("{stream}.*"))).into();
        lines.push(acknowledgments(format_args!("{stream}.>")));
        lines.extend(bucket(domain, &self.names.views_bucket(), &asked[..3]));
        let own = self.names.bucket(id);
        lines.extend(bucket(domain, &own, &asked));
        lines.push(Api::ConsumerCreate.of(domain, format_args!("{}.>", own.stream)));
        let consumer = [Api::ConsumerNext, Api::ConsumerDelete];
        lines.extend(consumer.map(|api| api.of(domain, format_args!("{}.*", own.stream))));
        self.add(lines);
        self
    }

    /// Adds the permission to remove a build that no program uses any more.
    pub fn removal(mut self, id: &ProjectionId) -> Self {
        let line = Api::StreamDelete.of(&self.domain, self.names.bucket(id).stream);
        self.add(vec![line]);
        self
    }

    /// Adds the permissions for aggregates with snapshots.
    pub fn snapshots(mut self) -> Self {
        let own = self.names.snapshots_bucket();
        let mut lines: Vec<String> = bucket(&self.domain, &own, &[Api::StreamCreate]).collect();
        lines.push(Api::DirectGet.of(&self.domain, format_args!("{}.>", own.stream)));
        self.add(lines);
        self
    }

    /// Adds the permissions for policies, beside those of every projection.
    pub fn deadlines(mut self) -> Self {
        let (stream, domain) = (self.names.deadlines_stream(), &self.domain);
        let mut lines = vec![format!("{}.>", self.names.deadlines())];
        let asked = [Api::StreamInfo, Api::StreamCreate, Api::MessageGet, Api::StreamPurge];
        lines.extend(asked.map(|api| api.of(domain, &stream)));
        let consumer =
            [(Api::ConsumerInfo, "due"), (Api::ConsumerCreate, "due.>"), (Api::ConsumerNext, "due")];
        lines.extend(consumer.map(|(api, name)| api.of(domain, format_args!("{stream}.{name}"))));
        lines.push(acknowledgments(format_args!("{stream}.>")));
        self.add(lines);
        self
    }

    /// Adds the permissions for listeners to notices.
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

/// The subjects to write into a bucket, and to send these requests about it.
fn bucket(domain: &Domain, bucket: &Bucket, asked: &[Api]) -> impl Iterator<Item = String> {
    let asked = asked.iter().map(|api| api.of(domain, &bucket.stream));
    std::iter::once(domain.key_value(format!("{}>", bucket.prefix))).chain(asked)
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
        let guide = include_str!("../docs/operate.md");
        assert!(guide.contains(&block), "{block}");
    }
}
