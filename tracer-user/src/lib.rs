//! The agent: load → ring → decode → roles → exchange → join → attribute → metrics.
//!
//! The modules stand in the order in which a packet's story passes them.

pub mod decode;
pub mod http_head;
pub mod load;
pub mod model;

// What comes out.
pub mod metrics;
pub mod ring;
