//! The node's side of its keepers: the ones that wait for a command, and the one that runs it.
//!
//! Not here: what a keeper does ([`super::keeper`]), and how a command ends (`job`).

use super::{
    family::Family,
    keeper::{LENGTH_BYTES, MOMENT_BYTES, ORDER_BYTES_MAX, Order, SUBCOMMAND},
};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use skep_runtime::{tasks::Spawner, wire};
use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::ExitStatusExt,
    },
    path::Path,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncWriteExt, Interest},
    net::UnixStream,
    process::Child,
    time::{Instant, sleep, timeout},
};

/// Keepers that wait for a command: as many as commonly run at once. Each holds half a MiB that is not the program's file.
const WAITING_MAX: usize = 16;
/// How long a keeper waits before it ends: a node that does nothing has none.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// A keeper that is gone is an error here, not a signal. Elsewhere Rust's programs ignore that signal anyway.
#[cfg(target_os = "linux")]
const SENT: SendFlags = SendFlags::NOSIGNAL;
#[cfg(not(target_os = "linux"))]
const SENT: SendFlags = SendFlags::empty();
/// How long a keeper may take to take its order: it only has to read it.
const ORDER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a keeper that nobody needs any more may take to end.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// The keepers of one node that wait. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Keepers(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    keepers: Vec<(Keeper, Instant)>,
    /// Somebody ends those that waited too long.
    swept: bool,
}

/// A keeper's process. It ends when this is dropped, and whatever it keeps with it.
#[derive(Debug)]
pub(super) struct Keeper {
    process: Child,
    socket: UnixStream,
}

/// A command's first process, or the keeper that runs it.
pub(super) enum First {
    /// The command itself, if there is no program to keep it.
    Bare(Child),
    /// Its keeper, and how the command ended.
    Kept(Keeper, Option<u8>),
}

impl Keepers {
    /// Has one that waits run this, or a new one: this program, `exe`.
    pub(super) async fn order(&self, exe: &Path, order: &Order, output: OwnedFd) -> io::Result<Keeper> {
        let waiting = self.lock().keepers.pop();
        if let Some((mut keeper, _)) = waiting
            && keeper.order(order, &output).await.is_ok()
        {
            return Ok(keeper);
        }
        // None waits, or somebody has ended it.
        let mut keeper = Keeper::start(exe)?;
        keeper.order(order, &output).await?;
        Ok(keeper)
    }

    /// It has nothing to do now.
    pub(super) fn put_back(&self, keeper: Keeper, tasks: &Spawner) {
        let mut waiting = self.lock();
        if waiting.keepers.len() >= WAITING_MAX {
            return;
        }
        waiting.keepers.push((keeper, Instant::now()));
        if !std::mem::replace(&mut waiting.swept, true) {
            tasks.spawn(self.clone().sweep());
        }
    }

