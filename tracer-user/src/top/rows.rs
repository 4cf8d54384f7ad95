//! The figures of the time between two looks.

use clap::ValueEnum;
use hoptrace_exposition::{Histogram, Hop, Pair, PairTotals, Step, Totals};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::Duration;

/// One pair of workloads.
#[derive(Clone, Debug)]
pub struct Row {
    /// Who calls whom.
    pub pair: Pair,
    /// Requests a second.
    pub rate: f64,
    /// Whole requests: as the caller saw them, or where it is not on this node, the called pod.
    pub whole: Histogram,
    /// Mean self time of each hop that was seen, seconds a request.
    pub hops: BTreeMap<Hop, f64>,
    /// What the hops are made of.
    pub steps: BTreeMap<Step, Histogram>,
}

impl Row {
    fn of(pair: &Pair, grown: PairTotals, time: Duration) -> Self {
        let whole = grown.whole().map(|(_, whole)| whole.clone());
        let whole = whole.unwrap_or_default();
        let hops = Hop::ALL
            .into_iter()
            .filter_map(|hop| {
                // Of a request that went through it.
                let through = grown.through(hop);
                (through > 0.0).then(|| (hop, grown.sum(|(of, _, _)| of == hop) / through))
            })
            .collect();
        Self {
            pair: pair.clone(),
            rate: whole.count / time.as_secs_f64().max(f64::MIN_POSITIVE),
            whole,
            hops,
            steps: grown.steps,
        }
    }

    /// Self times of all hops together, seconds a request.
    #[must_use]
    pub fn told(&self) -> f64 {
        self.hops.values().sum()
    }

    /// What the sidecars take, seconds a request.
    #[must_use]
    pub fn sidecars(&self) -> f64 {
        let of = |hop| self.hops.get(&hop).copied().unwrap_or_default();
        of(Hop::SidecarInbound) + of(Hop::SidecarOutbound)
    }

    /// Share of a hop in what is told of all, 0 to 1.
    #[must_use]
    pub fn share(&self, hop: Hop) -> f64 {
        let told = self.told();
        let own = self.hops.get(&hop).copied().unwrap_or_default();
        if told > 0.0 { own / told } else { 0.0 }
    }
}

/// A row for each pair that had requests between two looks.
#[must_use]
pub fn rows(before: &Totals, now: &Totals, time: Duration) -> Vec<Row> {
    let grown = now.since(before).0.into_iter();
    let rows = grown.map(|(pair, grown)| Row::of(&pair, grown, time));
    rows.filter(|row| row.whole.count > 0.0).collect()
}

/// What rows can be sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Column {
    /// Name of the caller.
    Source,
    /// Name of the called.
    Destination,
    /// Requests a second.
    Rate,
    /// Mean of whole requests.
    Mean,
    /// Their median.
    P50,
    /// What 99 of 100 stay below.
    P99,
    /// What both sidecars take.
    Sidecars,
}

