//! The stream of a bounded context: its required settings, its creation, and the check of an existing one.

use async_nats::jetstream::stream::{Config, DiscardPolicy, Republish, RetentionPolicy, StorageType};
use cqrs_core::port::Source;
use serde::Deserialize;

use crate::{
    client::{
        api::Api,
        connection::{Connection, NoAnswer},
        errors, layout,
        settings::{Difference, list},
        stream::NotOpened,
    },
    wire::{
        names::{BadName, Bucket, Names},
        subject::{MOST_SLICES, Subjects},
    },
};

/// How many consumers the stream allows. The server's own default is 1,000, but it does not show it.
const MAX_CONSUMERS: i32 = 1_000;

/// The names and settings of a bounded context's storage.
///
/// ```
/// use cqrs_nats::Topology;
///
/// let topology = Topology::new("orders").replicas(3);
/// assert_eq!(topology.stream(), "ORDERS");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    names: Names,
    source: String,
    replicas: usize,
    memory: bool,
    notices: bool,
}

impl Topology {
    /// The context `name`: one replica on disk, in a stream of the same name in capitals. A context's name consists of
    /// `a-z`, `0-9`, `_` and `-`, without two `_` in a row and none at the end.
    pub fn new(name: impl Into<String>) -> Self {
        let context: String = name.into();
        let source = format!("/{context}");
        Self { names: Names::new(context), source, replicas: 1, memory: false, notices: false }
    }

    /// The stream's name.
    pub fn stream(&self) -> &str {
        self.names.stream()
    }

    /// The context's public log in place of its events: its announcements for other contexts, in a stream of its own
    /// with `__PUBLIC` at the end of its name, on subjects `<context>.public.<aggregate>.<id>`. See
    /// [`Nats::public_log`](crate::Nats::public_log).
    pub fn public(mut self) -> Self {
        self.names = self.names.public();
        self
    }

    /// Divides the log into so many slices: a power of two up to 1,024. By default there is one, and subjects do not
    /// name it. With more, the slice of an aggregate is a token of its subject,
    /// `<context>.event.<slice>.<aggregate>.<id>`: a hash of the aggregate's name and id, which [`wire`](crate::wire)
    /// defines. So a consumer can read some slices of a log. The projectors of this framework read all of them.
    ///
    /// The number is fixed when the stream is created, because aggregates are found by their subjects. A stream with
    /// another number is refused. What slices cost is in the guide [`scale`](crate::guide::scale#slices).
    ///
    /// ```
    /// use cqrs_nats::Topology;
    ///
    /// let topology = Topology::new("orders").slices(64);
    /// ```
    pub fn slices(mut self, slices: u16) -> Self {
        self.names = self.names.sliced(slices);
        self
    }

    /// Gives the stream another name. The stream of another context is refused, because its subjects differ.
    pub fn named(mut self, stream: impl Into<String>) -> Self {
        self.names = self.names.named(stream.into());
        self
    }

    /// The CloudEvents `source` of the events, a URI or the path of one; `/<context>` by default.
    pub fn source(mut self, source: impl Into<String>) -> Self {
        self.source = source.into();
        self
    }

    /// The number of replicas in a cluster: 1, 3 or 5.
    pub fn replicas(mut self, replicas: usize) -> Self {
        self.replicas = replicas;
        self
    }

    /// Keeps events and views in the servers' memory: they are lost when the servers stop. For tests.
    pub fn in_memory(mut self) -> Self {
        self.memory = true;
        self
    }

    /// Announces stored commits on core NATS, on `<context>.notice.<aggregate>.<id>` (with the
    /// slice before the aggregate if there are [`slices`](Self::slices)), to the current listeners; see
    /// [`Notices`](cqrs_core::port::Notices). It is a setting of the stream, so an operator must first change an
    /// existing stream.
    pub fn notices(mut self) -> Self {
        self.notices = true;
        self
    }

    pub(crate) fn has_notices(&self) -> bool {
        self.notices
    }

    /// Whether a read from any replica may be stale.
    pub(crate) fn is_replicated(&self) -> bool {
        self.replicas > 1
    }

    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    /// The prefix of the subjects of its commits.
    pub(crate) fn log(&self) -> &str {
        self.names.log()
    }

