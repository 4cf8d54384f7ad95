//! Running a program to its end, with a limit, an ear for Ctrl-C, and its complaint in the error.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use hoptrace_lab::wait;

/// Returns what it wrote to standard output.
///
/// # Errors
/// It cannot be started, fails (the error ends with what it said), or takes too long.
pub(crate) fn capture(
    what: &str,
    command: &mut Command,
    input: Option<&str>,
    limit: Duration,
) -> Result<String> {
    let stdin = input.map_or_else(Stdio::null, |_| Stdio::piped());
    let mut child = command
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{what}: cannot start {}", command.get_program().display()))?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        let output = scope.spawn(|| read(stdout));
        let complaint = scope.spawn(|| read(stderr));
        if let (Some(mut stdin), Some(input)) = (stdin, input) {
            scope.spawn(move || {
                // When it died early, its own complaint says more than a broken pipe.
                let _broken = stdin.write_all(input.as_bytes());
            });
        }
        let status = wait::until(what, limit, || Ok(child.try_wait()?));
        if status.is_err() {
            // Ends the readers too.
            let _ended = child.kill();
            let _status = child.wait();
        }
        let read = |reader: thread::ScopedJoinHandle<'_, String>| {
            reader
                .join()
                .map_err(|_panic| anyhow!("reading the output of {what} panicked"))
        };
        let (output, complaint) = (read(output)?, read(complaint)?);
        let status = status.map_err(|error| match complaint.trim() {
            "" => error,
            said => error.context(said.to_owned()),
        })?;
        if !status.success() {
            bail!("{what} failed ({status}): {}", complaint.trim());
        }
        Ok(output)
    })
}

fn read(stream: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut stream) = stream {
        // What was read by then is all there is.
        let _broken = stream.read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
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
    fn output_input_and_complaints_are_passed_on() {
        let limit = Duration::from_secs(10);
        assert_eq!(
            capture("t", &mut shell("cat"), Some("x"), limit).unwrap(),
            "x"
        );
        let error = capture("t", &mut shell("echo no >&2; exit 3"), None, limit).unwrap_err();
        assert!(
            error.to_string().ends_with("exit status: 3): no"),
            "{error}"
        );
    }

    #[test]
    fn what_takes_too_long_is_ended() {
        let limit = Duration::from_millis(50);
        let error = capture("t", &mut shell("exec sleep 60"), None, limit).unwrap_err();
        assert!(
            format!("{error:#}").contains("not within 0.05 s"),
            "{error:#}"
        );
    }
}
