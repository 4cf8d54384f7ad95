//! The kustomize base: what the chart renders to, less what is Helm's.

const HEAD: &str = "\
# What the chart in deploy/helm/hoptrace renders to with its defaults. `cargo xtask manifests` writes
# this file: change the chart, or patch in an overlay.
";

/// Lines that say who rendered it, and when to roll pods that kustomize never rolls.
const OF_HELM: [&str; 4] = [
    "# Source: ",
    "helm.sh/chart: ",
    "app.kubernetes.io/managed-by: ",
    "checksum/config: ",
];

/// The rendered chart as a base.
pub(super) fn from_chart(rendered: &str) -> String {
    let kept = rendered.lines().filter(|line| {
        let line = line.trim_start();
        !OF_HELM.iter().any(|start| line.starts_with(start))
    });
    let mut text = HEAD.to_owned();
    for line in kept {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_helms_goes() {
        let rendered = "---\n# Source: hoptrace/templates/x.yaml\n# Why.\nkind: X\nlabels:\n  \
                        helm.sh/chart: hoptrace-1\n  app.kubernetes.io/managed-by: Helm\n  a: b\n";
        let text = from_chart(rendered);
        assert_eq!(
            text.strip_prefix(HEAD),
            Some("---\n# Why.\nkind: X\nlabels:\n  a: b\n")
        );
    }
}
