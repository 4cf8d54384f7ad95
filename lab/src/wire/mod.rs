//! `hoptrace-wire`: a server and a client for what ordinary ones do not do on demand, with stamps of
//! their own for every exchange. The tests hold the tracer against these.
//!
//! Both are plain blocking sockets: nothing happens between a stamp and its system call.

mod ask;
mod message;
mod serve;
mod stamp;

#[cfg(feature = "programs")]
pub(crate) use message::{Body, Input};
#[cfg(feature = "programs")]
pub(crate) use serve::MESSAGE;

pub use ask::{Answer, Answers, Kind, Wish, ask};
pub use serve::{Listen, serve};
pub use stamp::{Called, Done, Served, now, union};
