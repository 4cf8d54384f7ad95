//! What a guest said on its console: sections that begin with `@@ NAME`, and the kernel's words.

use std::collections::BTreeMap;

/// What a section's first line begins with.
pub(super) const PREFIX: &str = "@@ ";
/// The last section.
pub(super) const END: &str = "end";

/// A console's text, in sections.
#[derive(Debug, Default)]
pub(super) struct Console {
    sections: BTreeMap<String, String>,
    /// What the kernel said, from its boot to its end.
    kernel: Vec<String>,
}

impl Console {
    /// Total over any text.
    pub(super) fn parse(text: &str) -> Self {
        let mut this = Self::default();
        let mut current: Option<String> = None;
        for line in text.lines().map(str::trim_end) {
            if is_kernels(line) {
                this.kernel.push(line.to_owned());
            } else if let Some(name) = line.strip_prefix(PREFIX).or_else(|| {
                // The firmware's last words may stand before it, without an end of line.
                line.split_once(PREFIX).and_then(|(before, name)| {
                    (current.is_none() && before.contains('\x1b')).then_some(name)
                })
            }) {
                this.sections.entry(name.to_owned()).or_default();
                current = Some(name.to_owned());
            } else if let Some(section) = &current
                && let Some(text) = this.sections.get_mut(section)
            {
                text.push_str(line);
                text.push('\n');
            }
        }
        this
    }

    /// A section's text; `None` when the guest did not come so far.
    pub(super) fn section(&self, name: &str) -> Option<&str> {
        self.sections.get(name).map(String::as_str)
    }

    /// Whether init did all that it does.
    pub(super) fn ended(&self) -> bool {
        self.sections.contains_key(END)
    }

    /// The kernel's reason to stop, if it did.
    pub(super) fn panic(&self) -> Option<&str> {
        self.kernel
            .iter()
            .map(String::as_str)
            .find(|line| line.contains("Kernel panic"))
    }

    /// The line in which the kernel complains about itself: a warning or a fault while the programs
    /// ran.
    pub(super) fn complaint(&self) -> Option<&str> {
        self.kernel.iter().map(String::as_str).find(|line| {
            ["WARNING: ", "BUG: ", "Oops", "general protection"]
                .iter()
                .any(|word| line.contains(word))
        })
    }
}

/// `[    4.035576] words`, the time in seconds.
fn is_kernels(line: &str) -> bool {
    let Some((time, _)) = line.strip_prefix('[').and_then(|rest| rest.split_once(']')) else {
        return false;
    };
    let time = time.trim_start();
    time.contains('.') && time.chars().all(|c| c.is_ascii_digit() || c == '.')
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "SeaBIOS (version 1.16.3)\r\n\
        \x1bc\x1b[2J@@ kernel\n6.1.0-50-cloud-amd64\n\
        [    6.200000] veth: loading out-of-tree module\n\
        @@ metrics\nup 1\nmail a@@ b\n[x] no kernel\n@@ end\n1.0 2.0\n\
        [   16.252625] reboot: Power down\n";

    #[test]
    fn sections_are_told_apart() {
        let console = Console::parse(TEXT);
        assert_eq!(console.section("kernel"), Some("6.1.0-50-cloud-amd64\n"));
        assert_eq!(
            console.section("metrics"),
            Some("up 1\nmail a@@ b\n[x] no kernel\n")
        );
        assert_eq!(console.section("agent"), None);
        assert!(console.ended());
        assert_eq!((console.panic(), console.complaint()), (None, None));
    }

    #[test]
    fn a_panic_is_not_an_end() {
        let console = Console::parse(
            "@@ kernel\n5.10\n[    0.05] Kernel panic - not syncing: no\n[    0.06] WARNING: CPU: 0\n",
        );
        assert!(!console.ended());
        assert!(console.panic().unwrap().ends_with("not syncing: no"));
        assert!(console.complaint().unwrap().ends_with("CPU: 0"));
    }
}
