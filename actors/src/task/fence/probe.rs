//! Which levels this machine has: each is tried when the node starts, with a command that attempts what it must not be
//! able to do. A level counts if every attempt was refused, and what is allowed worked.
//!
//! The command is this same program (a word after the keeper's subcommand), since no other is sure to be able to open a
//! connection. What it is refused really exists: a file and a folder of the node, and a listener that a first try outside
//! of the fence does reach.

use super::{Level, level::LEVELS};
use crate::{
    Context,
    scheduler::{Demand, Spec},
    task::{Mark, keeper, launch},
};
use skep_runtime::swarm::Finding;
use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};
use tokio::{io::AsyncReadExt, sync::OnceCell, time::timeout};

/// The word after the keeper's subcommand: try what a command must not be able to do.
pub(in crate::task) const TRY: &str = "try";
/// How long one level may take: it starts two small programs.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long one connection may take: it is on this machine.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes of the answer.
const ANSWER_BYTES_MAX: u64 = 4 << 10;
/// What is attempted, in the order of the answer. The first must work, the others must not.
const ATTEMPTS: [&str; 6] =
    ["write its folder", "write outside", "read the node's folder", "open TCP", "send UDP", "reach a local socket"];

/// The levels of one node, tried once, by whoever asks first. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Fences {
    found: Arc<OnceCell<Found>>,
    most: Option<Level>,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// The strongest level that there is.
    pub best: Level,
    /// Why the others are not there.
    pub why_not: BTreeMap<Level, String>,
    /// Bytes of this machine's memory, 0 if the system doesn't tell: what commands have shares of.
    pub memory_bytes: u64,
    /// The program of [`Level::Bubblewrap`].
    pub bwrap: Option<PathBuf>,
}

impl Fences {
    /// Those of a node that uses no stronger one than this, whatever else there is.
    pub fn at_most(level: Level) -> Fences {
        Fences { most: Some(level), ..Fences::default() }
    }

    /// What there is.
    pub async fn found(&self, context: &Context) -> &Found {
        self.found.get_or_init(|| probe(context, self.most.unwrap_or(Level::Bubblewrap))).await
    }
}

impl Found {
    /// The level at which a command runs that requires this one: exactly none if it asked for none, else the strongest
    /// that there is. Who requires nothing gets a fence too, or is refused: none has to be asked for.
    ///
    /// # Errors
    /// There is none that strong; for people.
    pub fn grant(&self, required: Option<Level>) -> Result<Level, String> {
        match required {
            Some(Level::None) => Ok(Level::None),
            required if required.unwrap_or(Level::Landlock) <= self.best => Ok(self.best),
            required => {
                let required = required.unwrap_or(Level::Landlock);
                let why = self.why_not.get(&required).map(|why| format!(": {why}")).unwrap_or_default();
                Err(format!("it has sandbox {}, not {required}{why}", self.best))
            }
        }
    }

    /// For `skep doctor`.
    pub fn finding(&self) -> Finding {
        let missing = self.why_not.iter().map(|(level, why)| format!("; {level}: {why}")).collect::<String>();
        let detail = match self.best {
            Level::None => format!("commands run only if they ask for no fence (`skep run --sandbox none`){missing}"),
            best => format!("commands run behind {best}{missing}"),
        };
        Finding { check: "sandbox".into(), ok: self.best > Level::None, detail }
    }
}

async fn probe(context: &Context, most: Level) -> Found {
    if context.env.simulated() {
        // No process is started there.
        return Found { best: Level::Landlock.min(most), ..Found::default() };
    }
    let memory_bytes = context.tasks.compute(crate::node::memory_bytes).await.unwrap_or(0);
    let mut found = Found { bwrap: super::bubblewrap::program(), memory_bytes, ..Found::default() };
    let home = context.home.join("probe");
    let mut open = None;
    for level in LEVELS {
        let tried = match level > most {
            true => Err("this node was told to do without".into()),
            false => timeout(TIMEOUT, attempt(context, level, &home, &found)).await.unwrap_or_else(|_| {
                Err(format!("the command that tries it did not end within {} s", TIMEOUT.as_secs()))
            }),
        };
        let held = tried.and_then(|refused| match level {
            // What is open without a fence is what a fence has to shut.
            Level::None => {
                open = Some(refused.iter().map(|refused| !refused).collect::<Vec<bool>>());
                Ok(())
            }
            _ => holds(&refused, open.as_deref()),
        });
        match held {
            Ok(()) => found.best = level,
            Err(why) if level == Level::None => tracing::info!(%why, "nothing can be tried without a fence"),
            Err(why) => {
                tracing::info!(%level, %why, "a sandbox level is not there");
                found.why_not.insert(level, why);
            }
        }
    }
    let _ = fs::remove_dir_all(&home);
    found
}

/// Whether a fence shut what was open without it, and left open what it has to.
fn holds(refused: &[bool], open: Option<&[bool]>) -> Result<(), String> {
    if refused[0] {
        return Err(format!("behind it a command can't {}", ATTEMPTS[0]));
    }
    let open = open.ok_or("what it has to refuse could not be tried without it")?;
    for (at, what) in ATTEMPTS.iter().enumerate().skip(1) {
        if !refused[at] {
            return Err(format!("behind it a command can {what}"));
        }
        if !open[at] {
            return Err(format!("nothing shows that it refuses to {what}: that can't be done without it either"));
        }
    }
    Ok(())
}

