//! A headless Chromium, driven over two pipes: the DevTools protocol, each message JSON that ends with a
//! zero byte. It reaches 127.0.0.1 and nothing else.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// How long an answer may take: a first start on a busy machine needs most of it.
const LIMIT: Duration = Duration::from_secs(60);
/// Rest between two looks at a condition.
const STEP: Duration = Duration::from_millis(50);
/// `--remote-debugging-pipe` reads from 3 and writes to 4.
const PIPES: &str = "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1";

/// Browsers of this process so far: each has a directory of its own.
static STARTED: AtomicU64 = AtomicU64::new(0);

/// What the window looks like to the page.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    /// CSS pixels.
    pub width: u32,
    /// CSS pixels.
    pub height: u32,
    /// `prefers-color-scheme: dark`.
    pub dark: bool,
}

/// A browser with one page. Dropping it ends it and removes its files.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    commands: ChildStdin,
    messages: Receiver<Value>,
    next: u64,
    session: Option<String>,
    profile: PathBuf,
    /// What the page complained of: exceptions, errors of the console, violations of its policy.
    complaints: Vec<String>,
}

/// Where Chromium is, if it is installed.
#[must_use]
pub fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let places = std::env::split_paths(&path).map(|place| place.join("chromium"));
    places.into_iter().find(|place| place.is_file())
}

