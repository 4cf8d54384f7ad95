//! A dashboard as Grafana imports it.
//!
//! The shape is that of Grafana's dashboard JSON, schema 39 (Grafana 10.4 and later take it and
//! migrate it as they need). Defaults are left out.

use serde_json::{Map, Value, json};

use super::model::{Dashboard, Look, Panel, Query, Unit, Variable};

const WIDTH: u32 = 24;
const SCHEMA: u32 = 39;
/// Where the pages are, until somebody says it: the chart puts `docsUrl` there.
const DOCS: &str = "./docs";
/// The colour of each hop, on every page the same.
const COLOURS: [(&str, &str); 5] = [
    ("app", "green"),
    ("sidecar_outbound", "orange"),
    ("sidecar_inbound", "red"),
    ("network", "blue"),
    ("loopback", "purple"),
];
/// Columns that lead to the page of a slow workload.
const WORKLOADS: [&str; 2] = ["source_workload", "destination_workload"];

/// The text of its file.
pub(crate) fn text(dashboard: &Dashboard) -> String {
    format!("{:#}\n", json(dashboard))
}

fn json(dashboard: &Dashboard) -> Value {
    let mut templates = vec![json!({
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
        "current": {},
        "hide": 0,
    })];
    templates.extend(dashboard.variables.iter().map(variable));
    templates.push(json!({
        "name": "docs",
        "label": "Where the project's docs directory is served, for links to runbooks",
        "type": "textbox",
        "query": DOCS,
        "current": {"text": DOCS, "value": DOCS},
        "hide": 2,
    }));
    json!({
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.about,
        "tags": ["hoptrace"],
        "schemaVersion": SCHEMA,
        "version": 1,
        "editable": true,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": templates},
        "annotations": {"list": []},
        "links": [{
            "title": "Hoptrace",
            "type": "dashboards",
            "tags": ["hoptrace"],
            "asDropdown": false,
            "includeVars": true,
            "keepTime": true,
        }],
        "panels": panels(dashboard),
    })
}

fn variable(variable: &Variable) -> Value {
    let query = variable.query();
    let mut value = json!({
        "name": variable.name,
        "label": variable.shown,
        "type": "query",
        "datasource": datasource(),
        "definition": query,
        "query": {"query": query, "refId": "variable", "qryType": 1},
        // When the time range changes: workloads come and go.
        "refresh": 2,
        "sort": 1,
        "regex": "",
        "multi": variable.many,
        "includeAll": variable.many,
    });
    if let (true, Some(fields)) = (variable.many, value.as_object_mut()) {
        // Outside of Kubernetes labels may be empty, which a list of values would leave out.
        fields.insert("allValue".into(), json!(".*"));
        fields.insert(
            "current".into(),
            json!({"text": ["All"], "value": ["$__all"]}),
        );
    }
    value
}

impl Variable {
    /// As it is written in Grafana.
    pub(crate) fn query(&self) -> String {
        format!("label_values({}, {})", self.series, self.label)
    }
}

fn datasource() -> Value {
    json!({"type": "prometheus", "uid": "${datasource}"})
}

fn panels(dashboard: &Dashboard) -> Vec<Value> {
    let mut panels = Vec::new();
    // Where the next row begins.
    let mut y = 0;
    for row in &dashboard.rows {
        panels.push(json!({
            "id": panels.len() + 1,
            "type": "row",
            "title": row.title,
            "collapsed": false,
            "panels": [],
            "gridPos": {"x": 0, "y": y, "w": WIDTH, "h": 1},
        }));
        y += 1;
        let (mut x, mut tallest) = (0, 0);
        for one in &row.panels {
            if x + one.width > WIDTH {
                (x, y, tallest) = (0, y + tallest, 0);
            }
            let place = json!({"x": x, "y": y, "w": one.width, "h": one.height});
            panels.push(panel(one, panels.len() + 1, &place));
            x += one.width;
            tallest = tallest.max(one.height);
        }
        y += tallest;
    }
    panels
}

fn panel(panel: &Panel, id: usize, place: &Value) -> Value {
    let targets: Vec<_> = panel
        .queries
        .iter()
        .enumerate()
        .map(|(at, query)| target(panel, query, at))
        .collect();
    let links: Vec<_> = panel
        .runbook
        .iter()
        .map(|page| {
            json!({
                "title": format!("Runbook: {page}"),
                "url": format!("${{docs}}/runbooks/{page}.md"),
                "targetBlank": true,
            })
        })
        .collect();
    json!({
        "id": id,
        "type": kind(&panel.look),
        "title": panel.title,
        "description": description(panel),
        "datasource": datasource(),
        "gridPos": place,
        "targets": targets,
        "links": links,
        "fieldConfig": {"defaults": defaults(panel), "overrides": overrides(panel)},
        "options": options(&panel.look),
        "transformations": transformations(panel),
    })
}

fn description(panel: &Panel) -> String {
    match panel.may_be_empty {
        Some(reason) => format!("{} It may be empty: {reason}.", panel.about),
        None => panel.about.clone(),
    }
}

fn kind(look: &Look) -> &'static str {
    match look {
        Look::Stat => "stat",
        Look::Lines | Look::Stacked => "timeseries",
        Look::Bars { .. } => "barchart",
        Look::Table(_) => "table",
        Look::Heatmap => "heatmap",
    }
}

fn target(panel: &Panel, query: &Query, at: usize) -> Value {
    let instant = panel.is_instant();
    let format = match panel.look {
        Look::Heatmap => "heatmap",
        _ if instant => "table",
        _ => "time_series",
    };
    json!({
        "refId": reference(at),
        "datasource": datasource(),
        "editorMode": "code",
        "expr": query.expr,
        "legendFormat": if query.legend.is_empty() { "__auto" } else { query.legend },
        "format": format,
        "instant": instant,
        "range": !instant,
    })
}

