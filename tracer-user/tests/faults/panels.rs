//! A dashboard as it is committed, put to a Prometheus as Grafana would.

use std::collections::BTreeMap;

use hoptrace_lab::Prometheus;
use serde_json::Value;

use crate::markdown::root;

const DIRECTORY: &str = "deploy/grafana";
/// What Grafana chooses for a scrape every second: four of them, and a step.
const RATE_INTERVAL: &str = "5s";

/// What is shown under a name.
#[derive(Clone, Debug)]
pub(crate) struct Band {
    /// As in the legend.
    pub(crate) name: String,
    pub(crate) value: f64,
}

/// A dashboard that somebody looks at.
pub(crate) struct Page<'a> {
    dashboard: Value,
    prometheus: &'a Prometheus,
    /// Values of variables, by name.
    chosen: BTreeMap<String, String>,
}

impl<'a> Page<'a> {
    /// The dashboard with a title.
    pub(crate) fn open(title: &str, prometheus: &'a Prometheus) -> Self {
        let files = std::fs::read_dir(root().join(DIRECTORY)).unwrap();
        let mut dashboards = files.map(|file| {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            serde_json::from_str::<Value>(&text).unwrap()
        });
        let is_it = |found: &Value| found["title"].as_str().unwrap().ends_with(title);
        let dashboard = dashboards
            .find(is_it)
            .unwrap_or_else(|| panic!("{DIRECTORY} has no dashboard {title}"));
        let variables = dashboard["templating"]["list"].as_array().unwrap();
        let variables = variables.iter().filter(|one| one["type"] == "query");
        // All of those of which several may be chosen, as when a page is opened.
        let chosen = variables
            .map(|variable| {
                let all = variable["allValue"].as_str().unwrap_or_default();
                let name = variable["name"].as_str().unwrap();
                (name.to_owned(), all.to_owned())
            })
            .collect();
        Self {
            dashboard,
            prometheus,
            chosen,
        }
    }

    /// The name of the variable that is shown under another.
    fn variable(&self, shown: &str) -> &str {
        let variables = self.dashboard["templating"]["list"].as_array().unwrap();
        let variable = variables.iter().find(|one| one["label"] == shown);
        let variable = variable.unwrap_or_else(|| panic!("there is no variable {shown}"));
        variable["name"].as_str().unwrap()
    }

    /// Chooses a value of the variable that is shown under a name.
    pub(crate) fn choose(&mut self, shown: &str, value: &str) {
        let name = self.variable(shown).to_owned();
        self.chosen.insert(name, value.to_owned());
    }

    /// Chooses a value of the only variable of which one has to be chosen.
    pub(crate) fn choose_only(&mut self, value: &str) {
        let mut open = self.chosen.values_mut().filter(|value| value.is_empty());
        let (Some(only), None) = (open.next(), open.next()) else {
            panic!("not one variable to choose: {:?}", self.chosen);
        };
        value.clone_into(only);
    }

    /// What is chosen under a name.
    pub(crate) fn chosen(&self, shown: &str) -> &str {
        &self.chosen[self.variable(shown)]
    }

    /// The band of a panel with the greatest value, of those whose names begin in a way.
    pub(crate) fn widest(&self, panel: &str, start: &str) -> Option<Band> {
        let bands = self.bands(panel).into_iter();
        bands
            .filter(|band| band.name.starts_with(start))
            .max_by(|one, other| one.value.total_cmp(&other.value))
    }

    /// What a panel shows now.
    fn bands(&self, title: &str) -> Vec<Band> {
        let panels = self.dashboard["panels"].as_array().unwrap();
        let panel = panels.iter().find(|panel| panel["title"] == title);
        let panel = panel.unwrap_or_else(|| panic!("there is no panel {title}"));
        let mut bands = Vec::new();
        for target in panel["targets"].as_array().unwrap() {
            let expr = self.filled(target["expr"].as_str().unwrap());
            let legend = target["legendFormat"].as_str().unwrap();
            let found = self.prometheus.query(&expr).unwrap();
            let found = found.into_iter().filter(|(_, value)| value.is_finite());
            bands.extend(found.map(|(labels, value)| Band {
                name: named(legend, &labels),
                value,
            }));
        }
        bands
    }

    /// An expression as Grafana sends it.
    fn filled(&self, expr: &str) -> String {
        let mut text = expr.replace("$__rate_interval", RATE_INTERVAL);
        for (name, value) in &self.chosen {
            text = text.replace(&format!("${name}"), value);
        }
        assert!(!text.contains('$'), "{text}");
        text
    }
}

/// A legend with the values of its labels.
fn named(legend: &str, labels: &BTreeMap<String, String>) -> String {
    let mut text = legend.to_owned();
    for (label, value) in labels {
        text = text.replace(&format!("{{{{{label}}}}}"), value);
    }
    text
}
