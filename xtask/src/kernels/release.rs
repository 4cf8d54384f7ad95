//! The kernels there are, and what is known of each.

use std::fmt;

/// A series of kernels, one of which is booted.
#[derive(Debug)]
pub(super) struct Series {
    /// `6.1`.
    pub(super) name: &'static str,
    /// The release that was last tried; another one where the archive has it no more.
    pub(super) pinned: &'static str,
    /// What `hoptrace doctor` finds missing in it, by the names of its checks. Anything else is a
    /// failure.
    pub(super) lacks: &'static [&'static str],
    /// Whether it lets a process without CAP_PERFMON read packets.
    pub(super) least_is_enough: bool,
}

/// Oldest first. Debian's "cloud" flavour: the drivers of a virtual machine, and all of BPF.
pub(super) const SERIES: [Series; 6] = [
    Series {
        name: "5.10",
        pinned: "5.10.0-32",
        lacks: &["socket storage in tp_btf", "maps without capabilities"],
        least_is_enough: false,
    },
    Series {
        name: "6.1",
        pinned: "6.1.0-50",
        lacks: &[],
        least_is_enough: true,
    },
    Series {
        name: "6.12",
        pinned: "6.12.95+deb12",
        lacks: &[],
        least_is_enough: true,
    },
    Series {
        name: "6.16",
        pinned: "6.16.12+deb13",
        lacks: &[],
        least_is_enough: true,
    },
    Series {
        name: "6.18",
        pinned: "6.18.15+deb13",
        lacks: &[],
        least_is_enough: true,
    },
    Series {
        name: "7.3",
        pinned: "7.3.4+deb13",
        lacks: &[],
        least_is_enough: true,
    },
];

/// What ends the name of a kernel's release and of its packages.
pub(super) const FLAVOUR: &str = "-cloud-amd64";

/// A kernel's release without its flavour, as Debian numbers it; ordered by its numbers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Release {
    numbers: Vec<u32>,
    text: String,
}

impl Release {
    /// `6.12.95+deb12`.
    pub(super) fn new(text: &str) -> Self {
        let numbers = text
            .split(|c: char| !c.is_ascii_digit())
            .filter_map(|number| number.parse().ok())
            .collect();
        Self {
            numbers,
            text: text.to_owned(),
        }
    }

    /// Whether it is of the series.
    pub(super) fn is_of(&self, series: &Series) -> bool {
        self.numbers.starts_with(&Self::new(series.name).numbers)
    }

    /// As in the names of files and packages.
    pub(super) fn full(&self) -> String {
        format!("{}{FLAVOUR}", self.text)
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Of these names, the series' pinned release, else its newest.
pub(super) fn choose<'a>(series: &Series, names: impl Iterator<Item = &'a str>) -> Option<Release> {
    let pinned = Release::new(series.pinned);
    let found: Vec<_> = names
        .filter_map(|name| name.strip_suffix(FLAVOUR))
        .map(Release::new)
        .filter(|release| release.is_of(series))
        .collect();
    if found.contains(&pinned) {
        return Some(pinned);
    }
    found.into_iter().max()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 6] = [
        "6.1.0-9-cloud-amd64",
        "6.1.0-47-cloud-amd64",
        "6.12.95+deb12-cloud-amd64",
        "6.1.0-50-rt-amd64",
        "6.1.0-30-cloud-amd64",
        "cloud-amd64",
    ];

    fn series(name: &str) -> &'static Series {
        SERIES.iter().find(|series| series.name == name).unwrap()
    }

    #[test]
    fn the_newest_stands_in_for_the_pinned() {
        let newest = choose(series("6.1"), NAMES.into_iter()).unwrap();
        assert_eq!(newest.full(), "6.1.0-47-cloud-amd64");
        let with_pinned = NAMES
            .into_iter()
            .chain(["6.1.0-50-cloud-amd64", "6.1.0-60-cloud-amd64"]);
        let pinned = choose(series("6.1"), with_pinned).unwrap();
        assert_eq!(pinned.to_string(), "6.1.0-50");
        assert_eq!(choose(series("7.3"), NAMES.into_iter()), None);
    }

    #[test]
    fn every_pinned_release_is_of_its_series_and_no_other() {
        for one in &SERIES {
            for other in &SERIES {
                let of = Release::new(one.pinned).is_of(other);
                assert_eq!(of, one.name == other.name, "{} {}", one.name, other.name);
            }
        }
    }
}
