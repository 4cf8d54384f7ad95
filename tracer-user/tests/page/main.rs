//! The page in a real browser: what it shows, to whom, on which screens, and how soon.
//!
//! `HOPTRACE_PICTURES=DIR` makes one of them write pictures there; `cargo xtask screenshots` does that.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic fails the test, and each module is used in part"
)]

#[path = "../live/agent.rs"]
mod agent;
mod cost;
#[path = "../mesh/mod.rs"]
mod mesh;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use agent::{LiveAgent, Steps};
use hoptrace_lab::browser::{self, Browser, Screen};
use serde_json::Value;
use tracer_user::http::{Guard, bind, serve};

const PHONE: (u32, u32) = (360, 740);
const DESKTOP: (u32, u32) = (1_180, 860);
const TAB: u32 = 9;
const ENTER: u32 = 13;
/// A request whose outbound sidecar takes most.
const SLOW_OUTBOUND: Steps = [20, 900, 60, 150, 20, 200, 20, 120, 60, 700, 20];
/// And one whose app does.
const SLOW_APP: Steps = [20, 90, 60, 150, 20, 5_000, 20, 120, 60, 70, 20];

/// A browser, or `None` with a line that says why this test is skipped.
fn browser(test: &str) -> Option<Browser> {
    let Some(program) = browser::find() else {
        mesh::skip(test, "Chromium is not installed (`cargo xtask setup`)");
        return None;
    };
    Some(Browser::start(&program).unwrap())
}

/// Serves a made-up agent for as long as the test runs.
fn served(agent: Arc<LiveAgent>) -> SocketAddr {
    let (sender, address) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = bind(([127, 0, 0, 1], 0).into()).await.unwrap();
            sender.send(listener.local_addr().unwrap()).unwrap();
            serve(listener, agent, Guard::open(), std::future::pending()).await;
        });
    });
    address.recv().unwrap()
}

fn texts(value: &Value) -> Vec<String> {
    let texts = value.as_array().unwrap().iter();
    texts
        .map(|text| text.as_str().unwrap().to_owned())
        .collect()
}

impl Screens {
    const ALL: [Self; 4] = [
        Self("desktop-light", DESKTOP, false),
        Self("desktop-dark", DESKTOP, true),
        Self("phone-light", PHONE, false),
        Self("phone-dark", PHONE, true),
    ];

    fn screen(self) -> Screen {
        let (width, height) = self.1;
        Screen {
            width,
            height,
            dark: self.2,
        }
    }
}

/// Name, size, and whether it is dark.
#[derive(Clone, Copy)]
struct Screens(&'static str, (u32, u32), bool);

/// Of text on what is behind it, by WCAG 2.1; the lowest of all that is shown.
const CONTRAST: &str = "(() => {
  const part = value => { const c = value / 255; return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
  const light = text => { const [r, g, b] = text.match(/[\\d.]+/g).map(Number); return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b); };
  const behind = one => { for (; one; one = one.parentElement) { const c = getComputedStyle(one).backgroundColor; if (!/, 0\\)$/.test(c)) return c; } return 'rgb(255,255,255)'; };
  let least = [99, ''];
  for (const one of document.querySelectorAll('h1, h2, p, th, td, caption, label, button, select, .dim, .who, b, li, a')) {
    if (!one.offsetParent || !one.textContent.trim()) continue;
    const [a, b] = [light(getComputedStyle(one).color), light(behind(one))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < least[0]) least = [ratio, one.outerHTML.slice(0, 90)];
  }
  return least;
})()";

