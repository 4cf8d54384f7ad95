//! Labs brought up for real: namespaces, NGINX, Envoy, load.
#![allow(clippy::unwrap_used, reason = "an error is the result of the test")]

mod common;

use std::thread;
use std::time::Duration;

use common::{assert_gone, options};
use hoptrace_lab::load::{LoadReport, LoadSpec, Schedule};
use hoptrace_lab::{
    AccessDirection, Container, Lab, LabOptions, Mode, Pod, Prometheus, Target, free_port,
};

/// `count` requests, one after the other.
fn requests(url: String, count: u64) -> LoadSpec {
    LoadSpec {
        url,
        method: "GET".into(),
        headers: Vec::new(),
        body: String::new(),
        connections: 1,
        schedule: Schedule::Count(count),
        request_ids: true,
    }
}

/// Median latency of a report.
fn median(report: &LoadReport) -> Duration {
    assert_eq!(report.failed, 0, "{:?}", report.failures);
    Duration::from_nanos(report.latency.p50_ns)
}

fn up(options: &LabOptions) -> Lab {
    let lab = Lab::up(options).unwrap();
    println!("{} up in {:?}", options.mode, lab.startup_time());
    lab
}

#[test]
fn labs_run_side_by_side() {
    let Some(mut mtls) = options("side", Mode::Mtls) else {
        return;
    };
    let mut none = mtls.clone();
    none.name.push_str("-none");
    none.dir.set_file_name(&none.name);
    none.mode = Mode::None;
    mtls.load_meshed = true;
    let (one, other) = thread::scope(|scope| {
        let one = scope.spawn(|| up(&mtls));
        let other = scope.spawn(|| up(&none));
        (one.join().unwrap(), other.join().unwrap())
    });
    for lab in [&one, &other] {
        assert!(lab.startup_time() < Duration::from_secs(2));
        for target in [Target::Page, Target::Info, Target::Gateway, Target::InfoV6] {
            let page = target == Target::Page;
            let path = if page { "" } else { "capitols?limit=1" };
            let url = lab.url(Pod::Load, target) + path;
            let report = lab.load(Pod::Load, &requests(url, 20)).unwrap();
            median(&report);
            assert_eq!(report.succeeded, 20);
        }
    }
    assert!(other.access_log(Pod::Info).is_err());
    assert!(other.pid(Pod::Info, Container::Sidecar).is_err());
    encrypted_from_end_to_end(&one);
    let names = [&one, &other].map(|lab| lab.state().name.clone());
    drop((one, other));
    names.iter().for_each(|name| assert_gone(name));
}

/// Of 80 requests 20 were for the page, 20 went through the gateway, 40 straight to capitol-info.
fn encrypted_from_end_to_end(lab: &Lab) {
    let limit = Duration::from_secs(5);
    let info = lab.wait_access_log(Pod::Info, 60, limit).unwrap();
    assert_eq!(info.len(), 60);
    for entry in &info {
        assert_eq!((entry.direction, entry.code), (AccessDirection::In, 200));
        assert_eq!(entry.tls, "TLSv1.3");
        assert!(
            entry.upstream_local.starts_with("127.0.0.6:")
                || entry.upstream_local.starts_with("[::6]:")
        );
        assert!(entry.req_leg_us.is_some() && entry.resp_leg_us.is_some());
    }
    let from_client = info
        .iter()
        .filter(|entry| entry.peer.ends_with("/sa/capitol-client"));
    assert_eq!(from_client.count(), 20);
    let client = lab.wait_access_log(Pod::Client, 60, limit).unwrap();
    let out: Vec<_> = client
        .iter()
        .filter(|entry| entry.direction == AccessDirection::Out)
        .collect();
    assert_eq!((client.len(), out.len()), (60, 20));
    for entry in out {
        // One identifier from end to end.
        assert!(!entry.request_id.is_empty());
        let same = info
            .iter()
            .filter(|seen| seen.request_id == entry.request_id);
        assert_eq!(same.count(), 1);
    }
    lab.clear_access_logs().unwrap();
    assert!(lab.access_log(Pod::Info).unwrap().is_empty());
    let url = lab.url(Pod::Load, Target::Info) + "capitols?limit=1";
    lab.load(Pod::Load, &requests(url, 1)).unwrap();
    assert_eq!(lab.wait_access_log(Pod::Info, 1, limit).unwrap().len(), 1);
}

