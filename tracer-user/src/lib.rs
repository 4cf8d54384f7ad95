//! The agent: load → ring → decode → roles → exchange → join → attribute → metrics.
//!
//! The modules stand in the order in which a packet's story passes them.

pub mod model;
