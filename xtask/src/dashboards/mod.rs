//! `cargo xtask dashboards`: Grafana's dashboards, from `source/` into `deploy/grafana/`, and into
//! the chart that ships them.

use anyhow::Result;
use clap::Args;

use crate::manifests::{Made, settle};

mod source;

/// Where the chart reads them; Helm sees no file outside of its chart.
const IN_CHART: &str = "deploy/helm/hoptrace/files/dashboards";
const DIRECTORY: &str = "deploy/grafana";

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Write nothing; fail if a file is not what it should be.
    #[arg(long)]
    check: bool,
}

/// Writes or checks every one of them.
pub(crate) fn run(options: &Options) -> Result<()> {
    settle(all(), options.check, "dashboards")
}

fn all() -> Vec<Made> {
    let mut made = Vec::new();
    for dashboard in source::all() {
        let text = source::render::text(&dashboard);
        for directory in [DIRECTORY, IN_CHART] {
            made.push(Made {
                path: format!("{directory}/{}.json", dashboard.uid),
                text: text.clone(),
            });
        }
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_the_repository_is_what_is_made() {
        run(&Options { check: true }).unwrap();
    }
}