#[test]
fn the_page_shows_pairs_and_requests_to_everybody() {
    let Some(mut browser) = browser("the_page_shows_pairs_and_requests_to_everybody") else {
        return;
    };
    let agent = LiveAgent::new(true);
    let address = served(Arc::clone(&agent));
    for _ in 0..50 {
        agent.tell_meshed("web", "orders", SLOW_OUTBOUND);
        agent.tell_meshed("orders", "stock", SLOW_APP);
    }
    browser.screen(Screens::ALL[0].screen()).unwrap();
    browser.open(&format!("http://{address}/")).unwrap();
    browser
        .wait_for("$('pairs').children.length === 2")
        .unwrap();

    // The map and the table tell the same.
    let lines = browser
        .evaluate("[...document.querySelectorAll('#map path')].map(one => one.getAttribute('class') + ' ' + one.textContent)")
        .unwrap();
    let lines = texts(&lines);
    let colour_of = |pair: &str| {
        let line = lines.iter().find(|line| line.contains(pair));
        line.unwrap_or_else(|| panic!("{lines:?}"))
            .split(' ')
            .next()
            .unwrap()
            .to_owned()
    };
    assert_eq!(colour_of("web.shop → orders.shop"), "sidecar_outbound");
    assert_eq!(colour_of("orders.shop → stock.shop"), "app");
    let rows = texts(
        &browser
            .evaluate("[...document.querySelectorAll('#pairs th')].map(one => one.textContent)")
            .unwrap(),
    );
    assert_eq!(rows.len(), lines.len());
    for row in &rows {
        assert!(
            lines.iter().any(|line| line.contains(row.as_str())),
            "{row}"
        );
    }
    let bar = browser
        .evaluate("document.querySelector('#pairs .bar').getAttribute('aria-label')")
        .unwrap();
    assert_eq!(
        bar.as_str().unwrap(),
        "app 5.00 ms, inbound sidecar 270 µs, outbound sidecar 160 µs, network 120 µs, loopback 80 µs"
    );

    // What a screen reader is told.
    let told = browser.accessible().unwrap();
    let has = |role: &str, name: &str| {
        assert!(
            told.iter().any(|(r, n)| r == role && n.contains(name)),
            "no {role} named {name:?} in {told:?}"
        );
    };
    for (role, name) in [
        ("heading", "hoptrace"),
        ("heading", "Who calls whom on this node"),
        ("heading", "Where the time of each pair goes"),
        ("heading", "Slowest requests of the last minutes"),
        ("searchbox", "Only"),
        ("combobox", "Figures of"),
        ("button", "Pause"),
        ("button", "Show only web.shop"),
        ("table", "Means a request"),
        ("columnheader", "caller → called"),
        ("rowheader", "web.shop → orders.shop"),
        ("image", "outbound sidecar 1.60 ms"),
        ("link", "Skip the map"),
    ] {
        has(role, name);
    }
    let unnamed = told.iter().filter(|(role, name)| {
        ["button", "link", "searchbox", "combobox", "image", "table"].contains(&role.as_str())
            && name.is_empty()
    });
    assert_eq!(unnamed.count(), 0, "{told:?}");
    let headings = browser
        .evaluate("[...document.querySelectorAll('h1,h2,h3')].map(one => one.tagName)")
        .unwrap();
    assert_eq!(texts(&headings), ["H1", "H2", "H2", "H2"]);

    // By keys alone, in the order of the page.
    let mut order = Vec::new();
    for _ in 0..9 {
        browser.press("Tab", TAB).unwrap();
        let focused = browser
            .evaluate("(one => one.id || one.dataset.only || one.textContent.trim().slice(0, 20))(document.activeElement)")
            .unwrap();
        order.push(focused.as_str().unwrap().to_owned());
    }
    assert_eq!(
        order[..5],
        ["Skip the map", "filter", "window", "pause", "map"],
        "{order:?}"
    );
    assert!(order[5..8].contains(&"web.shop".to_owned()), "{order:?}");
    // A request opens by a key, and its steps are those that were made up.
    browser
        .evaluate("document.querySelector('#slow summary').focus()")
        .unwrap();
    browser.press("Enter", ENTER).unwrap();
    browser
        .wait_for("document.querySelectorAll('#slow .steps tbody tr').length === 16")
        .unwrap();
    // It stays open, and keeps the focus, when others come.
    agent.tell_meshed(
        "orders",
        "stock",
        [40, 90, 60, 150, 20, 9_000, 20, 120, 60, 70, 20],
    );
    browser
        .wait_for("document.querySelector('#slow b').textContent === '9.65 ms'")
        .unwrap();
    let kept = browser
        .evaluate("document.querySelectorAll('#slow details[open]').length === 1 && document.activeElement.tagName === 'SUMMARY'")
        .unwrap();
    assert_eq!(kept, true);

    browser
        .evaluate("$('filter').value = 'stock'; $('filter').dispatchEvent(new Event('input'))")
        .unwrap();
    browser
        .wait_for("$('pairs').children.length === 1")
        .unwrap();
    browser.evaluate("$('pause').click()").unwrap();
    let pressed = browser
        .evaluate("$('pause').getAttribute('aria-pressed')")
        .unwrap();
    assert_eq!(pressed, "true");
    assert_eq!(browser.complaints().unwrap(), Vec::<String>::new());
}

