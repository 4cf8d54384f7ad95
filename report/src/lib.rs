//! What a mesh costs: from what agents and a stopwatch told, to figures, verdicts and pages.
//!
//! Values in, values out: no clock, no file, no network. `side` makes figures of one target's runs,
//! `compare` sets two targets against each other with intervals from `stats`, `verdict` says which
//! conclusion the coverage carries, and `document` puts all of it into blocks that `markdown` and `html`
//! write. The model is what JSON has, so that an earlier report can be a side of a later one.

mod compare;
mod document;
pub mod figures;
mod html;
mod markdown;
mod model;
mod side;
pub mod stats;
mod svg;
mod verdict;

pub use compare::{compare, places};
pub use document::document;
pub use html::html;
pub use markdown::markdown;
pub use model::*;
pub use side::{Measured, WAY, Window, pairs, side};

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a panic fails the test"
)]
mod tests;
