//! Which build of a view is active, as far as this process knows, and for how long the process may rely on that.
//!
//! All instances that share a store must agree: otherwise a user who queries one instance after another could see an
//! older state. A request to the store with each query would ensure that, and cost each query a round trip. Instead,
//! the store's answer is valid for [`LEASE`], and a switch is announced more than a lease ([`NOTICE`]) before it
//! happens. By then each instance has read the announcement, and from then on it asks the store before each answer.
//! This needs no agreement on the time of day, only clocks that run at about the same rate.

use std::time::Duration;

use tokio::{
    sync::{Mutex, watch},
    time::Instant,
};

use crate::{
    base::store_error::StoreError,
    port::any_views::AnyViews,
    projector::builds::{self, Builds, Version},
};

/// For how long an instance relies on the store's answer about the active build.
const LEASE: Duration = Duration::from_secs(2);

/// How long before a switch it is announced: a lease, and a margin for clocks that run at different rates.
pub(crate) const NOTICE: Duration = Duration::from_millis(2_200);

/// How long the store may take to answer which build is active.
const ANSWER: Duration = Duration::from_secs(10);

/// The record of this program's version of the view, as it was read last.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    pub(super) noted: Version,
    /// When the store was asked; `None` before the first time.
    asked: Option<Instant>,
    /// When the current attempt to switch was first seen.
    announced: Option<Instant>,
}

impl Known {
    /// When all instances know of the current attempt to switch.
    pub(super) fn everybody_knows(&self) -> Instant {
        self.announced.map_or_else(Instant::now, |announced| announced + NOTICE)
    }

    /// Whether the record may be used at `now` without asking the store.
    fn holds(&self, now: Instant) -> bool {
        let is_recent = self.asked.is_some_and(|asked| now.saturating_duration_since(asked) < LEASE);
        is_recent && self.noted.switching.is_none()
    }

    fn was_asked_after(&self, now: Instant) -> bool {
        self.asked.is_some_and(|asked| asked > now)
    }

    fn after(&self, noted: Version, asked: Instant) -> Self {
        let same = self.noted.switching == noted.switching;
        let seen = || noted.switching.map(|_| Instant::now());
        let announced = if same { self.announced.or_else(seen) } else { seen() };
        Self { noted, asked: Some(asked), announced }
    }
}

/// The record of one view in its store, and what this process knows of it.
pub(crate) struct Answering {
    views: AnyViews,
    view: &'static str,
    version: u32,
    /// Held during a request to the store, so that answers are taken in the order in which the store gave them.
    asking: Mutex<()>,
    known: watch::Sender<Known>,
}

impl Answering {
    pub(super) fn new(views: AnyViews, view: &'static str, version: u32) -> Self {
        let known = watch::Sender::new(Known::default());
        Self { views, view, version, asking: Mutex::default(), known }
    }

    /// The known record, as it changes.
    pub(super) fn watch(&self) -> watch::Receiver<Known> {
        self.known.subscribe()
    }

    pub(super) fn now(&self) -> Known {
        self.known.borrow().clone()
    }

    /// The build that answers a query which arrives now; `None` while no build is active.
    pub(super) async fn build(&self) -> Result<Option<u32>, StoreError> {
        let now = Instant::now();
        if !self.known.borrow().holds(now) {
            let _asking = self.asking.lock().await;
            // Another query may have asked since.
            if !self.known.borrow().was_asked_after(now) {
                self.ask().await?;
            }
        }
        Ok(self.known.borrow().noted.active)
    }

    /// Reads the record from the store.
    pub(super) async fn look(&self) -> Result<Known, StoreError> {
        let _asking = self.asking.lock().await;
        self.ask().await
    }

    /// Changes the record with compare-and-set.
    pub(super) async fn change(&self, change: impl Fn(&mut Builds)) -> Result<Known, StoreError> {
        let _asking = self.asking.lock().await;
        let asked = Instant::now();
        let changed = self.in_time(builds::change(&self.views, self.view, change)).await?;
        Ok(self.take(&changed, asked))
    }

    async fn ask(&self) -> Result<Known, StoreError> {
        let asked = Instant::now();
        let (noted, _) = self.in_time(builds::read(&self.views, self.view)).await?;
        Ok(self.take(&noted, asked))
    }

    fn take(&self, noted: &Builds, asked: Instant) -> Known {
        let noted = noted.version(self.version).unwrap_or_default();
        let known = self.known.borrow().after(noted, asked);
        self.known.send_replace(known.clone());
        known
    }

    /// Bounds a request: a request that hangs must not block the others for ever.
    async fn in_time<T>(&self, asking: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let late =
            |error| StoreError::unavailable(format!("reading which build of {} answers", self.view), error);
        tokio::time::timeout(ANSWER, asking).await.map_err(late)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::views::MemoryViews;

    async fn begun() -> (AnyViews, [Answering; 2]) {
        let views = AnyViews::new(MemoryViews::default());
        let instance = || Answering::new(views.clone(), "view", 1);
        let instances = [instance(), instance()];
        for instance in &instances {
            instance.change(|builds| builds.begin(1)).await.expect("a note");
        }
        (views, instances)
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_answers_from_the_old_build_once_somebody_answers_from_the_new_one() {
        let (_views, [one, other]) = begun().await;
        one.change(|builds| builds.rebuild(1, 2)).await.expect("a note");
        assert_eq!(other.build().await.expect("a build"), Some(1));
        let known = one.change(|builds| builds.announce_switch(1, 2)).await.expect("a note");
        tokio::time::sleep_until(known.everybody_knows()).await;
        // It has seen the announcement, and the switch comes right after.
        assert_eq!(other.build().await.expect("a build"), Some(1));
        one.change(|builds| builds.switch(1, 2, Some(1))).await.expect("a note");
        assert_eq!(one.build().await.expect("a build"), Some(2));
        assert_eq!(other.build().await.expect("a build"), Some(2));
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_store_said_lately_is_not_asked_again() {
        let (views, [one, other]) = begun().await;
        other.change(|builds| builds.rebuild(1, 2)).await.expect("a note");
        let (noted, revision) = builds::read(&views, "view").await.expect("a note");
        assert_eq!(noted.version(1).map(|version| version.next()), Some(2));
        assert_eq!(one.build().await.expect("a build"), Some(1));
        assert_eq!(one.now().noted.building, None, "it was not asked");
        tokio::time::sleep(LEASE).await;
        assert_eq!(one.build().await.expect("a build"), Some(1));
        assert_eq!(one.now().noted.building, Some(2), "it was asked");
        assert_eq!(builds::read(&views, "view").await.expect("a note").1, revision);
    }
}
