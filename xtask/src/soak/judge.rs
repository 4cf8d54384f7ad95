//! What the agent counted beside what was asked.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::kinds::{Kind, Range};
use hoptrace_exposition::Exposition;

/// Exchanges of a TLS connection that are no request: each of its ends has one.
const HANDSHAKE: u64 = 2;
/// Of so many exchanges one may have no neighbour, beside a pair in each half: the kernel changes the port of
/// a connection that it redirects when another one has it, and the ends are not always found then.
const PER_UNPAIRED: u64 = 100_000;
/// Every value of the label `result`.
const FATES: [&str; 10] = [
    "paired",
    "unpaired",
    "continuation",
    "no_response",
    "handshake",
    "probe",
    "unsupported",
    "malformed",
    "evicted",
    "underway",
];

/// What the agent counted up to a moment.
pub(super) struct Fates {
    exchanges: [u64; FATES.len()],
    /// Requests told as those of the load pod.
    told: u64,
}

impl Fates {
    pub(super) fn of(exposition: &Exposition) -> Self {
        let sum = |name, labels: &[_]| exposition.sum_where(name, labels) as u64;
        let name = "hoptrace_request_duration_seconds_count";
        Self {
            exchanges: FATES.map(|fate| sum("hoptrace_exchanges_total", &[("result", fate)])),
            told: sum(name, &[("reporter", "source"), ("source_workload", "load")]),
        }
    }
}

/// The same half of all rounds.
pub(super) struct Half {
    what: &'static str,
    asked: Vec<(Kind, u64)>,
    /// TLS connections that were made.
    connections: u64,
    /// How often Envoy was asked for their number.
    looks: u64,
    counted: [u64; FATES.len()],
    told: u64,
}

impl Half {
    pub(super) fn new(what: &'static str) -> Self {
        Self {
            what,
            asked: Vec::new(),
            connections: 0,
            looks: 0,
            counted: [0; FATES.len()],
            told: 0,
        }
    }

    /// Adds a round.
    pub(super) fn add(
        &mut self,
        asked: &[(Kind, u64)],
        connections: u64,
        after: &Fates,
        before: &Fates,
    ) {
        for (kind, count) in asked {
            match self.asked.iter_mut().find(|(known, _)| known == kind) {
                Some((_, total)) => *total += count,
                None => self.asked.push((*kind, *count)),
            }
        }
        self.connections += connections;
        self.looks += 1;
        let more = after.exchanges.iter().zip(before.exchanges);
        for (counted, (after, before)) in self.counted.iter_mut().zip(more) {
            *counted += after - before;
        }
        self.told += after.told - before.told;
    }

    /// What must have become of the exchanges.
    fn explained(&self) -> BTreeMap<&'static str, Range> {
        let mut explained: BTreeMap<_, _> = FATES.into_iter().map(|fate| (fate, (0, 0))).collect();
        let fates = self.asked.iter().flat_map(|(kind, asked)| {
            let fates = kind.fates.iter();
            fates.map(move |(fate, (low, high))| (*fate, (asked * low / 100, asked * high / 100)))
        });
        let handshakes = self.connections * HANDSHAKE;
        let own = [
            ("handshake", (handshakes, handshakes)),
            ("probe", (self.looks, self.looks)),
        ];
        for (fate, more) in fates.chain(own) {
            let range = explained.entry(fate).or_default();
            *range = (range.0 + more.0, range.1 + more.1);
        }
        let paired = explained.entry("paired").or_default();
        let alone = paired.1 / PER_UNPAIRED + 2;
        paired.0 = paired.0.saturating_sub(alone);
        explained.entry("unpaired").or_default().1 += alone;
        explained
    }

    /// Tells it, and what is wrong with it.
    pub(super) fn judge(&self) -> Vec<String> {
        println!("\n{}:", self.what);
        let kinds = self.asked.iter();
        let kinds: Vec<_> = kinds
            .map(|(kind, asked)| format!("{asked} {}", kind.name))
            .collect();
        println!("{}\n", kinds.join(", "));
        println!("{:<16}{:>10}  explained", "", "counted");
        let explained = self.explained();
        let told = self.asked.iter().fold((0, 0), |told, (kind, asked)| {
            let (low, high) = kind.told;
            (told.0 + asked * low / 100, told.1 + asked * high / 100)
        });
        let mut wrong = Vec::new();
        let mut line = |what: &str, counted: u64, (low, high): Range| {
            let explained = if low == high {
                low.to_string()
            } else {
                format!("{low} to {high}")
            };
            println!("{what:<16}{counted:>10}  {explained}");
            if !(low..=high).contains(&counted) {
                wrong.push(format!("{counted} {what}, {explained} explained"));
            }
        };
        line("requests told", self.told, told);
        for (fate, counted) in FATES.into_iter().zip(self.counted) {
            let range = explained.get(fate).copied().unwrap_or_default();
            if (counted, range) != (0, (0, 0)) {
                line(fate, counted, range);
            }
        }
        wrong
    }
}