impl Browser {
    /// Starts a browser with an empty page.
    ///
    /// # Errors
    /// It does not start, or does not speak the protocol.
    pub fn start(program: &Path) -> Result<Self> {
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let name = format!("hoptrace-browser-{}-{number}", std::process::id());
        let profile = std::env::temp_dir().join(name);
        fs::create_dir_all(&profile)
            .with_context(|| format!("cannot make {}", profile.display()))?;
        let mut child = Command::new("sh")
            .args(["-c", PIPES])
            .arg(program)
            .args([
                "--headless=new",
                "--remote-debugging-pipe",
                // As root there is no other way; it is shown what this machine serves to itself.
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-extensions",
                "--disable-sync",
                "--no-default-browser-check",
                "--no-first-run",
                "--hide-scrollbars",
                "--force-color-profile=srgb",
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            ])
            .arg(format!("--user-data-dir={}", profile.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a shell for Chromium")?;
        let (Some(commands), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("Chromium has no pipes");
        };
        let (sender, messages) = mpsc::channel();
        thread::spawn(move || {
            for message in BufReader::new(answers).split(0).map_while(Result::ok) {
                let parsed = serde_json::from_slice(&message);
                if parsed.is_ok_and(|message| sender.send(message).is_err()) {
                    return;
                }
            }
        });
        let mut browser = Self {
            child,
            commands,
            messages,
            next: 0,
            session: None,
            profile,
            complaints: Vec::new(),
        };
        let page = browser.call("Target.createTarget", json!({"url": "about:blank"}))?;
        let target = json!({"targetId": page.get("targetId"), "flatten": true});
        let attached = browser.call("Target.attachToTarget", target)?;
        browser.session = text(&attached, "/sessionId").map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Accessibility"] {
            browser.call(&format!("{domain}.enable"), json!({}))?;
        }
        Ok(browser)
    }

    /// Changes what the page is shown on.
    ///
    /// # Errors
    /// The browser does not answer.
    pub fn screen(&mut self, screen: Screen) -> Result<()> {
        let Screen {
            width,
            height,
            dark,
        } = screen;
        let metrics = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600,
        });
        self.call("Emulation.setDeviceMetricsOverride", metrics)?;
        let scheme = if dark { "dark" } else { "light" };
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call("Emulation.setEmulatedMedia", media)?;
        Ok(())
    }

    /// Goes to an address and waits until its page is loaded.
    ///
    /// # Errors
    /// It cannot be reached.
    pub fn open(&mut self, url: &str) -> Result<()> {
        let gone = self.call("Page.navigate", json!({"url": url}))?;
        if let Some(why) = text(&gone, "/errorText") {
            bail!("cannot open {url}: {why}");
        }
        self.wait_for("document.readyState === 'complete'")
    }

    /// The value of an expression, or of the promise that it is.
    ///
    /// # Errors
    /// It throws.
    pub fn evaluate(&mut self, expression: &str) -> Result<Value> {
        let asked = json!({
            "expression": expression, "returnByValue": true, "awaitPromise": true,
        });
        let mut answer = self.call("Runtime.evaluate", asked)?;
        if let Some(thrown) = answer.get("exceptionDetails") {
            bail!("{expression}: {thrown}");
        }
        let value = answer.pointer_mut("/result/value");
        Ok(value.map_or(Value::Null, Value::take))
    }

    /// Waits until an expression is true.
    ///
    /// # Errors
    /// It is not in time.
    pub fn wait_for(&mut self, expression: &str) -> Result<()> {
        let started = Instant::now();
        loop {
            if self.evaluate(expression).is_ok_and(|found| found == true) {
                return Ok(());
            }
            if started.elapsed() > LIMIT {
                bail!("it did not become true: {expression}");
            }
            thread::sleep(STEP);
        }
    }

    /// Presses a key, by its names of DOM's KeyboardEvent.
    ///
    /// # Errors
    /// The browser does not answer.
    pub fn press(&mut self, key: &str, code: u32) -> Result<()> {
        for kind in ["keyDown", "keyUp"] {
            let text = if key == "Enter" { "\r" } else { "" };
            let event = json!({
                "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": text,
            });
            self.call("Input.dispatchKeyEvent", event)?;
        }
        Ok(())
    }

    /// What a screen reader is told: role and name of each node that has a name.
    ///
    /// # Errors
    /// The browser does not answer.
    pub fn accessible(&mut self) -> Result<Vec<(String, String)>> {
        let tree = self.call("Accessibility.getFullAXTree", json!({}))?;
        let nodes = tree.get("nodes").and_then(Value::as_array);
        let shown = nodes.into_iter().flatten();
        let shown = shown.filter(|node| node.get("ignored") != Some(&Value::Bool(true)));
        let of = |node, at| text(node, at).unwrap_or_default().to_owned();
        Ok(shown
            .map(|node| (of(node, "/role/value"), of(node, "/name/value")))
            .collect())
    }

    /// What is on the screen, as PNG.
    ///
    /// # Errors
    /// The browser does not answer.
    pub fn picture(&mut self) -> Result<Vec<u8>> {
        let asked = json!({"format": "png"});
        let picture = self.call("Page.captureScreenshot", asked)?;
        let text = text(&picture, "/data").context("there is no picture")?;
        STANDARD.decode(text).context("the picture is no base64")
    }

    /// What the page complained of since this was last asked.
    ///
    /// # Errors
    /// The browser does not answer.
    pub fn complaints(&mut self) -> Result<Vec<String>> {
        // Whatever was told before the answer is then here.
        self.evaluate("0")?;
        Ok(std::mem::take(&mut self.complaints))
    }

    fn call(&mut self, method: &str, parameters: Value) -> Result<Value> {
        self.next += 1;
        let mut message = json!({"id": self.next, "method": method, "params": parameters});
        if let (Some(session), Some(message)) = (&self.session, message.as_object_mut()) {
            message.insert("sessionId".to_owned(), json!(session));
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        let sent = self.commands.write_all(&bytes);
        sent.and_then(|()| self.commands.flush())
            .with_context(|| format!("Chromium does not take {method}"))?;
        let until = Instant::now() + LIMIT;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let mut message = match self.messages.recv_timeout(left) {
                Ok(message) => message,
                Err(RecvTimeoutError::Timeout) => bail!("Chromium does not answer {method}"),
                Err(RecvTimeoutError::Disconnected) => bail!("Chromium ended during {method}"),
            };
            if message.get("id").and_then(Value::as_u64) == Some(self.next) {
                if let Some(error) = message.get("error") {
                    bail!("{method}: {error}");
                }
                return Ok(message.get_mut("result").map_or(Value::Null, Value::take));
            }
            self.complaints.extend(complaint(&message));
        }
    }
}

/// The text at a JSON pointer.
fn text<'a>(value: &'a Value, at: &str) -> Option<&'a str> {
    value.pointer(at)?.as_str()
}

/// What an event tells of something wrong.
fn complaint(event: &Value) -> Option<String> {
    let at = |at| text(event, at);
    match at("/method")? {
        "Runtime.exceptionThrown" => Some(event.to_string()),
        "Runtime.consoleAPICalled" if at("/params/type") == Some("error") => {
            Some(event.to_string())
        }
        "Log.entryAdded" if at("/params/entry/level") == Some("error") => {
            at("/params/entry/text").map(str::to_owned)
        }
        _ => None,
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.session = None;
        // It ends the processes that it started; by itself it is only killed.
        if self.call("Browser.close", json!({})).is_err() {
            let _gone = self.child.kill();
        }
        let _ended = self.child.wait();
        let _removed = fs::remove_dir_all(&self.profile);
    }
}
