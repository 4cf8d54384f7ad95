//! The lab mesh.
