//! What following HTTP/2 costs: those who speak something else, and those who speak it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use hoptrace_lab::load::Schedule;
use hoptrace_lab::{Lab, Mode};
use tracer_user::join::Chain;
use tracer_user::model::RequestTimes;
use tracer_user::tracer::{Requests, monotonic_now};

use crate::ends::Bench;
use crate::mesh::{self, Tracing, load, spec};
use crate::programs::{self, NODE, h2load};

struct Nobody;

impl Requests for Nobody {
    fn request(&mut self, _chain: &Chain<'_>, _times: &RequestTimes) {}
}

/// What each program takes while `work` makes so many requests.
fn account(what: &str, lab: &Lab, http2: bool, work: impl FnOnce() -> usize) {
    let tracing = Tracing {
        http2,
        ..Tracing::default()
    };
    let _accounting = aya::sys::enable_stats(aya::sys::Stats::RunTime).unwrap();
    let mut agent = mesh::start(lab, &tracing);
    let done = AtomicBool::new(false);
    let requests = thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                while agent.drain(&mut Nobody).unwrap() {}
                agent.advance(monotonic_now(), &mut Nobody).unwrap();
                thread::sleep(Duration::from_millis(50));
            }
        });
        let requests = work();
        done.store(true, Ordering::Release);
        requests
    });
    println!("{what}, --http2 {}", if http2 { "on" } else { "off" });
    let mut sum = 0.0;
    for (program, cost) in agent.costs() {
        let us = cost.run_time_ns as f64 / 1e3 / requests as f64;
        sum += us;
        println!(
            "  {program}: {:.0} ns a run, {:.2} runs and {us:.2} µs a request",
            cost.run_time_ns as f64 / cost.runs.max(1) as f64,
            cost.runs as f64 / requests as f64,
        );
    }
    println!("  all: {sum:.2} µs a request of {requests}");
}

#[test]
#[ignore = "measures; meaningful on a quiet machine only"]
fn what_following_costs() {
    let Some(lab) = mesh::lab("h2-cost", Mode::Mtls, |_| {}) else {
        return;
    };
    load(&lab, &spec(&lab, 8, Schedule::Count(1_000)));
    for http2 in [false, true, false, true] {
        account("HTTP/1.1, six sockets", &lab, http2, || {
            let rate = Schedule::Rate {
                per_second: 2_000.0,
                seconds: 4.0,
            };
            load(&lab, &spec(&lab, 8, rate)).succeeded as usize
        });
    }
    drop(lab);
    let lab = mesh::lab("h2-cost-none", Mode::None, |_| {}).unwrap();
    let bench = Bench { lab: &lab };
    let _servers = programs::serve(&bench);
    for in_flight in [1, 100] {
        let what = format!("h2load, {in_flight} in flight, two sockets");
        account(&what, &lab, true, || h2load(&bench, NODE, in_flight).len());
    }
}
