use tracer_user::{decode, load::*, ring};
fn main() {
    let root = std::env::args().nth(1).unwrap();
    let secs: u64 = std::env::args().nth(2).unwrap().parse().unwrap();
    let _s = aya::sys::enable_stats(aya::sys::Stats::RunTime).unwrap();
    let (h, mut r) = match Hooks::attach(&LoadOptions {
        cgroup_root: root.into(),
        ring_bytes: 4 << 20,
        read_hook: ReadHook::Auto,
        headers: Headers::AppLegs,
    }) {
        Ok(x) => x,
        Err(e) => {
            let mut s: Option<&dyn std::error::Error> = Some(&e);
            while let Some(x) = s {
                eprintln!("{x}");
                s = x.source();
            }
            std::process::exit(1)
        }
    };
    eprintln!("attached");
    let t = std::time::Instant::now();
    while t.elapsed().as_secs() < secs {
        while ring::drain(&mut r, |b| println!("{:?}", decode::decode(b))) {}
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    for l in tracer_common::Loss::ALL {
        eprintln!("{:?} {}", l, h.lost(l));
    }
    for (n, c) in h.costs() {
        eprintln!(
            "{n} {} runs {} ns each",
            c.runs,
            c.run_time_ns / c.runs.max(1)
        );
    }
}
