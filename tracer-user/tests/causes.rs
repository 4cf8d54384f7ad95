//! A cause put into one hop shows in that hop, and in no other.
#![allow(clippy::unwrap_used, reason = "an error is the result of the test")]

mod mesh;

use std::collections::BTreeMap;
use std::time::Duration;

use hoptrace_lab::load::{LoadSpec, Schedule};
use hoptrace_lab::{Container, Lab, LabOptions, Mode, Pod};
use mesh::{Request, Tracing, load, spec, trace};
use tracer_user::model::{Hop, Part, Reporter};

const DELAY: Duration = Duration::from_millis(20);
/// Few enough that nothing else becomes slow by itself.
const RATE: Schedule = Schedule::Rate {
    per_second: 150.0,
    seconds: 4.0,
};
const CONNECTIONS: usize = 32;
/// A starved process is given all that it can take: only then is it out of CPU time.
const STARVED: Schedule = Schedule::Seconds(4.0);
const STARVED_CONNECTIONS: usize = 8;

/// Mean self times of the hops, milliseconds; under `None` the client's total.
type Means = BTreeMap<Option<Hop>, f64>;

fn means(requests: &[Request]) -> Means {
    let whole: Vec<_> = requests
        .iter()
        .filter(|request| request.is_whole())
        .collect();
    let enough = whole.len() >= 200 && whole.len() as f64 >= 0.98 * requests.len() as f64;
    assert!(
        enough,
        "{} whole of {} requests",
        whole.len(),
        requests.len()
    );
    let mean = |of: &dyn Fn(&Request) -> u64| {
        whole.iter().map(|request| of(request)).sum::<u64>() as f64 / 1e6 / whole.len() as f64
    };
    let total = |request: &Request| {
        let (_, total) = request
            .times
            .totals
            .iter()
            .find(|(who, _)| *who == Reporter::Source)
            .unwrap();
        *total
    };
    Hop::ALL
        .into_iter()
        .map(|hop| (Some(hop), mean(&|request| request.hop(hop))))
        .chain([(None, mean(&total))])
        .collect()
}

fn run(lab: &Lab, headers: &[(&str, &str)]) -> Vec<Request> {
    run_with(lab, headers, spec(lab, CONNECTIONS, RATE))
}

fn run_with(lab: &Lab, headers: &[(&str, &str)], spec: LoadSpec) -> Vec<Request> {
    let headers = headers
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()));
    let spec = LoadSpec {
        headers: headers.collect(),
        ..spec
    };
    let tracing = Tracing {
        // A starved sidecar answers late.
        hold: Duration::from_secs(1),
        ..Tracing::default()
    };
    trace(lab, &tracing, || load(lab, &spec)).requests
}

fn check(what: &str, cause: Hop, before: &Means, after: &Means) {
    let added = |hop: Option<Hop>| after[&hop] - before[&hop];
    let total = added(None);
    print!("{what}: {total:+.2} ms;");
    for hop in Hop::ALL {
        print!(
            " {} {:+.2} %",
            hop.as_str(),
            100.0 * added(Some(hop)) / total
        );
    }
    println!();
    assert!(total > 5.0, "{what}: only {total} ms were added");
    for hop in Hop::ALL {
        let share = added(Some(hop)) / total;
        if hop == cause {
            assert!(share >= 0.95, "{what}: {} has {share}", hop.as_str());
        } else {
            assert!(share <= 0.02, "{what}: {} has {share}", hop.as_str());
        }
    }
}

fn lab(name: &str, change: impl FnOnce(&mut LabOptions)) -> Option<Lab> {
    let lab = mesh::lab(name, Mode::Mtls, change)?;
    // Connections open before anything is compared.
    load(&lab, &spec(&lab, CONNECTIONS, Schedule::Count(200)));
    Some(lab)
}

#[test]
fn every_cause_lands_in_its_hop() {
    let Some(base) = lab("cause", |_| {}) else {
        return;
    };
    let before = means(&run(&base, &[]));

    let slow_app = means(&run(&base, &[("x-delay-ms", "20")]));
    check("20 ms in the app", Hop::App, &before, &slow_app);

    // Of one CPU; the app does little for a request.
    for (container, cause, quota) in [
        (Container::Sidecar, Hop::SidecarInbound, 0.05),
        (Container::App, Hop::App, 0.01),
    ] {
        let what = format!("starved {}", cause.as_str());
        let period = Duration::from_millis(100);
        let guard = base.starve(Pod::Info, container, quota, period).unwrap();
        let spec = spec(&base, STARVED_CONNECTIONS, STARVED);
        let requests = run_with(&base, &[], spec);
        drop(guard);
        check(&what, cause, &before, &means(&requests));
        let parts = |part| {
            let sums = requests
                .iter()
                .map(|request| request.sum(|(hop, _, of)| hop == cause && of == part));
            sums.sum::<u64>() as f64
        };
        let queue = parts(Part::Queue) / (parts(Part::Queue) + parts(Part::Processing));
        println!("{what}: queue {:.1} %", 100.0 * queue);
        assert!(queue > 0.5, "{what}: most of it is queue, not {queue}");
    }
    drop(base);

    let Some(inbound) = lab("cause-in", |options| options.inbound_fault = Some(DELAY)) else {
        return;
    };
    check(
        "20 ms in the inbound sidecar",
        Hop::SidecarInbound,
        &before,
        &means(&run(&inbound, &[])),
    );
    drop(inbound);
    let Some(outbound) = lab("cause-out", |options| options.outbound_fault = Some(DELAY)) else {
        return;
    };
    check(
        "20 ms in the outbound sidecar",
        Hop::SidecarOutbound,
        &before,
        &means(&run(&outbound, &[])),
    );
}