/// `A`, `B` …; a panel has few queries.
fn reference(at: usize) -> String {
    let letter = u8::try_from(at).map_or(b'Z', |at| b'A'.saturating_add(at).min(b'Z'));
    char::from(letter).to_string()
}

fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Seconds => "s",
        Unit::Share => "percentunit",
        Unit::RequestsPerSecond => "reqps",
        Unit::PerSecond => "cps",
        Unit::Bytes => "bytes",
        Unit::Cores | Unit::Count => "short",
    }
}

fn defaults(panel: &Panel) -> Value {
    let mut steps = vec![json!({"color": "green", "value": null})];
    for step in &panel.steps {
        if step.from == f64::NEG_INFINITY {
            steps.clear();
            steps.push(json!({"color": step.colour, "value": null}));
        } else {
            steps.push(json!({"color": step.colour, "value": step.from}));
        }
    }
    let mut defaults = Map::new();
    defaults.insert("unit".into(), json!(unit(panel.unit)));
    defaults.insert(
        "thresholds".into(),
        json!({"mode": "absolute", "steps": steps}),
    );
    if !(panel.signed || matches!(panel.look, Look::Heatmap | Look::Table(_))) {
        defaults.insert("min".into(), json!(0));
    }
    if matches!(panel.look, Look::Stat) {
        defaults.insert("color".into(), json!({"mode": "thresholds"}));
    } else {
        defaults.insert("color".into(), json!({"mode": "palette-classic"}));
    }
    let custom = match panel.look {
        Look::Lines | Look::Stacked => {
            let stacked = matches!(panel.look, Look::Stacked);
            let shown = if panel.steps.is_empty() {
                "off"
            } else {
                "line"
            };
            json!({
                "drawStyle": "line",
                "lineWidth": 1,
                "fillOpacity": if stacked { 60 } else { 0 },
                "showPoints": "auto",
                "stacking": {"mode": if stacked { "normal" } else { "none" }, "group": "A"},
                "thresholdsStyle": {"mode": shown},
            })
        }
        Look::Bars { .. } => json!({"fillOpacity": 80, "lineWidth": 0}),
        Look::Table(_) => json!({"align": "auto", "filterable": true}),
        Look::Stat | Look::Heatmap => json!({}),
    };
    defaults.insert("custom".into(), custom);
    Value::Object(defaults)
}

fn overrides(panel: &Panel) -> Vec<Value> {
    let property = |name: &str, id: &str, value: Value| {
        json!({
            "matcher": {"id": "byName", "options": name},
            "properties": [{"id": id, "value": value}],
        })
    };
    match &panel.look {
        Look::Table(columns) => {
            let units = columns
                .iter()
                .map(|column| property(column.title, "unit", json!(unit(column.unit))));
            let links = WORKLOADS.iter().map(|label| {
                let link = json!([{
                    "title": "Troubleshoot ${__value.text}",
                    "url": "/d/hoptrace-slow-service?var-workload=${__value.text:percentencode}&${datasource:queryparam}&${__url_time_range}",
                }]);
                property(label, "links", link)
            });
            units.chain(links).collect()
        }
        Look::Bars { .. } | Look::Lines | Look::Stacked => COLOURS
            .iter()
            .map(|(hop, colour)| {
                let value = json!({"mode": "fixed", "fixedColor": colour});
                property(hop, "color", value)
            })
            .collect(),
        Look::Stat | Look::Heatmap => Vec::new(),
    }
}

fn options(look: &Look) -> Value {
    let legend = json!({
        "showLegend": true,
        "displayMode": "table",
        "placement": "bottom",
        "calcs": ["mean", "lastNotNull", "max"],
    });
    match look {
        Look::Stat => json!({
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": false},
            "colorMode": "value",
            "graphMode": "area",
            "textMode": "value",
        }),
        Look::Lines | Look::Stacked => {
            json!({"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}})
        }
        Look::Bars { percent } => json!({
            "orientation": "horizontal",
            "stacking": if *percent { "percent" } else { "normal" },
            "showValue": "never",
            "legend": {"showLegend": true, "displayMode": "list", "placement": "bottom", "calcs": []},
            "tooltip": {"mode": "multi", "sort": "none"},
        }),
        Look::Table(_) => json!({"showHeader": true, "cellHeight": "sm"}),
        Look::Heatmap => json!({
            "calculate": false,
            "yAxis": {"unit": "s", "axisPlacement": "left"},
            "rowsFrame": {"layout": "auto"},
            "color": {"mode": "scheme", "scheme": "Oranges", "exponent": 0.5, "steps": 64},
            "cellGap": 1,
            "filterValues": {"le": 1e-9},
            "legend": {"show": true},
            "tooltip": {"mode": "single", "showColorScale": true},
        }),
    }
}

fn transformations(panel: &Panel) -> Vec<Value> {
    match &panel.look {
        Look::Bars { .. } => vec![json!({
            "id": "groupingToMatrix",
            "options": {"rowField": "pair", "columnField": "hop", "valueField": "Value", "emptyValue": "null"},
        })],
        Look::Table(columns) => {
            let names: Map<String, Value> = columns
                .iter()
                .enumerate()
                .map(|(at, column)| (format!("Value #{}", reference(at)), json!(column.title)))
                .collect();
            vec![
                json!({"id": "merge", "options": {}}),
                json!({
                    "id": "organize",
                    "options": {"excludeByName": {"Time": true}, "renameByName": names},
                }),
            ]
        }
        Look::Stat | Look::Lines | Look::Stacked | Look::Heatmap => Vec::new(),
    }
}
