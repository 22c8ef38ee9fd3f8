//! The builds of a view (blue/green rebuild): the active one, which answers queries, and one in progress.
//!
//! The record of them is in the view store, and shared by all instances of the service.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    base::store_error::StoreError,
    encoding::json,
    port::{
        any_views::AnyViews,
        view_store::{SaveError, ViewStore},
    },
};

/// The builds of all versions of one view.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Builds {
    versions: BTreeMap<u32, Version>,
}

/// The builds of one version.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Version {
    /// The build that answers queries; `None` while the first build of a changed view is in progress.
    pub(crate) active: Option<u32>,
    /// The build in progress, which will replace the active one.
    pub(crate) building: Option<u32>,
    /// The number of the last build.
    last: u32,
    /// The attempt to switch that is in progress. Meanwhile no instance answers a query before it has read this record.
    #[serde(default)]
    pub(crate) switching: Option<u32>,
    /// The number of the last attempt.
    #[serde(default)]
    attempts: u32,
    /// Builds that were abandoned. Each instance removes what it may have written to them.
    #[serde(default)]
    pub(crate) given_up: Vec<u32>,
}

impl Version {
    /// The build in progress, or else the number that the next build will have.
    pub(crate) fn next(&self) -> u32 {
        self.building.unwrap_or(self.last + 1)
    }

    /// Whether a build is active or in progress.
    pub(crate) fn has_builds(&self) -> bool {
        self.active.is_some() || self.building.is_some()
    }
}

impl Builds {
    pub(crate) fn version(&self, version: u32) -> Option<Version> {
        self.versions.get(&version).cloned()
    }

    /// The other versions in the record.
    pub(crate) fn others(&self, version: u32) -> Vec<u32> {
        self.versions.keys().copied().filter(|other| *other != version).collect()
    }

    /// Adds the first build of a version. If the view is new, the build is active at once; else when it has caught up.
    pub(crate) fn begin(&mut self, version: u32) {
        let is_new = self.versions.is_empty();
        let of_version = self.versions.entry(version).or_default();
        if of_version.has_builds() {
            return;
        }
        of_version.last += 1;
        let first = Some(of_version.last);
        if is_new {
            of_version.active = first;
        } else {
            of_version.building = first;
        }
    }

    /// Puts the build with that number in progress, if it is the next one and no other is in progress.
    pub(crate) fn rebuild(&mut self, version: u32, build: u32) {
        let version = self.versions.entry(version).or_default();
        if version.building.is_none() && version.last + 1 == build {
            version.last = build;
            version.building = Some(build);
        }
    }

    /// Announces that the build in progress is about to become active, unless that was announced.
    pub(crate) fn announce_switch(&mut self, version: u32, build: u32) {
        if let Some(version) = self.building(version, build).filter(|version| version.switching.is_none()) {
            version.attempts += 1;
            version.switching = Some(version.attempts);
        }
    }

    /// Makes the build in progress the active one, if `attempt` is the current attempt to switch. If no build was
    /// active before, there is no attempt.
    pub(crate) fn switch(&mut self, version: u32, build: u32, attempt: Option<u32>) {
        if let Some(version) = self.building(version, build) {
            let announced = version.switching == attempt;
            if announced && (attempt.is_some() || version.active.is_none()) {
                version.active = Some(build);
                (version.building, version.switching) = (None, None);
            }
        }
    }

    /// Ends the attempt to switch without success.
    pub(crate) fn withdraw_switch(&mut self, version: u32, attempt: u32) {
        if let Some(version) = self.versions.get_mut(&version)
            && version.switching == Some(attempt)
        {
            version.switching = None;
        }
    }

    /// Abandons the build in progress.
    pub(crate) fn abandon(&mut self, version: u32, build: u32) {
        if let Some(version) = self.building(version, build) {
            (version.building, version.switching) = (None, None);
            version.given_up.push(build);
        }
    }

    fn building(&mut self, version: u32, build: u32) -> Option<&mut Version> {
        self.versions.get_mut(&version).filter(|version| version.building == Some(build))
    }

    /// The builds of a version that are neither active nor in progress.
    pub(crate) fn old(&self, version: u32) -> Vec<u32> {
        let Some(version) = self.version(version) else { return Vec::new() };
        let in_use = |build: &u32| Some(*build) == version.active || Some(*build) == version.building;
        (1..=version.last).filter(|build| !in_use(build)).collect()
    }

    /// Removes a version that no program uses any more, and returns its builds.
    pub(crate) fn forget(&mut self, version: u32) -> Vec<u32> {
        self.versions.remove(&version).map_or_else(Vec::new, |version| (1..=version.last).collect())
    }
}

