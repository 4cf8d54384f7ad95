//! A guest: booted, listened to, and ended in any case.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use hoptrace_lab::signals;

use super::console::{Console, END, PREFIX};
use super::store::{Kernel, Store};

/// An emulated guest needs about 20 s, on a busy machine some times that.
const LIMIT: Duration = Duration::from_secs(180);
const TICK: Duration = Duration::from_millis(200);
/// Of a guest that ends after its last section, the words that may still come.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// `no_timer_check`: on a busy machine an emulated timer may look broken to the kernel, which
/// panics then (`check_timer` in arch/x86/kernel/apic/io_apic.c).
const COMMAND_LINE: &str = "console=ttyS0 quiet panic=-1 no_timer_check";
const MEMORY_MIB: u32 = 1024;
const PROCESSORS: u32 = 2;

/// What a guest said, and how long it lived.
pub(super) struct Life {
    pub(super) console: Console,
    pub(super) seconds: f64,
}

/// Boots a kernel with a first file system, and returns what it said; `log` gets every word.
///
/// # Errors
/// The emulator cannot be started, or was interrupted. A guest that panics or hangs is not an error:
/// its console says how far it came.
pub(super) fn live(store: &Store, kernel: &Kernel, archive: &Path, log: &Path) -> Result<Life> {
    let started = Instant::now();
    let mut child = command(store, kernel, archive)
        .spawn()
        .context("cannot start QEMU")?;
    let listened = listen(&mut child, started);
    // It has ended by itself, or is of no use any more.
    let _ended = child.kill();
    child.wait().context("waiting for QEMU")?;
    let text = listened?;
    fs::write(log, &text).with_context(|| format!("cannot write {}", log.display()))?;
    Ok(Life {
        console: Console::parse(&text),
        seconds: started.elapsed().as_secs_f64(),
    })
}

fn command(store: &Store, kernel: &Kernel, archive: &Path) -> Command {
    let mut command = store.qemu();
    command
        // A machine inside a machine can seldom use the processor's own virtualisation.
        .args(["-accel", "tcg,thread=multi", "-cpu", "max"])
        .args(["-machine", "q35", "-smp", &PROCESSORS.to_string()])
        .args(["-m", &MEMORY_MIB.to_string()])
        .args(["-nographic", "-nodefaults", "-no-reboot"])
        .args(["-serial", "stdio", "-monitor", "none"])
        .arg("-kernel")
        .arg(kernel.image())
        .arg("-initrd")
        .arg(archive)
        .args(["-append", COMMAND_LINE])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    command
}

/// Reads the console until the guest ends, or has said all, or has had its time.
fn listen(child: &mut Child, started: Instant) -> Result<String> {
    let stdout = child.stdout.take().context("QEMU has no console")?;
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    let mut text = String::new();
    let mut deadline = started + LIMIT;
    while Instant::now() < deadline {
        signals::check().map_err(|error| anyhow!(error))?;
        match lines.recv_timeout(TICK) {
            Ok(line) => {
                let line = String::from_utf8_lossy(&line);
                let line = line.trim_end();
                if line == format!("{PREFIX}{END}") {
                    deadline = Instant::now() + LAST_WORDS;
                }
                text.push_str(line);
                text.push('\n');
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    Ok(text)
}
