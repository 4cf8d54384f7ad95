//! Plain aligned text.

use std::fmt;

/// Between two columns.
const GAP: usize = 2;
/// The widest a table may become, columns of a terminal.
#[cfg(test)]
pub(super) const WIDEST: usize = 110;

/// Rows under a heading. The first columns are text, the others are figures.
#[derive(Debug)]
pub(super) struct Table {
    texts: usize,
    rows: Vec<Row>,
}

#[derive(Debug)]
enum Row {
    Cells(Vec<String>),
    /// A title over so many columns, ruled to their width; an empty one leaves them blank.
    Spans(Vec<(usize, String)>),
    Rule,
}

impl Table {
    /// A table whose first columns are text, aligned to the left.
    pub(super) fn new<S: Into<String>>(texts: usize, heading: impl IntoIterator<Item = S>) -> Self {
        let mut table = Self {
            texts,
            rows: Vec::new(),
        };
        table.row(heading);
        table
    }

    pub(super) fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows
            .push(Row::Cells(cells.into_iter().map(Into::into).collect()));
    }

    /// Titles above the heading.
    pub(super) fn spans<S: Into<String>>(&mut self, spans: impl IntoIterator<Item = (usize, S)>) {
        let spans = spans.into_iter().map(|(n, title)| (n, title.into()));
        self.rows.insert(0, Row::Spans(spans.collect()));
    }

    pub(super) fn rule(&mut self) {
        self.rows.push(Row::Rule);
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths = Vec::new();
        for row in &self.rows {
            let Row::Cells(cells) = row else { continue };
            widths.resize(cells.len().max(widths.len()), 0);
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = length(cell).max(*width);
            }
        }
        widths
    }

    fn cells(&self, cells: &[String], widths: &[usize]) -> String {
        let mut line = String::new();
        for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
            let blank = " ".repeat(width.saturating_sub(length(cell)));
            if column > 0 {
                line.push_str(&" ".repeat(GAP));
            }
            if column < self.texts {
                line.push_str(cell);
                line.push_str(&blank);
            } else {
                line.push_str(&blank);
                line.push_str(cell);
            }
        }
        line
    }
}

fn spans(spans: &[(usize, String)], widths: &[usize]) -> String {
    let mut rest = widths;
    let mut line = String::new();
    for (columns, title) in spans {
        let (covered, after) = rest.split_at_checked(*columns).unwrap_or((rest, &[]));
        rest = after;
        let width = covered.iter().sum::<usize>() + GAP * covered.len().saturating_sub(1);
        if !line.is_empty() {
            line.push_str(&" ".repeat(GAP));
        }
        if title.is_empty() {
            line.push_str(&" ".repeat(width));
            continue;
        }
        let titled = format!(" {title} ");
        let left = width.saturating_sub(length(&titled));
        line.push_str(&"─".repeat(left / 2));
        line.push_str(&titled);
        line.push_str(&"─".repeat(left - left / 2));
    }
    line
}

/// Columns of a terminal: no character of ours takes two.
fn length(text: &str) -> usize {
    text.chars().count()
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        let whole = widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1);
        for row in &self.rows {
            let line = match row {
                Row::Cells(cells) => self.cells(cells, &widths),
                Row::Spans(titles) => spans(titles, &widths),
                Row::Rule => "─".repeat(whole),
            };
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(2, ["hop", "leg", "mean", "p99", "mean", "p99"]);
        table.spans([(2, ""), (2, "without"), (2, "with sidecars")]);
        table.row(["network", "both", "1,234.5", "2,000", "17.1", "30"]);
        table.row(["app", "", "9.0", "<10", "-", "-"]);
        table.rule();
        table.row(["total", "", "1,243.5"]);
        assert_eq!(
            table.to_string(),
            "               ── without ───   with sidecars \n\
             hop      leg      mean    p99  mean  p99\n\
             network  both  1,234.5  2,000  17.1   30\n\
             app                9.0    <10     -    -\n\
             ────────────────────────────────────────\n\
             total          1,243.5\n"
                .replace(" \n", "\n")
        );
    }
}
