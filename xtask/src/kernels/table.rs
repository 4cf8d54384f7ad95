//! The matrix in words.

use std::fmt::Write;

use super::image::{DIRECT, RELAYED};
use super::judge::Findings;

/// One kernel's.
pub(super) struct Row {
    pub(super) release: String,
    pub(super) findings: Findings,
    /// Wall time of its life.
    pub(super) seconds: f64,
    /// How often it was started.
    pub(super) boots: u32,
}

/// A table, and below it what was wrong or is missing.
pub(super) fn show(rows: &[Row]) -> String {
    let mut text = format!(
        "{} requests straight to the app, which slept {} ms in each; {} through a sidecar, {} ms.\n\
         Means in ms: client, by its own clock; request and app, as traced; sidecar, both legs.\n\n",
        DIRECT.requests, DIRECT.delay_ms, RELAYED.requests, RELAYED.delay_ms
    );
    text += &format!(
        "{:<15} {:<7} {:<11} {:<9} {:>9}   {:>22}   {:>31}\n",
        "", "", "", "", "exchanges", "straight", "through the sidecar"
    );
    text += &format!(
        "{:<15} {:<7} {:<11} {:<9} {:>9}   {:>6} {:>8} {:>6}   {:>6} {:>8} {:>6} {:>8}\n",
        "Linux",
        "verdict",
        "read hook",
        "keeps",
        "joined",
        "client",
        "request",
        "app",
        "client",
        "request",
        "app",
        "sidecar"
    );
    for row in rows {
        // A String takes everything.
        let _written = writeln!(text, "{}", line(row));
    }
    for row in rows {
        let Findings { lacks, faults, .. } = &row.findings;
        for name in lacks {
            let _written = writeln!(text, "{}: without `{name}`", row.release);
        }
        for fault in faults {
            let _written = writeln!(text, "{} FAILED: {fault}", row.release);
        }
        if row.boots > 1 {
            let _written = writeln!(text, "{}: started {} times", row.release, row.boots);
        }
    }
    text
}

fn line(row: &Row) -> String {
    let findings = &row.findings;
    let passed = findings.faults.is_empty();
    let mut line = format!(
        "{:<15} {:<7} {:<11} {:<9} {:>9}",
        row.release,
        if passed { "passed" } else { "FAILED" },
        if findings.reads { "yes" } else { "no" },
        if findings.keeps_cap_bpf {
            "CAP_BPF"
        } else {
            "nothing"
        },
        findings.exchanges
    );
    for (number, [client, request, app, sidecar]) in findings.means.iter().enumerate() {
        line += &format!("   {client:>6.2} {request:>8.2} {app:>6.2}");
        if number == 1 {
            line += &format!(" {sidecar:>8.2}");
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_what_is_missing_and_what_is_wrong() {
        let row = Row {
            release: "5.10.0-32".to_owned(),
            findings: Findings {
                lacks: vec!["read hook".to_owned()],
                means: vec![[25.0, 24.0, 23.0, 0.0], [35.0, 34.0, 33.0, 0.5]],
                exchanges: 340.0,
                faults: vec!["2 records were lost, and not 0".to_owned()],
                ..Findings::default()
            },
            seconds: 20.0,
            boots: 2,
        };
        let text = show(&[row]);
        for words in [
            "FAILED  no          nothing         340    25.00    24.00  23.00    35.00    34.00  33.00     0.50",
            "5.10.0-32: without `read hook`",
            "5.10.0-32 FAILED: 2 records were lost, and not 0",
            "5.10.0-32: started 2 times",
        ] {
            assert!(text.contains(words), "{words}\n{text}");
        }
    }
}
