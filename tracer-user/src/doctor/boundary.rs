//! What the pod boundary needs: TCX, and the pods' veths in sight.

use super::Check;
use crate::config::{Config, PodBoundary};
use crate::load::boundary::{Attachment, veths};
use crate::privilege::{self, Capability};

pub(super) fn checks(config: &Config) -> Vec<Check> {
    let on = config.pod_boundary == PodBoundary::On;
    let mut checks = vec![attachment(on)];
    if on {
        checks.push(in_sight());
    }
    checks
}

fn attachment(on: bool) -> Check {
    let name = "TCX";
    if !privilege::has(Capability::CAP_NET_ADMIN) {
        return Check::ok(name, "cannot be asked without CAP_NET_ADMIN");
    }
    match (Attachment::probe(), on) {
        (Attachment::Tcx, _) => Check::ok(name, "there, for --pod-boundary"),
        (Attachment::Clsact, false) => Check::ok(
            name,
            "not there: --pod-boundary would take filters below clsact",
        ),
        (Attachment::Clsact, true) => Check::degraded(
            name,
            "not there: filters below clsact instead",
            "nothing of the figures; filters of an agent that was killed stay until it starts again",
            "run a kernel from 6.6 on",
        ),
    }
}

fn in_sight() -> Check {
    let name = "pods' veths";
    let found = match veths() {
        Ok(0) => "none".to_owned(),
        Ok(count) => return Check::ok(name, format!("{count} in sight")),
        Err(error) => format!("cannot be listed: {error}"),
    };
    Check::degraded(
        name,
        found,
        "the parts of `network`",
        "run the agent in the network namespace of the host: podBoundary=true of the chart",
    )
}
