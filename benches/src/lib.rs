//! The measured domain, with events of a usual size. The program of this package measures.

pub mod domain;
mod texts;
