//! Running other programs: one line of progress, a time, and the last words of one that failed.

use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Lines of a failed program that are worth showing.
const TAIL: usize = 15;
const TICK: Duration = Duration::from_millis(200);
/// How soon the end of a program that shows its own output is noticed.
const POLL: Duration = Duration::from_millis(50);
/// How long the output of an ended program may still arrive.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Runs a program whose output matters only when it fails; returns that output.
///
/// # Errors
/// The program cannot be started, or fails: the error ends with its last lines.
pub(crate) fn quiet(what: &str, command: &mut Command) -> Result<String> {
    let progress = Progress::start(what);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| cannot_start(what, command))?;
    let stderr = child.stderr.take();
    let mut output = Vec::new();
    let status = follow(&mut child, stderr, |line| match line {
        Some(line) => output.push(line),
        None => progress.tick(),
    })
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
    let mut child = command
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| cannot_start(what, command))?;
    let status = loop {
        if let Some(status) = child
            .try_wait()
            .with_context(|| format!("waiting for {what}"))?
        {
            break status;
        }
        stop_if_interrupted(&mut child)?;
        thread::sleep(POLL);
    };
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
    let status = follow(&mut child, None, |line| {
        if let Some(line) = line {
            println!("{line}");
            on_line(&line);
        }
    })
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

/// Hands over each line, and `None` now and then, until the program ends. A process it left behind
/// may hold the pipe open for ever: after the end, only what is already there is read.
fn follow(
    child: &mut Child,
    stderr: Option<ChildStderr>,
    mut on_line: impl FnMut(Option<String>),
) -> io::Result<ExitStatus> {
    let (sender, lines) = mpsc::channel();
    collect(child.stdout.take(), sender.clone());
    collect(stderr, sender);
    let mut ended: Option<Instant> = None;
    while ended.is_none_or(|ended| ended.elapsed() < LAST_WORDS) {
        match lines.recv_timeout(TICK) {
            Ok(line) => on_line(Some(line)),
            Err(RecvTimeoutError::Timeout) => on_line(None),
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if ended.is_none() && child.try_wait()?.is_some() {
            ended = Some(Instant::now());
        }
        if ended.is_none() {
            stop_if_interrupted(child).map_err(io::Error::other)?;
        }
    }
    child.wait()
}

/// Ctrl-C reaches the child by itself, SIGTERM does not; the commands that clean up note both.
fn stop_if_interrupted(child: &mut Child) -> Result<()> {
    if let Err(error) = hoptrace_lab::signals::check() {
        // Whether it ended by itself just now does not matter.
        let _ended = child.kill();
        child.wait().context("waiting for an interrupted program")?;
        return Err(error);
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn output_of_both_streams_is_returned() {
        let output = quiet("test", &mut shell("echo out; echo err >&2")).unwrap();
        let lines: std::collections::BTreeSet<_> = output.lines().collect();
        assert_eq!(lines, ["err", "out"].into());
    }

    #[test]
    fn a_failure_ends_with_the_last_words() {
        let error = quiet("test", &mut shell("seq 100; exit 3"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("exit status: 3") && error.ends_with("| 100"),
            "{error}"
        );
        assert!(!error.contains("| 85\n"), "{error}");
    }

    #[test]
    fn a_process_left_behind_is_not_waited_for() {
        let started = Instant::now();
        let mut seen = Vec::new();
        let mut command = shell("sleep 20 & echo done");
        let status = lines("test", &mut command, |line| seen.push(line.to_owned())).unwrap();
        assert!(status.success());
        assert_eq!(seen, ["done"]);
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = shown("test", &mut Command::new("no-such-program")).unwrap_err();
        assert!(error.to_string().contains("no-such-program"), "{error}");
    }
}
