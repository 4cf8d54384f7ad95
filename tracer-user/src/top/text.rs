//! Rows for pipes: a table, or JSON.

use super::Row;
use crate::model::Hop;
use anyhow::Result;
use serde_json::{Map, Value, json};
use std::fmt::Write;

/// Seconds as people read them.
pub(crate) fn duration(seconds: Option<f64>) -> String {
    match seconds {
        None => "–".to_owned(),
        Some(seconds) if seconds < 0.001 => format!("{:.0} µs", seconds * 1e6),
        Some(seconds) if seconds < 1.0 => format!("{:.2} ms", seconds * 1e3),
        Some(seconds) => format!("{seconds:.2} s"),
    }
}

/// Short names of the hops, as headings.
pub(crate) fn heading(hop: Hop) -> &'static str {
    match hop {
        Hop::App => "app",
        Hop::SidecarInbound => "inbound",
        Hop::SidecarOutbound => "outbound",
        Hop::Network => "network",
        Hop::Loopback => "loopback",
    }
}

/// What stands for a hop in a bar.
pub(crate) fn letter(hop: Hop) -> &'static str {
    match hop {
        Hop::App => "a",
        Hop::SidecarInbound => "i",
        Hop::SidecarOutbound => "o",
        Hop::Network => "n",
        Hop::Loopback => "l",
    }
}

/// Whether whoever looks wants colours (no-color.org).
pub(crate) fn wants_colours() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// One line a pair: means of the hops behind the whole request's figures.
pub(super) fn table(rows: &[&Row]) -> String {
    let mut lines = vec![
        ["source", "destination", "req/s", "mean", "p50", "p99"]
            .into_iter()
            .map(str::to_owned)
            .chain(Hop::ALL.into_iter().map(|hop| heading(hop).to_owned()))
            .collect::<Vec<_>>(),
    ];
    for row in rows {
        let figures = [
            row.pair.source.clone(),
            row.pair.destination.clone(),
            format!("{:.1}", row.rate),
            duration(row.whole.mean()),
            duration(row.whole.quantile(0.5)),
            duration(row.whole.quantile(0.99)),
        ];
        let hops = Hop::ALL
            .into_iter()
            .map(|hop| duration(row.hops.get(&hop).copied()));
        lines.push(figures.into_iter().chain(hops).collect());
    }
    let columns = lines.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            let cells = lines.iter().filter_map(|line| line.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for line in &lines {
        for (index, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let _infallible = if index < 2 {
                write!(text, "{cell:width$}  ")
            } else {
                write!(text, "{cell:>width$}  ")
            };
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    if rows.is_empty() {
        text.push_str("(no request in this time)\n");
    }
    text
}

/// One line of JSON; times are seconds.
///
/// # Errors
/// Never: there are no keys but texts.
pub(super) fn json(rows: &[&Row]) -> Result<String> {
    let pairs: Vec<Value> = rows
        .iter()
        .map(|row| {
            let hops: Map<String, Value> = row
                .hops
                .iter()
                .map(|(hop, mean)| (hop.as_str().to_owned(), json!(mean)))
                .collect();
            let steps: Vec<Value> = row
                .steps
                .iter()
                .map(|((hop, leg, part), histogram)| {
                    json!({
                        "hop": hop.as_str(),
                        "leg": leg.as_str(),
                        "part": part.as_str(),
                        "count": histogram.count,
                        "mean_seconds": histogram.mean(),
                        "p50_seconds": histogram.quantile(0.5),
                        "p99_seconds": histogram.quantile(0.99),
                    })
                })
                .collect();
            json!({
                "source": row.pair.source,
                "destination": row.pair.destination,
                "service": row.pair.service,
                "requests_per_second": row.rate,
                "mean_seconds": row.whole.mean(),
                "p50_seconds": row.whole.quantile(0.5),
                "p99_seconds": row.whole.quantile(0.99),
                "hop_mean_seconds": hops,
                "steps": steps,
            })
        })
        .collect();
    Ok(serde_json::to_string(&json!({ "pairs": pairs }))? + "\n")
}

#[cfg(test)]
mod tests {
    use super::super::rows::tests::two_looks as looks;
    use super::*;

    #[test]
    fn a_table_has_a_line_for_each_pair() {
        let text = table(&looks().iter().collect::<Vec<_>>());
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "source       destination  req/s     mean      p50      p99      app  inbound  outbound  network  loopback",
                "client.shop  orders.shop  100.0  8.00 ms  7.50 ms  9.95 ms  1.00 ms  2.00 ms   2.00 ms        –   1.00 ms",
                "client.shop  stock.shop    10.0  8.00 ms  7.50 ms  9.95 ms  1.00 ms  2.00 ms   2.00 ms        –   1.00 ms",
            ]
        );
        assert!(table(&[]).contains("no request"));
    }

    #[test]
    fn json_is_a_line() {
        let text = json(&looks().iter().collect::<Vec<_>>()).unwrap();
        assert_eq!(text.lines().count(), 1);
        let read: Value = serde_json::from_str(&text).unwrap();
        let rate = read.pointer("/pairs/0/requests_per_second").unwrap();
        assert_eq!(rate.as_f64(), Some(100.0));
        assert_eq!(read.pointer("/pairs/1/service").unwrap(), "stock");
    }
}
