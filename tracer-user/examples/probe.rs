use std::collections::HashMap;
use std::net::SocketAddr;
use tracer_user::{decode::*, join::*, load::*, model::*, tracer::*};
struct NoId;
impl Identity for NoId {
    fn by_cgroup(&mut self, _: u64, _: u32) -> Option<Workload> {
        None
    }
    fn by_ip(&mut self, _: std::net::IpAddr) -> Option<Workload> {
        None
    }
    fn service(&mut self, _: SocketAddr) -> Option<std::sync::Arc<str>> {
        None
    }
    fn is_proxy(&mut self, _: u64, tgid: u32) -> Option<bool> {
        std::fs::read_to_string(format!("/proc/{tgid}/comm"))
            .ok()
            .map(|c| c.trim() == "envoy")
    }
}
#[derive(Default)]
struct All {
    chains: Vec<[Option<Exchange>; 6]>,
    hops: HashMap<(Hop, Leg, Part), Vec<u64>>,
}
impl Requests for All {
    fn request(&mut self, c: &Chain<'_>, t: &RequestTimes) {
        self.chains.push(
            [
                c.app_client,
                c.outbound_server,
                c.outbound_client,
                c.inbound_server,
                c.inbound_client,
                c.app_server,
            ]
            .map(|e| e.cloned()),
        );
        for h in &t.hops {
            self.hops
                .entry((h.hop, h.leg, h.part))
                .or_default()
                .push(h.duration_ns);
        }
    }
}
fn q(v: &mut Vec<u64>) -> String {
    v.sort();
    if v.is_empty() {
        return "-".into();
    }
    let n = v.len();
    format!(
        "n {} mean {:.2} p50 {:.1} p90 {:.1} p99 {:.1}",
        n,
        v.iter().sum::<u64>() as f64 / n as f64 / 1e3,
        v[n / 2] as f64 / 1e3,
        v[n * 9 / 10] as f64 / 1e3,
        v[n * 99 / 100] as f64 / 1e3
    )
}
fn main() {
    let root = std::env::args().nth(1).unwrap();
    let secs: u64 = std::env::args().nth(2).unwrap().parse().unwrap();
    let logs: Vec<String> = std::env::args().skip(3).collect();
    let _s = aya::sys::enable_stats(aya::sys::Stats::RunTime).unwrap();
    let mut t = Tracer::start(
        &LoadOptions {
            cgroup_root: root.into(),
            ring_bytes: std::env::var("RING")
                .ok()
                .and_then(|x| x.parse().ok())
                .unwrap_or(4 << 20),
            read_hook: ReadHook::Auto,
            headers: Headers::AppLegs,
            log_level: 0,
        },
        JoinConfig {
            hold_ns: 250_000_000,
            max_pending: 1 << 18,
        },
        Box::new(NoId),
    )
    .unwrap();
    let mut empty = aya::Ebpf::load(aya::include_bytes_aligned!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../target/bpf/hoptrace.o"
    )))
    .unwrap();
    if std::env::var("EMPTY").is_ok() {
        use aya::programs::*;
        let cg = std::fs::File::open(std::env::args().nth(1).unwrap()).unwrap();
        for (n, d) in [
            ("empty_ingress", CgroupSkbAttachType::Ingress),
            ("empty_egress", CgroupSkbAttachType::Egress),
        ] {
            let p: &mut CgroupSkb = empty.program_mut(n).unwrap().try_into().unwrap();
            p.load().unwrap();
            p.attach(&cg, d, CgroupAttachMode::Single).unwrap();
        }
        let btf = aya::Btf::from_sys_fs().unwrap();
        let p: &mut BtfTracePoint = empty.program_mut("empty_read").unwrap().try_into().unwrap();
        p.load("tcp_rcv_space_adjust", &btf).unwrap();
        p.attach().unwrap();
    }
    eprintln!("attached");
    let start = std::time::Instant::now();
    let off = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_nanos() as i128
        - monotonic_now() as i128;
    let mut all = All::default();
    while start.elapsed().as_secs() < secs {
        while t.drain(&mut all).unwrap() {}
        t.advance(monotonic_now(), &mut all);
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let costs = t.hooks().costs();
    let b = t.finish(&mut all).unwrap();
    println!("{b} balance {}", b.balance());
    let ru = std::fs::read_to_string("/proc/self/stat").unwrap();
    let f: Vec<&str> = ru.rsplit(')').next().unwrap().split_whitespace().collect();
    let n = all.chains.len();
    println!("chains {n} cpu ticks {} {}", f[11], f[12]);
    if std::env::var("EMPTY").is_ok() {
        for n in ["empty_ingress", "empty_egress", "empty_read"] {
            let i = match empty.program(n).unwrap() {
                aya::programs::Program::CgroupSkb(p) => p.info(),
                aya::programs::Program::BtfTracePoint(p) => p.info(),
                _ => unreachable!(),
            }
            .unwrap();
            println!(
                "{n} {} runs {} ns each",
                i.run_count(),
                i.run_time().as_nanos() as u64 / i.run_count().max(1)
            );
        }
    }
    let mut tot = 0;
    for (n, c) in costs {
        tot += c.run_time_ns;
        println!(
            "{n} {} runs {} ns each",
            c.runs,
            c.run_time_ns / c.runs.max(1)
        );
    }
    println!("kernel ns per chain {}", tot / n.max(1) as u64);
    let mut keys: Vec<_> = all.hops.keys().copied().collect();
    keys.sort();
    for k in keys {
        println!("{k:?} {}", q(all.hops.get_mut(&k).unwrap()));
    }
    // truth
    for (dir, s, c, log) in [("out", 1, 2, &logs[0]), ("in", 3, 4, &logs[1])] {
        let mut by: HashMap<SocketAddr, Vec<&Exchange>> = HashMap::new();
        let mut cl: HashMap<SocketAddr, Vec<&Exchange>> = HashMap::new();
        let mut found: HashMap<(u64, u32), (u64, u32)> = HashMap::new();
        for ch in &all.chains {
            if let Some(e) = &ch[s] {
                by.entry(e.remote).or_default().push(e);
            }
            if let Some(e) = &ch[c] {
                cl.entry(e.local).or_default().push(e);
            }
            if let (Some(a), Some(b)) = (&ch[s], &ch[c]) {
                found.insert((a.cookie, a.index), (b.cookie, b.index));
            }
        }
        for v in by.values_mut().chain(cl.values_mut()) {
            v.sort_by_key(|e| e.request_first);
        }
        let (mut entries, mut nos, mut noc, mut same, mut other, mut unp) = (0, 0, 0, 0, 0, 0);
        let (mut treq, mut tresp, mut preq, mut presp) = (vec![], vec![], vec![], vec![]);
        for line in std::fs::read_to_string(log).unwrap().lines() {
            let j: serde_json::Value = serde_json::from_str(line).unwrap();
            if j["dir"] != dir {
                continue;
            }
            let (Some(r), Some(u)) = (j["ds_remote"].as_str(), j["up_local"].as_str()) else {
                continue;
            };
            let (Ok(r), Ok(u)): (Result<SocketAddr, _>, Result<SocketAddr, _>) =
                (r.parse(), u.parse())
            else {
                continue;
            };
            entries += 1;
            let st: i128 = j["start_us"]
                .as_str()
                .map(|s| s.parse().unwrap())
                .or(j["start_us"].as_i64().map(|x| x as i128))
                .unwrap();
            let at = (st * 1000 - off) as u64;
            let Some(se) = by.get(&r).and_then(|v| {
                v.iter()
                    .find(|e| e.request_first <= at + 100_000 && at <= e.response_first)
            }) else {
                nos += 1;
                continue;
            };
            let Some(ce) = cl.get(&u).and_then(|v| {
                v.iter().find(|e| {
                    e.request_first >= se.request_taken() && e.response_taken() <= se.response_first
                })
            }) else {
                noc += 1;
                continue;
            };
            treq.push(ce.request_first - se.request_first);
            tresp.push(se.response_first - ce.response_first);
            match found.get(&(se.cookie, se.index)) {
                None => unp += 1,
                Some(x) if *x == (ce.cookie, ce.index) => same += 1,
                _ => other += 1,
            }
        }
        for ch in &all.chains {
            if let (Some(a), Some(b)) = (&ch[s], &ch[c]) {
                preq.push(b.request_first - a.request_first);
                presp.push(a.response_first - b.response_first);
            }
        }
        println!(
            "{dir}: entries {entries} no-server {nos} no-client {noc} same {same} other {other} unpaired {unp}"
        );
        println!(
            "  true req  {}\n  our  req  {}\n  true resp {}\n  our  resp {}",
            q(&mut treq),
            q(&mut preq),
            q(&mut tresp),
            q(&mut presp)
        );
    }
}
