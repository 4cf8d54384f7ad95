//! The agent: load → ring → decode → roles → exchange → join → attribute → metrics.
//!
//! The modules stand in the order in which a packet's story passes them.

// What comes in.
pub mod load;
pub mod ring;

// Pure stages: values in, values out, time as data.
pub mod attribute;
pub mod books;
pub mod boundary;
pub mod calls;
pub mod decode;
pub mod http2;
pub mod http_head;
pub mod join;
pub mod message;
pub mod model;
pub mod pair;
pub mod pipeline;
pub mod recording;
pub mod roles;
pub mod sockets;
pub mod tracer;
mod underway;
pub mod windows;

// What comes out.
pub mod http;
pub mod metrics;
pub mod tap;

// What reads an agent.
pub(crate) mod client;
pub mod report;
pub mod requests;
pub mod top;

// Around it.
pub mod agent;
pub mod cli;
pub mod config;
pub mod doctor;
pub mod identity;
mod lock;
pub mod logging;
mod memory;
pub mod mounts;
pub mod privilege;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "an error is the result of the test")]
mod testing;
