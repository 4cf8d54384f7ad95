//! What it costs the agent to be looked at: 10,000 exchanges a second of 200 pairs, with nobody, with a
//! tail, and with a tail and a page.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::agent::LiveAgent;
use crate::{SLOW_APP, SLOW_OUTBOUND, Screens, browser, served};

const PAIRS: usize = 200;
/// Six exchanges each.
const REQUESTS_A_SECOND: f64 = 10_000.0 / 6.0;
/// As often as the agent settles what came.
const TURN: Duration = Duration::from_millis(50);
const PHASE: Duration = Duration::from_secs(8);

/// Processor time of this process, whose readers are others.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap(),
        u32::try_from(time.tv_nsec).unwrap(),
    )
}

/// Percent of a core, while requests come for a while.
fn phase(agent: &LiveAgent) -> f64 {
    let (began, before) = (Instant::now(), cpu());
    let mut told = 0;
    while began.elapsed() < PHASE {
        let due = began.elapsed().as_secs_f64() * REQUESTS_A_SECOND;
        while f64::from(told) < due {
            let pair = told as usize % PAIRS;
            let (from, to) = (format!("app-{}", pair % 50), format!("peer-{pair}"));
            let steps = if told % 2 == 0 {
                SLOW_APP
            } else {
                SLOW_OUTBOUND
            };
            agent.tell_meshed(&from, &to, steps);
            told += 1;
        }
        thread::sleep(TURN);
    }
    100.0 * (cpu() - before).as_secs_f64() / began.elapsed().as_secs_f64()
}

/// Ends also when the test fails.
struct Tail(Child);

impl Drop for Tail {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _ended = self.0.wait();
    }
}

#[test]
fn being_looked_at_costs_little() {
    let Some(mut browser) = browser("being_looked_at_costs_little") else {
        return;
    };
    let agent = LiveAgent::new(true);
    let address = served(Arc::clone(&agent));
    phase(&agent);
    let nobody = phase(&agent);
    let tail = Command::new(env!("CARGO_BIN_EXE_hoptrace"))
        .args(["requests", "--json", &address.to_string()])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let _tail = Tail(tail);
    let tailed = phase(&agent) - nobody;
    browser.screen(Screens::ALL[0].screen()).unwrap();
    browser.open(&format!("http://{address}/")).unwrap();
    let both = phase(&agent) - nobody;
    let handed = agent.tap.lock().unwrap().handed();
    println!(
        "{PAIRS} pairs, 10,000 exchanges/s: a tail of everything {tailed:.1} %, with the page {both:.1} % of a \
         core; {} requests handed over, {} dropped",
        handed.delivered, handed.dropped
    );
    assert!(handed.delivered > 10_000, "{handed:?}");
    let shown = browser.evaluate("state.rows.length").unwrap();
    assert_eq!(shown.as_u64(), Some(PAIRS as u64));
    // As it is shipped; without optimisation it is twice as much.
    let most = if cfg!(debug_assertions) { 15.0 } else { 5.0 };
    assert!(both < most, "{both} %");
}
