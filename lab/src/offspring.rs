//! Children that end with this process, even if it is killed.
//!
//! The kernel sends the signal when the *thread* ends that made the child (prctl(2),
//! PR_SET_PDEATHSIG), so all are made by one that ends with the process only.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A child to make, and where it goes.
struct Order {
    command: Command,
    /// The network namespace of whoever asks: a child would else be in that of the thread that makes it.
    network: File,
    answer: Sender<io::Result<Child>>,
}

static ORDERS: OnceLock<Sender<Order>> = OnceLock::new();

/// Starts a child that is killed when this process ends. It must stay the user that this process is:
/// the kernel forgets the signal when a process changes its user.
///
/// # Errors
/// It cannot be started.
pub(crate) fn spawn(mut command: Command) -> io::Result<Child> {
    let parent = getpid();
    let tie = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // It may have ended just before.
        if getppid() == Some(parent) {
            Ok(())
        } else {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    };
    // SAFETY: between fork and exec `tie` makes three system calls with values as arguments, and an
    // error that is a value: it does not allocate and takes no lock.
    unsafe { command.pre_exec(tie) };
    let orders = ORDERS.get_or_init(begin);
    let network = network()?;
    let (answer, made) = channel();
    let gone = |_| io::Error::other("the thread that starts programs has ended");
    orders
        .send(Order {
            command,
            network,
            answer,
        })
        .map_err(|_| gone(()))?;
    made.recv().map_err(|_| gone(()))?
}

fn begin() -> Sender<Order> {
    let (sender, orders) = channel();
    thread::spawn(move || serve(&orders));
    sender
}

/// For ever: the sender is never dropped.
fn serve(orders: &Receiver<Order>) {
    for Order {
        mut command,
        network,
        answer,
    } in orders
    {
        let spawned = enter(&mut command, network).and_then(|()| command.spawn());
        // Whoever asked waits for it.
        let _heard = answer.send(spawned);
    }
}

/// The network namespace of this thread.
fn network() -> io::Result<File> {
    File::open("/proc/thread-self/ns/net")
}

/// Makes a child begin in a network namespace. To stay where one is takes no right, so it is not asked for.
fn enter(command: &mut Command, wanted: File) -> io::Result<()> {
    if wanted.metadata()?.ino() == network()?.metadata()?.ino() {
        return Ok(());
    }
    let enter = move || {
        let kind = Some(LinkNameSpaceType::Network);
        Ok(move_into_link_name_space(wanted.as_fd(), kind)?)
    };
    // SAFETY: between fork and exec `enter` makes one system call with values as arguments.
    unsafe { command.pre_exec(enter) };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::ProcessId;
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;
    use std::time::{Duration, Instant};

    /// The parent that the test below kills; it never ends by itself.
    #[test]
    #[ignore = "a part of another test, which starts it"]
    fn a_parent() {
        // By a thread that is over before its child is.
        let made = thread::spawn(|| {
            let mut command = Command::new("sleep");
            command.arg("1000").stdout(Stdio::null());
            spawn(command).unwrap().id()
        });
        println!("child {}", made.join().unwrap());
        loop {
            thread::park();
        }
    }

    #[test]
    fn a_child_outlives_its_thread_and_not_its_process() {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let parent = ["--exact", "offspring::tests::a_parent"];
        command.args(parent).args(["--ignored", "--nocapture"]);
        command.stdout(Stdio::piped());
        let mut parent = command.spawn().unwrap();
        let lines = BufReader::new(parent.stdout.take().unwrap()).lines();
        let mut words = lines.map_while(Result::ok);
        let pid = words.find_map(|line| line.split_once("child ")?.1.trim().parse().ok());
        let child = pid.and_then(ProcessId::of);
        // The thread has ended by now; give its signal, if there were one, time to arrive.
        thread::sleep(Duration::from_millis(100));
        let survived = child.map(ProcessId::is_alive);
        parent.kill().unwrap();
        parent.wait().unwrap();
        let killed = Instant::now();
        let child = child.unwrap();
        while child.is_alive() && killed.elapsed() < Duration::from_secs(10) {
            thread::sleep(Duration::from_millis(5));
        }
        let left = child.is_alive();
        child.signal(Signal::KILL);
        assert_eq!(survived, Some(true), "it ended with the thread");
        assert!(!left, "it runs on");
    }

    #[test]
    fn what_cannot_be_started_is_an_error() {
        let error = spawn(Command::new("/no/such/program")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