/// Holds the agent's last words against what it counted; prints them, and tells what is wrong.
///
/// # Errors
/// The log does not end with the books.
pub(super) fn books(halves: &[Half], log: &str) -> Result<Vec<String>> {
    let line = log
        .lines()
        .rev()
        .find_map(|line| line.split_once("detached: "));
    let (_, line) = line.context("the agent's log does not end with its books")?;
    println!("\nthe agent's last words: {line}");
    let counts = counts(line);
    let count = |name: &str| counts.get(name).copied().unwrap_or(0);
    let mut wrong = Vec::new();
    let settled: u64 = halves.iter().flat_map(|half| half.counted).sum();
    if !line.contains("balanced=true") || count("completed") != settled {
        wrong.push(format!(
            "{settled} exchanges have a fate: the books do not balance"
        ));
    }
    for lost in [
        "ring_full",
        "missed",
        "parse_error",
        "unknown_socket",
        "pending",
    ] {
        if count(lost) > 0 {
            wrong.push(format!("{} {lost}", count(lost)));
        }
    }
    Ok(wrong)
}

/// `name=12 paired/tuple=3 paired/worker_order=4 …`, the methods of a fate together.
fn counts(line: &str) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for word in line.split_whitespace() {
        if let Some((name, count)) = word.split_once('=')
            && let Ok(count) = count.parse::<u64>()
        {
            let name = name.split('/').next().unwrap_or(name);
            *counts.entry(name.to_owned()).or_default() += count;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::soak::kinds::ALL;

    fn half(kind: Kind, asked: u64, metrics: &str) -> Half {
        let mut half = Half::new("half");
        let counted = Fates::of(&Exposition::parse(metrics));
        let none = Fates::of(&Exposition::default());
        half.add(&[(kind, asked)], 1, &counted, &none);
        half
    }

    #[test]
    fn an_exchange_too_many_or_too_few_is_found() {
        let metrics = |paired: u64| {
            format!(
                "hoptrace_exchanges_total{{result=\"paired\"}} {paired}\n\
                 hoptrace_exchanges_total{{result=\"handshake\"}} 2\n\
                 hoptrace_exchanges_total{{result=\"probe\"}} 1\n\
                 hoptrace_request_duration_seconds_count{{reporter=\"source\",source_workload=\"load\"}} 100\n"
            )
        };
        for (paired, wrong) in [(600, 0), (598, 0), (597, 1), (601, 1)] {
            assert_eq!(half(ALL[0], 100, &metrics(paired)).judge().len(), wrong);
        }
        let books = |line: &str| {
            let halves = [half(ALL[0], 100, &metrics(600))];
            books(&halves, &format!("INFO detached: {line}")).unwrap()
        };
        let whole =
            "completed=603 paired/tuple=200 paired/worker_order=400 pending=0 balanced=true";
        assert!(books(whole).is_empty());
        assert_eq!(books(&whole.replace("603", "604")).len(), 1);
        assert_eq!(books(&whole.replace("pending=0", "missed=1")).len(), 1);
    }

    #[test]
    fn methods_of_a_fate_are_one_count() {
        let counts = counts("completed=9 paired/tuple=3 paired/worker_order=6 balanced=true");
        assert_eq!(counts.get("paired"), Some(&9));
        assert_eq!(counts.get("balanced"), None);
    }
}
