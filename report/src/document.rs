//! A report in blocks, which Markdown and HTML write alike.

mod opening;
mod pairs;
mod whole;

pub(crate) use whole::name as place_name;

use crate::model::{Comparison, Kind, Report, Side, Verdict};

/// A piece of a page.
#[derive(Clone, Debug, PartialEq)]
pub enum Block {
    /// A heading: 1 is the page's.
    Heading(u8, String),
    /// Running text.
    Text(String),
    /// A conclusion.
    Answer(String),
    /// What is missing for one: a sentence, and the reasons.
    Refused(String, Vec<String>),
    /// Text in the first columns, figures in the others.
    Table(Table),
    /// A picture; Markdown has the table beside it.
    Chart(String),
}

/// A table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// Columns that are text.
    pub texts: usize,
    /// Names of the columns.
    pub head: Vec<String>,
    /// The rows; a row with a leading blank belongs to the one above.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    fn new<const N: usize>(texts: usize, head: [&str; N]) -> Self {
        Self {
            texts,
            head: head.map(str::to_owned).into(),
            rows: Vec::new(),
        }
    }
}

/// The whole report.
#[must_use]
pub fn document(report: &Report) -> Vec<Block> {
    let mut blocks = opening::blocks(report);
    for found in &report.comparisons {
        blocks.extend(comparison(report, found));
    }
    if report.comparisons.is_empty() {
        for side in [&report.without, &report.with].into_iter().flatten() {
            for kind in &side.kinds {
                blocks.extend(alone(side, kind, report.settings.min_coverage));
            }
        }
    }
    blocks.extend(pairs::coverage(report));
    blocks.push(Block::Heading(2, "How to read it".to_owned()));
    blocks.push(Block::Text(HOW_TO_READ.to_owned()));
    blocks
}

const HOW_TO_READ: &str = "\
Times are microseconds. Whole calls are the load generator's own: its clock runs from when a connection \
takes a call up until the last byte of the answer is read, so its quantiles and its maximum are exact to \
three digits. Hops and whole requests of a pair are the agents': first byte out to first byte back, means \
are exact (sum over count), quantiles are interpolated in a histogram's bucket (`<10` is below the first \
one), and of the slowest only its bucket is known. Means add up, quantiles do not. Queue is the time in \
which bytes wait in a socket until the process reads them. Intervals are of the runs: Student's t, between \
two targets Welch's.";

fn comparison(report: &Report, found: &Comparison) -> Vec<Block> {
    let (Some(without), Some(with)) = (&report.without, &report.with) else {
        return Vec::new();
    };
    let names = [without.name.as_str(), with.name.as_str()];
    let title = match found.method.as_str() {
        "any" => "All requests".to_owned(),
        method => method.to_owned(),
    };
    let mut blocks = vec![Block::Heading(2, title)];
    blocks.extend(whole::blocks(report, found, names));
    blocks.extend(pairs::compared(report, found, names));
    blocks
}

/// One target by itself.
fn alone(side: &Side, kind: &Kind, least: f64) -> Vec<Block> {
    let mut blocks = vec![Block::Heading(2, format!("{}, {}", kind.method, side.name))];
    blocks.extend(whole::alone(kind));
    if kind.verdict.is_carried() {
        let tables = kind.pairs.iter().flat_map(|pair| pairs::alone(side, pair));
        blocks.extend(tables);
    } else {
        blocks.push(refused("Where its time goes", &kind.verdict, least));
    }
    blocks
}

fn refused(what: &str, verdict: &Verdict, least: f64) -> Block {
    Block::Refused(
        format!(
            "{what} is not told: the coverage does not carry it ({} are asked for).",
            crate::figures::level(least)
        ),
        verdict.missing.clone(),
    )
}
