//! Checks that the source keeps to the layers of `docs/architecture.md` and compiles on every system, and that the prose
//! has no words of the word list.
#![allow(clippy::expect_used, clippy::panic)]

mod layers;
mod modules;
mod pages;
mod portability;
mod prose;
