//! The lab mesh: network namespaces as pods, real Envoy sidecars, the article's services, load.

mod access;
mod address;
mod agent;
pub mod browser;
mod build;
#[cfg(feature = "programs")]
pub mod capitol;
mod certs;
pub mod cgroup;
#[cfg(feature = "programs")]
pub mod chain;
mod containers;
mod cpu;
mod daemon;
mod detour;
pub mod envoy;
pub mod host;
pub mod http;
mod identity;
pub mod jvm;
pub mod kit;
mod lab;
mod logs;
pub mod manifests;
pub mod netns;
mod nginx;
mod offspring;
mod options;
pub mod pinned;
mod process;
mod programs;
pub mod prometheus;
mod reach;
mod redirect;
mod registry;
mod run_load;
mod seed;
pub mod signals;
pub mod spawn;
mod state;
mod teardown;
mod topology;
pub mod wait;
pub mod wire;

pub use access::{AccessDirection, AccessEntry};
pub use agent::{AgentOptions, AgentProcess};
pub use certs::leaf_params;
pub use cpu::StarveGuard;
pub use daemon::free_port;
pub use detour::Detour;
#[cfg(feature = "programs")]
pub use hoptrace_generator as generator;
pub use hoptrace_generator::load;
pub use host::need_root;
pub use lab::Lab;
pub use options::Patch;
pub use options::{Convention, Flavour, LabOptions, Worker};
pub use process::ProcessId;
pub use programs::bin_dir;
pub use prometheus::{Prometheus, Sample, promtool_check_metrics};
pub use reach::Reach;
pub use registry::clean_stale;
pub use run_load::LoadRun;
pub use state::{ContainerProcess, LabState};
pub use topology::{
    CLIENT_PORT, Container, DATABASE_PORT, INFO_PORT, Mode, NAMESPACE, Pod, Target,
};
