//! Which builds of a view there are: the one that answers, and one that is on its way.
//!
//! What is noted here is shared by all instances of the service, through the view store.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{SaveError, StoreError, ViewStore, codec};

/// The builds of all versions of one view.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Builds {
    versions: BTreeMap<u32, Version>,
}

/// The builds of one version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Version {
    /// The build that answers; none while the first one of a changed view is on its way.
    pub(crate) active: Option<u32>,
    /// The build that is on its way to take its place.
    pub(crate) building: Option<u32>,
    /// The number of the last build.
    last: u32,
}

impl Builds {
    pub(crate) fn version(&self, version: u32) -> Option<Version> {
        self.versions.get(&version).copied()
    }

    /// The other versions that there are.
    pub(crate) fn others(&self, version: u32) -> Vec<u32> {
        self.versions.keys().copied().filter(|other| *other != version).collect()
    }

    /// The first build of a version: it answers at once if the view is new, else when it has caught up.
    pub(crate) fn begin(&mut self, version: u32) {
        let is_new = self.versions.is_empty();
        let first = if is_new {
            Version { active: Some(1), building: None, last: 1 }
        } else {
            Version { active: None, building: Some(1), last: 1 }
        };
        self.versions.entry(version).or_insert(first);
    }

    /// Another build of a version; the one that is on its way, if there is one.
    pub(crate) fn rebuild(&mut self, version: u32) -> u32 {
        let version = self.versions.entry(version).or_default();
        if let Some(building) = version.building {
            return building;
        }
        version.last += 1;
        version.building = Some(version.last);
        version.last
    }

    /// The build that was on its way answers from now on.
    pub(crate) fn switch(&mut self, version: u32, build: u32) {
        if let Some(version) =
            self.versions.get_mut(&version).filter(|version| version.building == Some(build))
        {
            version.active = Some(build);
            version.building = None;
        }
    }

    /// The builds of a version that neither answer nor are on their way.
    pub(crate) fn old(&self, version: u32) -> Vec<u32> {
        let Some(version) = self.version(version) else { return Vec::new() };
        let in_use = |build: &u32| Some(*build) == version.active || Some(*build) == version.building;
        (1..=version.last).filter(|build| !in_use(build)).collect()
    }

    /// Forgets a version that no program answers from any more; returns its builds.
    pub(crate) fn forget(&mut self, version: u32) -> Vec<u32> {
        self.versions.remove(&version).map_or_else(Vec::new, |version| (1..=version.last).collect())
    }
}

/// What is noted about the view, with its revision.
pub(crate) async fn read<S: ViewStore>(views: &S, view: &str) -> Result<(Builds, u64), StoreError> {
    let saved = views.about(view).await?;
    let builds = match &saved.document {
        None => Builds::default(),
        Some(content) => codec::from_json(content).map_err(|error| bad(view, &error))?,
    };
    Ok((builds, saved.revision))
}

/// Changes what is noted about the view, whoever else does so at the same time.
pub(crate) async fn change<S: ViewStore>(
    views: &S,
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
        let content: Bytes = codec::to_json(&after).map_err(|error| bad(view, &error))?;
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
        builds.switch(2, 1);
        assert_eq!(of(&builds, 2), Some((Some(1), None)));
        assert_eq!(of(&builds, 1), Some((Some(1), None)));
        assert_eq!(builds.forget(1), [1]);
        assert_eq!(builds.others(2), [0; 0]);
    }

    #[test]
    fn a_rebuild_goes_on_until_it_takes_over() {
        let mut builds = Builds::default();
        builds.begin(1);
        assert_eq!(builds.rebuild(1), 2);
        assert_eq!(builds.rebuild(1), 2);
        assert_eq!(of(&builds, 1), Some((Some(1), Some(2))));
        assert_eq!(builds.old(1), [0; 0]);
        builds.switch(1, 7);
        assert_eq!(of(&builds, 1), Some((Some(1), Some(2))));
        builds.switch(1, 2);
        assert_eq!(of(&builds, 1), Some((Some(2), None)));
        assert_eq!(builds.old(1), [1]);
        assert_eq!(builds.rebuild(1), 3);
        assert_eq!(builds.old(1), [1]);
    }
}
