//! Running other programs: one line of progress, a time, and the last words of one that failed.

use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Lines of a failed program that are worth showing.
const TAIL: usize = 15;
const TICK: Duration = Duration::from_millis(200);

/// Runs a program whose output matters only when it fails; returns that output.
///
/// # Errors
/// The program cannot be started, or fails: the error ends with its last lines.
pub(crate) fn quiet(what: &str, command: &mut Command) -> Result<String> {
    let progress = Progress::start(what);
    let (sender, lines) = mpsc::channel();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| cannot_start(what, command))?;
    collect(child.stdout.take(), sender.clone());
    collect(child.stderr.take(), sender);
    let mut output = Vec::new();
    loop {
        match lines.recv_timeout(TICK) {
            Ok(line) => output.push(line),
            Err(RecvTimeoutError::Timeout) => progress.tick(),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let status = child
        .wait()
        .with_context(|| format!("waiting for {what}"))?;
    progress.end(status.success());
    if !status.success() {
        let skipped = output.len().saturating_sub(TAIL);
        let tail: Vec<_> = output
            .iter()
            .skip(skipped)
            .map(|l| format!("  | {l}"))
            .collect();
        bail!(
            "{what} failed ({status}); its last words:\n{}",
            tail.join("\n")
        );
    }
    Ok(output.join("\n"))
}

/// Runs a program whose own output is the progress.
///
/// # Errors
/// The program cannot be started, or fails.
pub(crate) fn shown(what: &str, command: &mut Command) -> Result<()> {
    let progress = Progress::open(what);
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| cannot_start(what, command))?;
    progress.end(status.success());
    if !status.success() {
        bail!("{what} failed ({status}): see above");
    }
    Ok(())
}

/// Runs a program, shows its output, and hands each line of its standard output to `on_line`.
///
/// # Errors
/// The program cannot be started. Its failure is the caller's to judge.
pub(crate) fn lines(
    what: &str,
    command: &mut Command,
    mut on_line: impl FnMut(&str),
) -> Result<ExitStatus> {
    let progress = Progress::open(what);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| cannot_start(what, command))?;
    if let Some(stdout) = child.stdout.take() {
        for line in lossy_lines(stdout) {
            println!("{line}");
            on_line(&line);
        }
    }
    let status = child
        .wait()
        .with_context(|| format!("waiting for {what}"))?;
    progress.end(status.success());
    Ok(status)
}

fn cannot_start(what: &str, command: &Command) -> String {
    format!(
        "{what}: cannot start {}; is it installed? `cargo xtask setup` installs what is needed",
        command.get_program().display()
    )
}

fn collect(stream: Option<impl Read + Send + 'static>, sender: Sender<String>) {
    let Some(stream) = stream else { return };
    thread::spawn(move || {
        for line in lossy_lines(stream) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
}

/// Lines of a stream; bytes that are not UTF-8 become replacement characters.
fn lossy_lines(stream: impl Read) -> impl Iterator<Item = String> {
    BufReader::new(stream)
        .split(b'\n')
        .map_while(Result::ok)
        .map(|line| String::from_utf8_lossy(&line).trim_end().to_owned())
}

/// One line on standard error: a live one on a terminal, a start and an end elsewhere.
struct Progress {
    what: String,
    started: Instant,
    live: bool,
}

impl Progress {
    fn start(what: &str) -> Self {
        let live = io::stderr().is_terminal();
        let this = Self {
            what: what.to_owned(),
            started: Instant::now(),
            live,
        };
        if live {
            this.tick();
        } else {
            eprintln!("… {what}");
        }
        this
    }

    /// For a program that writes to the terminal itself.
    fn open(what: &str) -> Self {
        eprintln!("… {what}");
        Self {
            what: what.to_owned(),
            started: Instant::now(),
            live: false,
        }
    }

    fn tick(&self) {
        if self.live {
            eprint!("\r… {} {} s", self.what, self.started.elapsed().as_secs());
            // A progress line that cannot be written is not worth an error.
            let _ = io::stderr().flush();
        }
    }

    fn end(&self, success: bool) {
        let mark = if success { "✓" } else { "✗" };
        let clear = if self.live { "\r\x1b[K" } else { "" };
        eprintln!(
            "{clear}{mark} {} ({:.1} s)",
            self.what,
            self.started.elapsed().as_secs_f64()
        );
    }
}