/// What was refused at this level, by [`ATTEMPTS`].
async fn attempt(context: &Context, level: Level, home: &Path, found: &Found) -> Result<Vec<bool>, String> {
    let exe = context.exe.as_deref().ok_or("this program embeds a node and names no program that could fence")?;
    let said = |e: std::io::Error| e.to_string();
    let _ = fs::remove_dir_all(home);
    let outside = home.join("outside");
    fs::create_dir_all(&outside).map_err(said)?;
    fs::write(outside.join("secret"), "x").map_err(said)?;
    let local = std::os::unix::net::UnixListener::bind(outside.join("socket")).map_err(said)?;
    let tcp = TcpListener::bind(("127.0.0.1", 0)).map_err(said)?;
    let udp = UdpSocket::bind(("127.0.0.1", 0)).map_err(said)?;
    udp.set_nonblocking(true).map_err(said)?;
    let at = |address: std::io::Result<SocketAddr>| address.map(|at| at.to_string()).map_err(said);
    let bytes = |path: &Path| path.to_str().map(str::to_owned).ok_or("the node's folder has a name that is no text");
    let (tcp_at, udp_at) = (at(tcp.local_addr())?, at(udp.local_addr())?);
    let args = vec![keeper::SUBCOMMAND.into(), TRY.into(), bytes(&outside)?, tcp_at, udp_at];
    let demand = Demand { sandbox: Some(level), ..Demand::default() };
    let spec = Spec { args, demand, readable: vec![bytes(exe)?], ..Spec::new(bytes(exe)?) };
    let mark = Mark { node: context.directory.id(), task: uuid::Uuid::nil(), attempt: level as u32 };
    let scratch = context.scratches.take().map_err(said)?;
    let launched = launch::launch(mark, &spec, &scratch, (level, u64::MAX), (context, found)).await.map_err(said)?;
    let (mut first, mut answer) = (launched.first, String::new());
    let read = launched.output.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).await;
    let ended = first.ended().await;
    first.retire(&context.keepers, &context.tasks).await;
    context.scratches.give_back(scratch, false, &context.tasks).await;
    read.and(ended).map_err(said)?;
    drop((local, tcp));
    let words: Vec<&str> = answer.split_whitespace().collect();
    let mut refused: Vec<bool> = words.iter().map(|word| *word == "no").collect();
    if refused.len() != ATTEMPTS.len() || !words.iter().all(|word| matches!(*word, "yes" | "no")) {
        return Err(format!("the command that tries it said: {}", answer.trim()));
    }
    // Whether a datagram was sent is not whether it came.
    refused[4] = udp.recv(&mut [0; 1]).is_err();
    Ok(refused)
}

/// The command's side: tries each, and says whether it could.
pub(in crate::task) fn try_all(mut arguments: impl Iterator<Item = std::ffi::OsString>) -> ExitCode {
    let (Some(outside), Some(tcp), Some(udp)) = (arguments.next(), arguments.next(), arguments.next()) else {
        return ExitCode::FAILURE;
    };
    let outside = PathBuf::from(outside);
    let address = |text: std::ffi::OsString| text.to_str().and_then(|text| text.parse::<SocketAddr>().ok());
    let (Some(tcp), Some(udp)) = (address(tcp), address(udp)) else { return ExitCode::FAILURE };
    let could = [
        fs::write("inside", "x").is_ok(),
        fs::write(outside.join("new"), "x").is_ok() || fs::write(outside.join("secret"), "").is_ok(),
        fs::read(outside.join("secret")).is_ok() || fs::read_dir(&outside).is_ok(),
        TcpStream::connect_timeout(&tcp, CONNECT_TIMEOUT).is_ok(),
        UdpSocket::bind(("127.0.0.1", 0)).and_then(|socket| socket.send_to(b"x", udp)).is_ok(),
        std::os::unix::net::UnixStream::connect(outside.join("socket")).is_ok(),
    ];
    let words = could.map(|could| if could { "yes" } else { "no" }).join(" ");
    match std::io::stdout().write_all(words.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_with_one_gap_is_none() {
        let open = [true; 6];
        let shut = [false, true, true, true, true, true];
        assert_eq!(holds(&shut, Some(&open)), Ok(()));
        for gap in 0..ATTEMPTS.len() {
            let mut refused = shut;
            refused[gap] = !refused[gap];
            assert!(holds(&refused, Some(&open)).unwrap_err().contains(ATTEMPTS[gap]));
        }
        let mut never = open;
        never[3] = false;
        assert!(holds(&shut, Some(&never)).unwrap_err().contains("nothing shows"));
        assert!(holds(&shut, None).is_err());
    }

    #[test]
    fn none_has_to_be_asked_for_and_nothing_weaker_is_given() {
        let found = |best| Found { best, ..Found::default() };
        assert_eq!(found(Level::None).grant(Some(Level::None)), Ok(Level::None));
        assert_eq!(found(Level::Bubblewrap).grant(Some(Level::None)), Ok(Level::None));
        assert_eq!(found(Level::Bubblewrap).grant(None), Ok(Level::Bubblewrap));
        assert_eq!(found(Level::Bubblewrap).grant(Some(Level::Landlock)), Ok(Level::Bubblewrap));
        assert_eq!(found(Level::Landlock).grant(None), Ok(Level::Landlock));
        assert!(found(Level::Landlock).grant(Some(Level::Bubblewrap)).is_err());
        assert!(found(Level::None).grant(None).unwrap_err().contains("sandbox none, not landlock"));
    }
}