#[test]
fn it_fits_on_every_screen_in_light_and_dark() {
    let Some(mut browser) = browser("it_fits_on_every_screen_in_light_and_dark") else {
        return;
    };
    let agent = LiveAgent::new(true);
    let address = served(Arc::clone(&agent));
    agent.tell_meshed(
        "web-with-a-long-name-deployment",
        "orders-with-a-long-name-too",
        SLOW_OUTBOUND,
    );
    for _ in 0..9 {
        agent.tell_meshed("orders", "stock", SLOW_APP);
    }
    agent.tell("elsewhere", 3_000_000);
    browser.open(&format!("http://{address}/")).unwrap();
    browser
        .wait_for("$('pairs').children.length === 3")
        .unwrap();
    for screens in Screens::ALL {
        let Screens(name, (width, _), dark) = screens;
        browser.screen(screens.screen()).unwrap();
        browser
            .wait_for(&format!(
                "matchMedia('(prefers-color-scheme: dark)').matches === {dark}"
            ))
            .unwrap();
        let wide = browser
            .evaluate("document.documentElement.scrollWidth")
            .unwrap();
        assert!(
            wide.as_u64().unwrap() <= width.into(),
            "{name}: {wide} wide"
        );
        let contrast = browser.evaluate(CONTRAST).unwrap();
        println!("{name}: least contrast {contrast}");
        assert!(contrast[0].as_f64().unwrap() >= 4.5, "{name}: {contrast}");
    }
    assert_eq!(browser.complaints().unwrap(), Vec::<String>::new());
}

/// Milliseconds to draw everything, with other figures each time, from 200 pairs of 67 workloads.
const DRAW: &str = "(() => {
  $('window').value = '0';
  const last = state.samples[state.samples.length - 1];
  const took = [];
  for (let turn = 0; turn < 20; turn++) {
    for (const pair of last.pairs) pair.hops.app.ns += Math.round(1e6 * Math.random());
    state.marks = '';
    const began = performance.now();
    draw();
    document.body.offsetHeight;
    took.push(performance.now() - began);
  }
  return took.sort((a, b) => a - b);
})()";

/// How many elements are made to draw other figures of the same pairs and requests.
const MADE: &str = "(() => {
  let made = 0;
  for (const name of ['createElement', 'createElementNS']) {
    const make = document[name].bind(document);
    document[name] = (...of) => { made++; return make(...of); };
  }
  draw();
  made = 0;
  const last = state.samples[state.samples.length - 1];
  for (const pair of last.pairs) pair.hops.app.ns += Math.round(1e6 * Math.random());
  draw();
  return made;
})()";