/// The record of the view, with its revision.
pub(crate) async fn read(views: &AnyViews, view: &str) -> Result<(Builds, u64), StoreError> {
    let saved = views.about(view).await?;
    let builds = match &saved.document {
        None => Builds::default(),
        Some(content) => json::decode(content).map_err(|error| bad(view, &error))?,
    };
    Ok((builds, saved.revision))
}

/// Changes the record of the view with compare-and-set, and repeats the change after a conflict.
pub(crate) async fn change(
    views: &AnyViews,
    view: &str,
    change: impl Fn(&mut Builds),
) -> Result<Builds, StoreError> {
    loop {
        let (before, revision) = read(views, view).await?;
        let mut after = before.clone();
        change(&mut after);
        if after == before {
            return Ok(after);
        }
        let unwritable =
            |error| StoreError::refused(format!("the builds of {view} cannot be written"), error);
        let content: Bytes = json::encode(&after).map_err(unwritable)?;
        match views.set_about(view, content, revision).await {
            Ok(_) => return Ok(after),
            Err(SaveError::Conflict) => {}
            Err(SaveError::Failed(error)) => return Err(error),
        }
    }
}

fn bad(view: &str, error: &serde_json::Error) -> StoreError {
    StoreError::BadDocument { view: view.into(), key: "builds".into(), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(builds: &Builds, version: u32) -> Option<(Option<u32>, Option<u32>)> {
        builds.version(version).map(|version| (version.active, version.building))
    }

    #[test]
    fn a_new_view_answers_at_once_and_a_changed_one_when_it_is_built() {
        let mut builds = Builds::default();
        builds.begin(1);
        assert_eq!(of(&builds, 1), Some((Some(1), None)));
        builds.begin(2);
        builds.begin(2);
        assert_eq!(of(&builds, 2), Some((None, Some(1))));
        assert_eq!(builds.others(2), [1]);
        builds.switch(2, 1, None);
        assert_eq!(of(&builds, 2), Some((Some(1), None)));
        assert_eq!(of(&builds, 1), Some((Some(1), None)));
        assert_eq!(builds.forget(1), [1]);
        assert_eq!(builds.others(2), [0; 0]);
    }

    #[test]
    fn a_rebuild_goes_on_until_it_takes_over() {
        let mut builds = Builds::default();
        builds.begin(1);
        builds.rebuild(1, 2);
        builds.rebuild(1, 3);
        assert_eq!(of(&builds, 1), Some((Some(1), Some(2))));
        assert_eq!(builds.old(1), [0; 0]);
        builds.announce_switch(1, 7);
        builds.switch(1, 2, None);
        builds.switch(1, 2, Some(1));
        assert_eq!(of(&builds, 1), Some((Some(1), Some(2))), "it was not announced");
        builds.announce_switch(1, 2);
        builds.switch(1, 2, Some(1));
        assert_eq!(of(&builds, 1), Some((Some(2), None)));
        assert_eq!(builds.old(1), [1]);
        builds.rebuild(1, 3);
        assert_eq!(of(&builds, 1), Some((Some(2), Some(3))));
        assert_eq!(builds.old(1), [1]);
    }

    #[test]
    fn an_attempt_that_was_withdrawn_switches_nothing() {
        let mut builds = Builds::default();
        builds.begin(1);
        builds.rebuild(1, 2);
        builds.announce_switch(1, 2);
        builds.withdraw_switch(1, 1);
        builds.announce_switch(1, 2);
        assert_eq!(builds.version(1).and_then(|version| version.switching), Some(2));
        builds.switch(1, 2, Some(1));
        assert_eq!(of(&builds, 1), Some((Some(1), Some(2))));
    }

    #[test]
    fn the_number_of_a_build_that_was_given_up_never_comes_again() {
        let mut builds = Builds::default();
        builds.begin(1);
        builds.rebuild(1, 2);
        builds.announce_switch(1, 2);
        builds.abandon(1, 2);
        builds.switch(1, 2, Some(1));
        let version = builds.version(1).unwrap_or_default();
        assert_eq!((version.active, version.building, version.switching), (Some(1), None, None));
        assert_eq!((version.given_up.as_slice(), version.next()), ([2].as_slice(), 3));

        builds.begin(2);
        builds.abandon(2, 1);
        assert_eq!(builds.version(2).map(|version| version.has_builds()), Some(false));
        builds.begin(2);
        assert_eq!(of(&builds, 2), Some((None, Some(2))));
    }
}