    /// Ends those that waited too long, until there are none.
    async fn sweep(self) {
        loop {
            sleep(WAIT_MAX).await;
            let old: Vec<Keeper> = {
                let mut waiting = self.lock();
                let old = waiting.keepers.extract_if(.., |(_, since)| since.elapsed() >= WAIT_MAX);
                let old = old.map(|(keeper, _)| keeper).collect();
                waiting.swept = !waiting.keepers.is_empty();
                old
            };
            for keeper in old {
                keeper.end().await;
            }
            if !self.lock().swept {
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keeper {
    fn start(exe: &Path) -> io::Result<Keeper> {
        let (near, far) = std::os::unix::net::UnixStream::pair()?;
        near.set_nonblocking(true)?;
        let mut command = tokio::process::Command::new(exe);
        command.arg(SUBCOMMAND).env_clear().current_dir("/").process_group(0);
        command.stdin(OwnedFd::from(far)).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Keeper { process: command.spawn()?, socket: UnixStream::from_std(near)? })
    }

    /// Has it run this.
    async fn order(&mut self, order: &Order, output: &OwnedFd) -> io::Result<()> {
        let order = wire::encode(order);
        if order.len() > ORDER_BYTES_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "command, arguments and environment are too large",
            ));
        }
        let length = u32::try_from(order.len()).map_err(io::Error::other)?.to_le_bytes();
        let sending = async {
            let sent = self.socket.async_io(Interest::WRITABLE, || {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
                let mut ancillary = SendAncillaryBuffer::new(&mut space);
                let files = [output.as_fd()];
                ancillary.push(SendAncillaryMessage::ScmRights(&files));
                Ok(sendmsg(&self.socket, &[IoSlice::new(&length)], &mut ancillary, SENT)?)
            });
            let sent = sent.await?;
            self.socket.write_all(&length[sent.min(LENGTH_BYTES)..]).await?;
            self.socket.write_all(&order).await
        };
        timeout(ORDER_TIMEOUT, sending).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// What it runs is good until then, in milliseconds by `since_boot`. A keeper that doesn't read this has its reasons: it
    /// stands still, or has ended what it ran.
    fn good(&self, until_ms: u64) {
        let mut word = [0; LENGTH_BYTES + MOMENT_BYTES];
        word[..LENGTH_BYTES].copy_from_slice(&(MOMENT_BYTES as u32).to_le_bytes());
        word[LENGTH_BYTES..].copy_from_slice(&until_ms.to_le_bytes());
        if let Err(error) = self.socket.try_write(&word) {
            tracing::debug!(%error, "a keeper was not told that its command is good");
        }
    }

    /// Its process, while it was not waited for.
    fn id(&self) -> Option<u32> {
        self.process.id()
    }

    /// The status of the command that it was given, once nothing of that is left. May be dropped and called again.
    async fn status(&mut self) -> io::Result<u8> {
        let mut status = [0];
        loop {
            self.socket.readable().await?;
            match self.socket.try_read(&mut status) {
                Ok(1..) => return Ok(status[0]),
                Ok(_) => return Err(io::Error::other("its keeper was ended")),
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Lets it end, and waits for that.
    async fn end(mut self) {
        drop(self.socket);
        let _ = timeout(END_TIMEOUT, self.process.wait()).await;
    }
}

impl First {
    /// All that it starts.
    pub(super) fn family(&self, mark: super::Mark) -> io::Result<Family> {
        let ended = || io::Error::other("the process ended before it had begun");
        match self {
            First::Bare(child) => child.id().map(|pid| Family::of_leader(mark, pid)),
            First::Kept(keeper, _) => keeper.id().map(|pid| Family::of_keeper(mark, pid)),
        }
        .ok_or_else(ended)
    }

    /// How it ended, when it has. May be dropped and called again.
    pub(super) async fn ended(&mut self) -> io::Result<ExitStatus> {
        match self {
            First::Bare(child) => child.wait().await,
            First::Kept(_, Some(status)) => Ok(ExitStatus::from_raw(i32::from(*status) << 8)),
            First::Kept(keeper, known) => {
                let status = keeper.status().await?;
                *known = Some(status);
                Ok(ExitStatus::from_raw(i32::from(status) << 8))
            }
        }
    }

    /// What runs is good until then. Without a keeper nobody else has to know.
    pub(super) fn good(&self, until_ms: u64) {
        if let First::Kept(keeper, None) = self {
            keeper.good(until_ms);
        }
    }

    /// Whether its end means that nothing of it is left.
    pub(super) fn is_whole(&self) -> bool {
        matches!(self, First::Kept(_, Some(_)))
    }

    /// It is over: a keeper may take the next command, if it said how this one ended.
    pub(super) async fn retire(self, keepers: &Keepers, tasks: &Spawner) {
        match self {
            First::Kept(keeper, Some(_)) => keepers.put_back(keeper, tasks),
            First::Kept(keeper, None) => keeper.end().await,
            First::Bare(_) => {}
        }
    }
}