impl Column {
    /// Those with this in a name, the greatest first; names by alphabet.
    #[must_use]
    pub fn sorted<'a>(self, rows: &'a [Row], filter: &str) -> Vec<&'a Row> {
        let number = |row: &Row| match self {
            Self::Rate => row.rate,
            Self::Mean => row.whole.mean().unwrap_or_default(),
            Self::P50 => row.whole.quantile(0.5).unwrap_or_default(),
            Self::P99 => row.whole.quantile(0.99).unwrap_or_default(),
            Self::Sidecars => row.sidecars(),
            Self::Source | Self::Destination => 0.0,
        };
        let wanted = rows.iter().filter(|row| row.pair.contains(filter));
        // A quantile goes through all buckets: once for each row, not for each comparison.
        let mut numbered: Vec<_> = wanted.map(|row| (number(row), row)).collect();
        numbered.sort_by(|(one_is, one), (other_is, other)| {
            let by_name = match self {
                Self::Destination => one.pair.destination.cmp(&other.pair.destination),
                _ => Ordering::Equal,
            };
            other_is
                .total_cmp(one_is)
                .then(by_name)
                .then_with(|| one.pair.cmp(&other.pair))
        });
        numbered.into_iter().map(|(_, row)| row).collect()
    }

    /// The one to the right, and after the last the first.
    #[must_use]
    pub fn next(self) -> Self {
        let all = Self::value_variants();
        let at = all.iter().position(|column| *column == self).unwrap_or(0);
        all.get(at + 1).or(all.first()).copied().unwrap_or(self)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use hoptrace_exposition::{Leg, Part, Reporter};

    /// `requests` with 1 ms in the app, half of it queue, 2 ms in each sidecar and 0.25 ms in each of the
    /// loopback's four ways; 8 ms as the caller saw it.
    pub(crate) fn totals(requests: f64) -> PairTotals {
        let many = |count: f64, each: f64| Histogram {
            count,
            sum: count * each,
            buckets: [("0.005", 0.0), ("0.01", count), ("+Inf", count)]
                .map(|(bound, value)| (bound.to_owned(), value))
                .into(),
        };
        let mut totals = PairTotals::default();
        totals
            .requests
            .insert(Reporter::Source, many(requests, 0.008));
        let steps = &mut totals.steps;
        for part in [Part::Queue, Part::Processing] {
            steps.insert((Hop::App, Leg::Both, part), many(requests, 0.0005));
        }
        // Every second request opened a connection, in no time.
        let step = (Hop::SidecarInbound, Leg::Request, Part::Connect);
        steps.insert(step, many(requests / 2.0, 0.0));
        for hop in [Hop::SidecarInbound, Hop::SidecarOutbound] {
            for leg in [Leg::Request, Leg::Response] {
                steps.insert((hop, leg, Part::Queue), many(requests, 0.0002));
                steps.insert((hop, leg, Part::Processing), many(requests, 0.0008));
            }
        }
        for leg in [Leg::Request, Leg::Response] {
            let step = (Hop::Loopback, leg, Part::Whole);
            steps.insert(step, many(2.0 * requests, 0.000_25));
        }
        totals
    }

    pub(crate) fn two_looks() -> Vec<Row> {
        let pair = |name: &str| Pair {
            source: "client.shop".into(),
            destination: format!("{name}.shop"),
            service: name.into(),
        };
        let before = Totals([(pair("orders"), totals(100.0)), (pair("idle"), totals(5.0))].into());
        let now = Totals(
            [
                (pair("orders"), totals(300.0)),
                (pair("idle"), totals(5.0)),
                (pair("stock"), totals(20.0)),
            ]
            .into(),
        );
        rows(&before, &now, Duration::from_secs(2))
    }

    #[test]
    fn rows_are_of_what_came_between_two_looks() {
        let rows = two_looks();
        let rates: Vec<_> = rows
            .iter()
            .map(|row| (row.pair.service.as_str(), row.rate))
            .collect();
        assert_eq!(rates, [("orders", 100.0), ("stock", 10.0)]);
        let orders = rows.first().unwrap();
        let close =
            |found: f64, wanted: f64| assert!((found - wanted).abs() < 1e-9, "{found} {wanted}");
        close(orders.whole.mean().unwrap(), 0.008);
        for (hop, wanted) in [
            (Hop::App, 0.001),
            (Hop::SidecarInbound, 0.002),
            (Hop::SidecarOutbound, 0.002),
            (Hop::Loopback, 0.001),
        ] {
            close(orders.hops[&hop], wanted);
        }
        assert!(!orders.hops.contains_key(&Hop::Network));
        close(orders.share(Hop::SidecarInbound), 2.0 / 6.0);
        close(orders.sidecars(), 0.004);
    }

    #[test]
    fn rows_are_sorted_by_each_column() {
        let rows = two_looks();
        let first = |column: Column| {
            let sorted = column.sorted(&rows, "");
            assert_eq!(sorted.len(), 2);
            sorted.first().unwrap().pair.service.clone()
        };
        assert_eq!(first(Column::Rate), "orders");
        assert_eq!(first(Column::Destination), "orders");
        let mut column = Column::Source;
        for _ in Column::value_variants() {
            first(column);
            column = column.next();
        }
        assert_eq!(column, Column::Source);
    }
}
