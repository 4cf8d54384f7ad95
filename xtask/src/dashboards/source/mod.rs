//! The dashboards as values: what is asked, how it is shown, how it is read.
//!
//! Nothing here but `serde_json` and strings: `tracer-user/tests/dashboards.rs` compiles this
//! module too, to put every query to a real Prometheus.

mod agent;
mod mesh_tax;
pub(crate) mod model;
pub(crate) mod promql;
pub(crate) mod render;
mod slow_service;

use model::Dashboard;

/// Every dashboard.
pub(crate) fn all() -> Vec<Dashboard> {
    vec![
        mesh_tax::dashboard(),
        slow_service::dashboard(),
        agent::dashboard(),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::model::Unit;
    use super::*;

    #[test]
    fn every_panel_says_how_it_is_read() {
        for dashboard in all() {
            let mut titles = BTreeSet::new();
            for panel in dashboard.panels() {
                let name = format!("{}: {}", dashboard.title, panel.title);
                assert!(titles.insert(panel.title), "{name} is there twice");
                assert!(panel.about.len() > 60, "{name} is not explained");
                assert!(panel.about.ends_with('.'), "{name}: {}", panel.about);
                assert!(!panel.queries.is_empty(), "{name} asks nothing");
                assert!(panel.width <= 24 && panel.height >= 4, "{name}");
            }
        }
    }

    /// Means from sums and counts; quantiles from buckets of single requests, and from nothing else.
    #[test]
    fn no_quantile_is_added_or_averaged() {
        for dashboard in all() {
            for panel in dashboard.panels() {
                for query in &panel.queries {
                    let expr = &query.expr;
                    let quantiles = expr.matches("histogram_quantile(").count();
                    if quantiles > 0 {
                        assert_eq!(quantiles, 1, "{}: {expr}", panel.title);
                        assert!(expr.starts_with("histogram_quantile("), "{expr}");
                        assert!(!expr.contains(" / ") && !expr.contains(" - "), "{expr}");
                    }
                    assert!(!expr.contains("avg("), "{}: a mean of means", panel.title);
                    assert!(!expr.contains("avg by"), "{}: a mean of means", panel.title);
                }
            }
        }
    }

    #[test]
    fn every_variable_is_used_and_every_used_one_is_there() {
        for dashboard in all() {
            let names: BTreeSet<_> = dashboard.variables.iter().map(|one| one.name).collect();
            let mut used = BTreeSet::new();
            let asked = dashboard.panels().flat_map(|panel| &panel.queries);
            let asked = asked.map(|query| query.expr.as_str());
            let series = dashboard.variables.iter().map(|one| one.series.as_str());
            for text in asked.chain(series) {
                for rest in text.split('$').skip(1) {
                    let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
                    let name = rest.get(..end.unwrap_or(rest.len())).unwrap();
                    if !name.starts_with("__") {
                        assert!(names.contains(name), "{}: ${name}", dashboard.title);
                        used.insert(name);
                    }
                }
            }
            let unused: Vec<_> = names.iter().filter(|name| !used.contains(*name)).collect();
            assert!(unused.is_empty(), "{}: {unused:?}", dashboard.title);
        }
    }

    #[test]
    fn times_are_shown_as_times() {
        for dashboard in all() {
            for panel in dashboard.panels() {
                let quantile = |query: &model::Query| query.expr.starts_with("histogram_quantile");
                if panel.queries.iter().all(quantile) {
                    assert_eq!(panel.unit, Unit::Seconds, "{}", panel.title);
                }
            }
        }
    }
}