#[test]
fn two_hundred_pairs_stay_fluid() {
    let Some(mut browser) = browser("two_hundred_pairs_stay_fluid") else {
        return;
    };
    let agent = LiveAgent::new(true);
    let address = served(Arc::clone(&agent));
    for pair in 0..200 {
        let from = format!("app-{}", pair % 67);
        let to = format!("app-{}", (pair % 67 + 1 + pair / 67 * 7) % 67);
        agent.tell_meshed(&from, &to, SLOW_APP);
        agent.tell_meshed(&from, &to, SLOW_OUTBOUND);
    }
    browser.screen(Screens::ALL[0].screen()).unwrap();
    browser.open(&format!("http://{address}/")).unwrap();
    browser
        .wait_for("document.querySelectorAll('#map path').length === 200")
        .unwrap();
    browser.evaluate("$('pairs-more').click()").unwrap();
    browser
        .wait_for("$('pairs').children.length === 200")
        .unwrap();
    let took = browser.evaluate(DRAW).unwrap();
    let of = |at: usize| took[at].as_f64().unwrap();
    println!(
        "200 pairs are drawn in {:.0} ms (median of 20; {:.0} to {:.0})",
        of(10),
        of(0),
        of(19)
    );
    // How soon depends on who else has the machine; that rows and lines are changed and not made anew does not.
    assert_eq!(browser.evaluate(MADE).unwrap(), 0);
    assert_eq!(browser.complaints().unwrap(), Vec::<String>::new());
}

/// Who calls whom in the pictures, how often of 20 times, and which step of the eleven is how many times as long.
const SHOP: [(&str, &str, u64, usize, u64); 7] = [
    ("web", "orders", 20, 5, 3),
    ("web", "users", 9, 5, 1),
    ("orders", "stock", 14, 3, 5),
    ("orders", "payments", 6, 5, 9),
    ("users", "sessions", 9, 1, 4),
    ("payments", "ledger", 6, 2, 12),
    ("web", "stock", 3, 9, 2),
];

/// Requests for a while, 20 turns a second; which steps they take is the same in each run.
fn shop(agent: &LiveAgent, time: Duration) {
    let mut seed = 1_u64;
    let mut random = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) % below
    };
    let until = std::time::Instant::now() + time;
    while std::time::Instant::now() < until {
        for (from, to, often, slow, times) in SHOP {
            if random(20) >= often {
                continue;
            }
            let mut steps: Steps = [9, 110, 40, 130, 9, 240, 9, 90, 40, 80, 9];
            for step in &mut steps {
                *step += random(*step);
            }
            steps[slow] *= times;
            if random(40) == 0 {
                steps[1 + random(5) as usize] += 2_000 + random(9_000);
            }
            agent.tell_meshed(from, to, steps);
        }
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn pictures_are_small() {
    let Some(mut browser) = browser("pictures_are_small") else {
        return;
    };
    let agent = LiveAgent::new(true);
    let address = served(Arc::clone(&agent));
    shop(&agent, Duration::from_secs(1));
    browser.screen(Screens::ALL[0].screen()).unwrap();
    browser.open(&format!("http://{address}/")).unwrap();
    shop(&agent, Duration::from_secs(7));
    browser
        .wait_for("state.rows.length === 7 && state.slow.length >= 9")
        .unwrap();
    browser.evaluate("$('pause').click()").unwrap();
    let directory = std::env::var_os("HOPTRACE_PICTURES").map(PathBuf::from);
    let picture = |browser: &mut Browser, name: &str| {
        let png = browser.picture().unwrap();
        println!("{name}: {} bytes", png.len());
        // They are kept in the repository.
        assert!(png.len() < 150_000, "{name}: {} bytes", png.len());
        if let Some(directory) = &directory {
            std::fs::write(directory.join(name).with_extension("png"), png).unwrap();
        }
    };
    for screens in Screens::ALL {
        browser.screen(screens.screen()).unwrap();
        thread::sleep(Duration::from_millis(200));
        picture(&mut browser, &format!("page-{}", screens.0));
    }
    browser.screen(Screens::ALL[0].screen()).unwrap();
    browser
        .evaluate("document.querySelector('#slow summary').click(); document.querySelector('#slow').scrollIntoView()")
        .unwrap();
    thread::sleep(Duration::from_millis(200));
    picture(&mut browser, "page-request");
    assert_eq!(browser.complaints().unwrap(), Vec::<String>::new());
}