    pub(crate) fn subjects(&self) -> &Subjects {
        self.names.subjects()
    }

    pub(crate) fn context(&self) -> &str {
        self.names.context()
    }

    pub(crate) fn source_name(&self) -> &str {
        &self.source
    }

    pub(crate) fn is_in_memory(&self) -> bool {
        self.memory
    }

    pub(crate) fn storage(&self) -> StorageType {
        if self.memory { StorageType::Memory } else { StorageType::File }
    }

    pub(crate) fn replica_count(&self) -> usize {
        self.replicas
    }

    pub(crate) fn not_opened(&self, why: NotOpened) -> TopologyError {
        let stream = self.stream().to_owned();
        match why {
            NotOpened::NoAnswer(why) => self.unanswered(why),
            NotOpened::Unknown(failure) | NotOpened::NotRead(failure) => {
                self.unavailable(failure.into_source())
            }
            NotOpened::NotListening(error) => self.unavailable(Source::new(error)),
            NotOpened::NotCreated(failure) => match failure.code().and_then(errors::quota) {
                Some(advice) => TopologyError::Full { stream, advice, source: failure.into_source() },
                None => TopologyError::NotCreated { stream, source: failure.into_source() },
            },
            NotOpened::Differs(differences) => TopologyError::Drift { stream, differences },
            NotOpened::Layout(found) => TopologyError::Layout { stream, found },
            NotOpened::Slices { found, wanted } => TopologyError::Slices { stream, found, wanted },
        }
    }

    /// The stream's name with the time of its creation, as the server writes it: it distinguishes this stream from a
    /// later one of the same name.
    pub(crate) async fn log_id(&self, connection: &Connection) -> Result<String, TopologyError> {
        #[derive(Deserialize)]
        struct Info {
            created: String,
        }
        let answer = connection.ask(&connection.reads, Api::StreamInfo, self.stream(), &()).await;
        match answer.map_err(|why| self.unanswered(why))? {
            Ok(Info { created }) => Ok(format!("{}@{created}", self.stream())),
            Err(failure) => Err(self.unavailable(failure.into_source())),
        }
    }

    fn unanswered(&self, why: NoAnswer) -> TopologyError {
        match why {
            NoAnswer::NotPermitted(permission) => {
                TopologyError::NotPermitted { stream: self.stream().to_owned(), permission }
            }
            NoAnswer::Lost => self.unavailable(Source::new(why)),
        }
    }

    fn unavailable(&self, source: Source) -> TopologyError {
        TopologyError::Unavailable { stream: self.stream().to_owned(), source }
    }

    /// Checks what was chosen, before a server is asked.
    pub(crate) fn check_names(&self) -> Result<(), TopologyError> {
        if let Err(BadName { what, name, legal }) = self.names.check() {
            return Err(TopologyError::Name { what, name: name.to_owned(), legal });
        }
        let legal = |b: u8| b.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&b);
        if self.source.is_empty() || !self.source.bytes().all(legal) {
            let legal = "the characters of a URI";
            return Err(TopologyError::Name { what: "source", name: self.source.clone(), legal });
        }
        let slices = self.subjects().slices();
        if !Subjects::can_be(slices) {
            return Err(TopologyError::SliceCount { slices });
        }
        Ok(())
    }

    pub(crate) fn config(&self) -> Config {
        Config {
            name: self.stream().to_owned(),
            description: Some(format!("commits on {}", self.log())),
            subjects: vec![self.subjects().of_stream()],
            retention: RetentionPolicy::Limits,
            // The default policy drops the oldest events when a limit is reached.
            discard: DiscardPolicy::New,
            storage: self.storage(),
            num_replicas: self.replicas,
            max_consumers: MAX_CONSUMERS,
            max_messages: -1,
            max_bytes: -1,
            max_messages_per_subject: -1,
            deny_delete: true,
            deny_purge: true,
            allow_direct: true,
            metadata: layout::of_log(self.context(), self.names.purpose(), self.subjects().slices()),
            republish: self.notices.then(|| Republish {
                source: format!("{}.>", self.log()),
                destination: format!("{}.>", self.names.notices()),
                headers_only: false,
            }),
            ..Config::default()
        }
    }
    /// The settings of a bucket beside the log.
    pub(crate) fn bucket_config(&self, bucket: &Bucket, purpose: &str, description: String) -> Config {
        Config {
            name: bucket.stream.clone(),
            description: Some(description),
            subjects: vec![format!("{}>", bucket.prefix)],
            max_messages_per_subject: 1,
            max_messages: -1,
            max_bytes: -1,
            storage: self.storage(),
            num_replicas: self.replicas,
            // These settings make a stream a bucket for every key-value client.
            discard: DiscardPolicy::New,
            allow_rollup: true,
            deny_delete: true,
            allow_direct: true,
            metadata: layout::metadata(self.context(), purpose),
            ..Config::default()
        }
    }
}

