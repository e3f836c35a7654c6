//! What stands between a command and the machine: which files, sockets and system calls it reaches, and how much it may
//! take. Levels are found by trying them ([`probe`]), not by asking the system's version.
//!
//! Not here: who requires which level (scheduler), and how a command that broke a limit is ended (`job`).
//!
//! ```text
//! none        the command has this user's rights, the network too; its limits hold all the same
//! landlock    a thread of the keeper restricts itself (files, TCP, signals; then system calls) and starts the command
//! bubblewrap  `bwrap` starts it in namespaces of its own: other files, processes and networks aren't there at all; most
//!             system calls that landlock's level refuses are refused as well
//! ```

pub(super) mod bubblewrap;
#[cfg(target_os = "linux")]
mod calls;
#[cfg(target_os = "linux")]
mod landlock;
pub mod level;
pub mod limits;
pub mod probe;
pub(super) mod walls;
pub(super) mod watch;

pub(super) use bubblewrap::NAME as BUBBLEWRAP;
pub use level::Level;
pub use limits::{Breach, Limits};
pub use probe::{Fences, Found};

use serde::{Deserialize, Serialize};
use std::io;
use walls::Walls;

/// What the thread that starts a command puts up around itself first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Fence {
    /// Nothing.
    None,
    /// All of the fence.
    Landlock(Walls),
    /// What bubblewrap, which it starts, does not see to: system calls, but for those that it needs itself.
    Bubblewrap {
        /// Whether the command has the network.
        network: bool,
    },
}

/// Does `start` behind a fence: on a thread of its own, which has put it up around itself and ends with the call. Whatever
/// it starts can't leave.
///
/// # Errors
/// That of `start`, or why the fence could not be put up; then nothing was started.
pub(super) fn behind<T: Send>(fence: &Fence, start: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    if *fence == Fence::None {
        return start();
    }
    let fenced = || {
        put_up(fence).map_err(|why| io::Error::other(format!("the fence can't be put up: {why}")))?;
        start()
    };
    std::thread::scope(|scope| scope.spawn(fenced).join())
        .unwrap_or_else(|_| Err(io::Error::other("the fence can't be put up: its thread failed")))
}

#[cfg(target_os = "linux")]
fn put_up(fence: &Fence) -> Result<(), String> {
    match fence {
        Fence::None => Ok(()),
        Fence::Landlock(walls) => {
            landlock::restrict(walls)?;
            renounce()?;
            calls::refuse(walls.network, false)
        }
        Fence::Bubblewrap { network } => calls::refuse(*network, true),
    }
}

/// Gives up what root has beyond other users, on this thread: some of it reads other processes and changes other users'
/// files past landlock. No new privileges are to be had by now, so that programs don't get it back.
#[cfg(target_os = "linux")]
fn renounce() -> Result<(), String> {
    use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
        .map_err(|e| format!("capabilities can't be given up: {e}"))
}

#[cfg(not(target_os = "linux"))]
fn put_up(_: &Fence) -> Result<(), String> {
    Err("this system has none".into())
}
