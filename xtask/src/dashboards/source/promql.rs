//! The few shapes that the dashboards' queries have.
//!
//! A mean is a rate of sums over a rate of requests. A quantile is of a bucket of single requests'
//! self times. Nothing else is divided, and no quantile is added.

const HOPS: &str = "hoptrace_hop_duration_seconds";
const REQUESTS: &str = "hoptrace_request_duration_seconds";

/// Labels that make a pair of services.
const PAIR: &str = "source_workload_namespace, source_workload, destination_workload_namespace, \
                    destination_workload";

/// Which window a panel looks back over.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Over {
    /// As short as the scrapes allow: for lines over time.
    Moment,
    /// The whole time that the page shows: for tables and bars.
    Page,
}

impl Over {
    pub(crate) fn window(self) -> &'static str {
        match self {
            Self::Moment => "$__rate_interval",
            Self::Page => "$__range",
        }
    }
}

/// Which end of a request tells.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reporter {
    Source,
    Destination,
}

impl Reporter {
    fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Destination => "destination",
        }
    }
}

/// Requests that are looked at: matchers of labels, and a window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Select {
    pub(crate) matchers: &'static str,
    pub(crate) over: Over,
}

/// `sum by (labels) (…)`; without labels a sum over everything.
pub(crate) fn sum_by(labels: &str, inner: &str) -> String {
    if labels.is_empty() {
        format!("sum({inner})")
    } else {
        format!("sum by ({labels}) ({inner})")
    }
}

impl Select {
    pub(crate) fn new(matchers: &'static str, over: Over) -> Self {
        Self { matchers, over }
    }

    fn rate(self, series: &str, more: &str) -> String {
        let (matchers, window) = (self.matchers, self.over.window());
        let comma = if more.is_empty() || matchers.is_empty() {
            ""
        } else {
            ", "
        };
        format!("rate({series}{{{matchers}{comma}{more}}}[{window}])")
    }

    /// Seconds spent in hops, each second.
    pub(crate) fn hop_seconds(self, by: &str, more: &str) -> String {
        sum_by(by, &self.rate(&format!("{HOPS}_sum"), more))
    }

    /// Seconds that an end of requests saw pass, each second.
    pub(crate) fn seconds(self, reporter: Reporter, by: &str, more: &str) -> String {
        self.of_requests("sum", reporter, by, more)
    }

    /// Requests a second that an end saw.
    pub(crate) fn seen(self, reporter: Reporter, by: &str, more: &str) -> String {
        self.of_requests("count", reporter, by, more)
    }

    fn of_requests(self, what: &str, reporter: Reporter, by: &str, more: &str) -> String {
        let comma = if more.is_empty() { "" } else { ", " };
        let more = format!("reporter=\"{}\"{comma}{more}", reporter.name());
        sum_by(by, &self.rate(&format!("{REQUESTS}_{what}"), &more))
    }

    /// Requests that are counted, each second: each pair's as its client saw them, and as its server saw
    /// them where the client is not traced. Pairs without a request are left out.
    pub(crate) fn requests(self, by: &str, more: &str) -> String {
        let mut labels = PAIR.to_owned();
        for label in by.split(", ").filter(|label| !label.is_empty()) {
            if !PAIR.split(", ").any(|of_pair| of_pair == label) {
                labels = format!("{labels}, {label}");
            }
        }
        let source = self.seen(Reporter::Source, &labels, more);
        let destination = self.seen(Reporter::Destination, &labels, more);
        // By pair, whatever other labels the two ends disagree on.
        sum_by(
            by,
            &format!("({source} > 0) or on ({PAIR}) ({destination} > 0)"),
        )
    }

    /// What is counted a second, also where `--trace-windows` has the agents look at a part of the time:
    /// all of a DaemonSet's look at the same part.
    pub(crate) fn per_second(self, counted: &str) -> String {
        let traced = format!(
            "rate(hoptrace_traced_seconds_total[{}])",
            self.over.window()
        );
        format!("{counted} / scalar(max({traced}))")
    }