#[test]
fn delays_are_where_they_were_asked_for() {
    let Some(mut options) = options("faults", Mode::Plain) else {
        return;
    };
    options.inbound_fault = Some(Duration::from_millis(30));
    options.outbound_fault = Some(Duration::from_millis(20));
    let lab = up(&options);
    let measure = |target, path: &str| {
        let url = lab.url(Pod::Load, target) + path;
        median(&lab.load(Pod::Load, &requests(url, 10)).unwrap())
    };
    let page = measure(Target::Page, "");
    let direct = measure(Target::Info, "capitols?limit=1");
    let gateway = measure(Target::Gateway, "capitols?limit=1");
    assert!(page < Duration::from_millis(20), "{page:?}");
    assert!(direct >= Duration::from_millis(30), "{direct:?}");
    assert!(gateway >= Duration::from_millis(50), "{gateway:?}");
    assert!(gateway - direct >= Duration::from_millis(15), "{gateway:?}");
    let log = lab.access_log(Pod::Info).unwrap();
    assert!(log.iter().all(|entry| entry.flags == "DI"), "{log:?}");
    lab.down().unwrap();
    assert_gone(&options.name);
}

#[test]
fn a_starved_container_is_slow_until_it_is_not() {
    let Some(options) = options("starve", Mode::Plain) else {
        return;
    };
    let lab = up(&options);
    let burn = || {
        let url = lab.url(Pod::Load, Target::Info) + "capitols?limit=1&burn_ms=5";
        median(&lab.load(Pod::Load, &requests(url, 20)).unwrap())
    };
    let usual = burn();
    let period = Duration::from_millis(100);
    let guard = lab.starve(Pod::Info, Container::App, 0.05, period).unwrap();
    let starved = burn();
    drop(guard);
    let again = burn();
    println!("usual {usual:?}, starved {starved:?}, again {again:?}");
    assert!(starved > usual * 4, "{usual:?} {starved:?}");
    assert!(again < starved / 2, "{again:?} {starved:?}");
    // Left in place: the lab takes it away.
    let _left = lab
        .starve(Pod::Info, Container::Sidecar, 0.5, period)
        .unwrap();
    assert!(lab.starve(Pod::Load, Container::App, 0.5, period).is_err());
    lab.down().unwrap();
    assert_gone(&options.name);
}

#[test]
fn what_fails_half_way_leaves_nothing() {
    use std::os::unix::fs::PermissionsExt;

    let Some(mut options) = options("half", Mode::Mtls) else {
        return;
    };
    let bin = std::env::temp_dir().join(&options.name);
    std::fs::create_dir(&bin).unwrap();
    for name in ["capitol-info", "hoptrace-load"] {
        let path = bin.join(name);
        std::fs::write(&path, "#!/bin/sh\necho no capitals today\nexit 1\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    options.bin_dir = bin.clone();
    let error = format!("{:#}", Lab::up(&options).unwrap_err());
    std::fs::remove_dir_all(bin).unwrap();
    println!("{error}");
    assert!(error.contains("no capitals today"), "{error}");
    assert_gone(&options.name);
}

#[test]
fn a_kept_lab_is_taken_down_by_name() {
    let Some(options) = options("kept", Mode::None) else {
        return;
    };
    up(&options).keep().unwrap();
    let error = Lab::up(&options).unwrap_err().to_string();
    assert!(error.contains("already up"), "{error}");
    let labs = Lab::list().unwrap();
    let lab = labs.iter().find(|lab| lab.name == options.name).unwrap();
    assert!(lab.kept && lab.processes.iter().all(|entry| entry.process.is_alive()));
    Lab::down_by_name(&options.name).unwrap();
    assert_gone(&options.name);
    assert!(Lab::down_by_name(&options.name).is_err());
}

#[test]
fn prometheus_answers_queries() {
    // It needs neither root nor a lab, but what installs one installs the other.
    let Some(options) = options("prometheus", Mode::None) else {
        return;
    };
    let lab = up(&options);
    let port = free_port().unwrap();
    let itself = format!("127.0.0.1:{port}").parse().unwrap();
    let prometheus = Prometheus::start(&lab.state().dir, port, &[itself]).unwrap();
    let limit = Duration::from_secs(20);
    let up = prometheus
        .wait_for("up{job=\"hoptrace\"} == 1", limit)
        .unwrap();
    assert_eq!(up[0].0["instance"], itself.to_string());
    assert_eq!(prometheus.query("1 + 1").unwrap()[0].1, 2.0);
    assert!(prometheus.query("sum(").is_err());
}