/// Why a context cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TopologyError {
    /// A name cannot be used.
    #[error("{what} {name:?} is not made of {legal}")]
    Name {
        /// The kind of name.
        what: &'static str,
        /// The name.
        name: String,
        /// The characters that it may have.
        legal: &'static str,
    },
    /// The stream exists with settings under which events could be lost or not found.
    #[error(
        "stream {stream} is not set up as its events need it: {}; change the stream, or use another name",
        list(differences)
    )]
    Drift {
        /// The stream.
        stream: String,
        /// The differences.
        differences: Vec<Difference>,
    },
    /// The stream has another layout, or does not say which it has.
    #[error("{}", layout::refused(stream, found.as_deref()))]
    Layout {
        /// The stream.
        stream: String,
        /// The layout that its metadata names.
        found: Option<String>,
    },
    /// A log cannot have this number of slices.
    #[error("{slices} is no number of slices: it is a power of two from 1 to {MOST_SLICES}")]
    SliceCount {
        /// The number.
        slices: u16,
    },
    /// The stream has another number of slices, which cannot be changed: its aggregates are found by their slices.
    #[error("{}", layout::other_slices(stream, found, wanted))]
    Slices {
        /// The stream.
        stream: String,
        /// The number that its metadata names.
        found: String,
        /// The number of the topology.
        wanted: String,
    },
    /// No other stream can be created: a limit of the account or the server is reached.
    #[error("there is no room for stream {stream}: {advice}")]
    Full {
        /// The stream.
        stream: String,
        /// Which limit to raise.
        advice: &'static str,
        /// The client's error.
        source: Source,
    },
    /// The service lacks a permission.
    #[error("opening stream {stream} needs the permission to {permission}: grant it to the service's user")]
    NotPermitted {
        /// The stream.
        stream: String,
        /// The permission that is missing.
        permission: String,
    },
    /// The server did not create the stream.
    #[error("stream {stream} cannot be created")]
    NotCreated {
        /// The stream.
        stream: String,
        /// The client's error.
        source: Source,
    },
    /// The server did not answer about the stream.
    #[error("the server does not answer about stream {stream}")]
    Unavailable {
        /// The stream.
        stream: String,
        /// The client's error.
        source: Source,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_is_no_uri_is_refused() {
        for source in ["", "two words", "/caf\u{e9}", "\"quoted\""] {
            let topology = Topology::new("orders").source(source);
            assert!(matches!(topology.check_names(), Err(TopologyError::Name { .. })), "{source:?}");
        }
        assert!(Topology::new("orders").source("https://example.com/orders").check_names().is_ok());
    }

    #[test]
    fn a_number_of_slices_that_cannot_be_is_refused() {
        for slices in [0, 3, 12, 1_000, 2_048, u16::MAX] {
            let error = Topology::new("orders").slices(slices).check_names().unwrap_err();
            assert!(matches!(error, TopologyError::SliceCount { slices: found } if found == slices));
            let text = format!("{slices} is no number of slices: it is a power of two from 1 to 1024");
            assert_eq!(error.to_string(), text);
        }
        assert!(Topology::new("orders").slices(1_024).check_names().is_ok());
    }

    #[test]
    fn slices_stay_whatever_is_chosen_after_them() {
        let topology = Topology::new("orders").slices(8).public().named("OTHER");
        assert_eq!(topology, Topology::new("orders").named("OTHER").public().slices(8));
        assert_eq!(topology.config().subjects, ["orders.public.*.*.*"]);
        assert_eq!(topology.config().metadata["cqrs.slices"], "8");
    }
}
