//! What is measured: a domain of the usual size. The measuring itself is the program of this package.

pub mod domain;
mod texts;
