//! The hidden subcommand that stands between a node and a command: it ends the command with the node.
//!
//! A keeper is this same program as a small process of its own, one a command. It adopts every orphan that the
//! command leaves (`PR_SET_CHILD_SUBREAPER`), kills all of it when the command's first process ends or when its
//! standard input closes, and reports that process's status as its own. The input is a pipe whose other end only the
//! node holds, so the kernel closes it however the node ends, `kill -9` included. A parent-death signal would not
//! do: it is tied to the thread that started the command, and it spares grandchildren.

use super::{
    family::Family,
    mark::{MARK, Mark},
};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, wait};
use std::{
    ffi::OsString,
    io::{Read, Write},
    os::unix::process::CommandExt,
    process::{Command, ExitCode, Stdio},
};

/// The subcommand: `skep exec-task PROGRAM [ARGUMENT...]`. Nobody types it.
pub const SUBCOMMAND: &str = "exec-task";

/// Exit status if the program can't be started, as shells have it.
const NOT_STARTED: u8 = 127;
/// What is added to the number of the signal that ended a process, as shells do.
const SIGNALLED: i32 = 128;

/// Runs the command to its end, in this process's environment and folder. `arguments` is what follows
/// [`SUBCOMMAND`]. To be called before anything else is set up: no runtime, no log.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut arguments = arguments.into_iter();
    let mark = std::env::var(MARK).ok().and_then(|mark| mark.parse::<Mark>().ok());
    let (Some(program), Some(mark)) = (arguments.next(), mark) else {
        say("this subcommand is Skep's own: it is told what to run by a node");
        return ExitCode::from(NOT_STARTED);
    };
    #[cfg(target_os = "linux")]
    if let Err(e) = rustix::process::set_child_subreaper(Some(rustix::process::getpid())) {
        say(&format!("can't adopt the processes of the command: {e}"));
    }
    let spawned = Command::new(&program).args(arguments).stdin(Stdio::null()).process_group(0).spawn();
    let child = match spawned {
        Ok(child) => child.id().cast_signed(),
        Err(e) => {
            say(&format!("{}: {e}", program.display()));
            return ExitCode::from(NOT_STARTED);
        }
    };
    let family = Family::of_keeper(mark, std::process::id());
    watch(family);
    let status = reap(|pid| pid == child);
    // A process that dies after this signal is followed by the next round, one that forked by then too.
    loop {
        family.signal(Signal::KILL);
        if reap(|_| true).is_none() {
            break;
        }
    }
    ExitCode::from(status.and_then(code).unwrap_or(u8::MAX))
}

/// Kills the command when the node is gone. The thread ends with this process.
#[expect(
    clippy::disallowed_methods,
    reason = "a one-shot program without a runtime; the thread blocks on the pipe alone"
)]
fn watch(family: Family) {
    std::thread::spawn(move || {
        let mut byte = [0];
        // The node never writes: any answer but an interruption means that it is gone.
        while std::io::stdin().read(&mut byte).is_err_and(|e| e.kind() == std::io::ErrorKind::Interrupted) {}
        family.signal(Signal::KILL);
    });
}

/// Waits for children, born here or adopted, until one that `wanted`. `None` when there are none left.
fn reap(wanted: impl Fn(i32) -> bool) -> Option<WaitStatus> {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if wanted(Pid::as_raw_nonzero(pid).get()) => return Some(status),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return None,
        }
    }
}

fn code(status: WaitStatus) -> Option<u8> {
    let code = status.exit_status().or_else(|| status.terminating_signal().map(|s| SIGNALLED + s))?;
    u8::try_from(code).ok()
}

/// The command's own output is the only place where its reader looks.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "skep: {text}");
}
