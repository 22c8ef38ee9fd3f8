//! Tools for serde that do not know events: JSON within limits, fingerprints, variants without their tag.
//!
//! Imports `base`.

pub(crate) mod json;
pub(crate) mod limits;
pub(crate) mod fingerprint;
pub(crate) mod plain;
pub(crate) mod variant;
