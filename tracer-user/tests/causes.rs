//! A cause put into one hop shows in that hop, and in no other.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic fails the test"
)]

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
const ATTEMPTS: usize = 3;
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

/// Where the added time went, and what is wrong with that.
fn judge(what: &str, cause: Hop, before: &Means, after: &Means) -> Result<(), String> {
    let added = |hop: Option<Hop>| after[&hop] - before[&hop];
    let total = added(None);
    let share = |hop| added(Some(hop)) / total;
    let shares = Hop::ALL.map(|hop| format!("{} {:+.2} %", hop.as_str(), 100.0 * share(hop)));
    let told = format!("{what}: {total:+.2} ms; {}", shares.join(", "));
    println!("{told}");
    let lands = |hop| {
        if hop == cause {
            (0.95..=1.05).contains(&share(hop))
        } else {
            (-0.05..=0.02).contains(&share(hop))
        }
    };
    if total > 5.0 && Hop::ALL.into_iter().all(lands) {
        Ok(())
    } else {
        Err(told)
    }
}

/// Compares until the machine lets it: what another program does to the hops between two runs is
/// not the cause that was put in. A wrong attribution is wrong every time.
fn check(what: &str, cause: Hop, before: impl Fn() -> Means, after: impl Fn() -> Means) {
    let mut told = Vec::new();
    for _ in 0..ATTEMPTS {
        match judge(what, cause, &before(), &after()) {
            Ok(()) => return,
            Err(wrong) => told.push(wrong),
        }
    }
    panic!("{ATTEMPTS} times: {}", told.join("; "));
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
    let undisturbed = || means(&run(&base, &[]));
    check("20 ms in the app", Hop::App, undisturbed, || {
        means(&run(&base, &[("x-delay-ms", "20")]))
    });
    // Of one CPU; the app does little for a request.
    for (container, cause, quota) in [
        (Container::Sidecar, Hop::SidecarInbound, 0.05),
        (Container::App, Hop::App, 0.01),
    ] {
        let what = format!("starved {}", cause.as_str());
        check(&what, cause, undisturbed, || {
            let period = Duration::from_millis(100);
            let guard = base.starve(Pod::Info, container, quota, period).unwrap();
            let spec = spec(&base, STARVED_CONNECTIONS, STARVED);
            let requests = run_with(&base, &[], spec);
            drop(guard);
            let queue = queue_share(&requests, cause);
            println!("{what}: queue {:.1} %", 100.0 * queue);
            assert!(queue > 0.5, "{what}: most of it is queue, not {queue}");
            means(&requests)
        });
    }
    for (what, name, cause) in [
        (
            "20 ms in the inbound sidecar",
            "cause-in",
            Hop::SidecarInbound,
        ),
        (
            "20 ms in the outbound sidecar",
            "cause-out",
            Hop::SidecarOutbound,
        ),
    ] {
        let slow = lab(name, |options| match cause {
            Hop::SidecarInbound => options.inbound_fault = Some(DELAY),
            _ => options.outbound_fault = Some(DELAY),
        });
        let Some(slow) = slow else { return };
        check(what, cause, undisturbed, || means(&run(&slow, &[])));
    }
}

fn queue_share(requests: &[Request], hop: Hop) -> f64 {
    let parts = |part| {
        let sums = requests
            .iter()
            .map(|request| request.sum(|(at, _, of)| at == hop && of == part));
        sums.sum::<u64>() as f64
    };
    parts(Part::Queue) / (parts(Part::Queue) + parts(Part::Processing))
}
