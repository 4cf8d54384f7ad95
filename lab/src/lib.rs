//! The lab mesh: network namespaces as pods, real Envoy sidecars, the article's services, load.

pub mod capitol;
pub mod load;