    /// Mean seconds in hops for each request. Of the labels `by`, those `beside` are no labels of
    /// a request (`hop`, `leg`, `part`); both lists in the order that they have in `by`.
    pub(crate) fn hop_mean(self, by: &str, beside: &str, more: &str) -> String {
        let of_requests: Vec<_> = by
            .split(", ")
            .filter(|label| !beside.split(", ").any(|other| other == *label))
            .filter(|label| !label.is_empty())
            .collect();
        let requests = self.requests(&of_requests.join(", "), "");
        let hops = self.hop_seconds(by, more);
        if beside.is_empty() {
            format!("{hops} / {requests}")
        } else {
            format!("{hops} / ignoring ({beside}) group_left () {requests}")
        }
    }

    /// Mean seconds of a whole request as one end saw it.
    pub(crate) fn mean(self, reporter: Reporter, by: &str, more: &str) -> String {
        let seconds = self.seconds(reporter, by, more);
        let seen = self.seen(reporter, by, more);
        format!("{seconds} / ({seen} > 0)")
    }

    /// A quantile of hops' self times.
    pub(crate) fn hop_quantile(self, quantile: f64, by: &str, more: &str) -> String {
        let buckets = self.rate(&format!("{HOPS}_bucket"), more);
        quantile_of(quantile, by, &buckets)
    }

    /// A quantile of whole requests as one end saw them.
    pub(crate) fn quantile(self, quantile: f64, reporter: Reporter, by: &str) -> String {
        let more = format!("reporter=\"{}\"", reporter.name());
        let buckets = self.rate(&format!("{REQUESTS}_bucket"), &more);
        quantile_of(quantile, by, &buckets)
    }

    /// Requests by bucket of a hop's self time.
    pub(crate) fn hop_heatmap(self, more: &str) -> String {
        let rate = self.rate(&format!("{HOPS}_bucket"), more);
        sum_by("le", &rate.replacen("rate(", "increase(", 1))
    }

    /// Requests by bucket of what an end saw.
    pub(crate) fn heatmap(self, reporter: Reporter) -> String {
        let more = format!("reporter=\"{}\"", reporter.name());
        let rate = self.rate(&format!("{REQUESTS}_bucket"), &more);
        sum_by("le", &rate.replacen("rate(", "increase(", 1))
    }

    /// Mean seconds on the network for each request, also between nodes: what the client waited,
    /// less what the server took, less the calling sidecar and its loopback connection.
    ///
    /// The loopback connections of both pods are in one series: the caller has its part by the
    /// number of sidecars passed. Nothing where sidecars are passed and not measured, as gRPC's under
    /// mutual TLS: they would be taken for network. The rule `pair:hoptrace_network_seconds:mean_rate5m`
    /// is the same.
    pub(crate) fn network_by_difference(self, by: &str) -> String {
        let wait = self.mean(Reporter::Source, by, "");
        let server = self.mean(Reporter::Destination, by, "");
        let seen = self.seen(Reporter::Source, by, "");
        let outbound = self.hop_seconds(by, "hop=\"sidecar_outbound\"");
        let loopback = self.hop_seconds(by, "hop=\"loopback\"");
        // One of either part for each pass of a sidecar; `connect` comes beside them, and `wire` is of
        // the network only.
        let passes = |hop: &str| {
            let more = format!("hop{hop}, leg=\"request\", part=~\"processing|whole\"");
            sum_by(by, &self.rate(&format!("{HOPS}_count"), &more))
        };
        let [out, sidecars, loopbacks] =
            ["=\"sidecar_outbound\"", "=~\"sidecar_.+\"", "=\"loopback\""].map(passes);
        format!(
            "{wait} - {server} \
             - (({outbound} / {seen}) or 0 * {seen}) \
             - (({loopback} / {seen} * {out} / {sidecars}) or 0 * {seen}) \
             unless {loopbacks} > 1.05 * ({sidecars} or 0 * {loopbacks})"
        )
    }
}

fn quantile_of(quantile: f64, by: &str, buckets: &str) -> String {
    let comma = if by.is_empty() { "" } else { ", " };
    let sum = sum_by(&format!("le{comma}{by}"), buckets);
    format!("histogram_quantile({quantile}, {sum})")
}

/// Puts both workloads into one label `pair`.
pub(crate) fn with_pair(expr: &str) -> String {
    format!("label_join({expr}, \"pair\", \" → \", \"source_workload\", \"destination_workload\")")
}
