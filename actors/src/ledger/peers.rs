//! What is written here goes to all members that are up, at once. Who doesn't confirm it is compared with later.

use super::{
    NAME,
    entry::Entry,
    handle::Shared,
    messages::{Error, Message, PARCEL_BYTES_MAX, Taken},
};
use futures::{StreamExt, stream::FuturesUnordered};
use skep_runtime::{Handle, NodeId, Wire};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

/// How long a member may take to confirm: a flush on a slow disk. It is compared with later if it doesn't.
const PUSH_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a write waits for the first confirmation. A member that died is missed within 8 s, and then not waited for.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(10);

/// Sends entries to everyone who is up.
pub(super) fn tell(shared: &Arc<Shared>, entries: Arc<[Entry]>) {
    let work = push_to_all(shared.clone(), entries, None);
    shared.tasks.spawn(work);
}

/// The same, and waits until one of them has it on its disk, or nobody is left who could; and until so many of them have it,
/// whoever is left.
pub(super) async fn confirmed(shared: &Arc<Shared>, entries: Arc<[Entry]>, others: usize) -> Result<(), Error> {
    let up = shared.members.others_up().len();
    if up < others {
        tell(shared, entries);
        return Err(Error::Alone);
    }
    if up == 0 {
        return Ok(());
    }
    let (enough, confirmed) = oneshot::channel();
    let quorum = Quorum { others: others.max(1), strict: others > 0, enough };
    shared.tasks.spawn(push_to_all(shared.clone(), entries, Some(quorum)));
    let deadline = Instant::now() + CONFIRM_TIMEOUT;
    let mut changes = shared.members.changes();
    let alone = async {
        while shared.members.others_up().len() >= others.max(1) {
            if changes.changed().await.is_err() {
                break;
            }
        }
    };
    let mut confirmed = std::pin::pin!(confirmed);
    tokio::select! {
        biased;
        confirmed = timeout_at(deadline, &mut confirmed) => confirmed.ok().and_then(Result::ok).unwrap_or(Err(Error::Alone)),
        // Too many are down, as far as anyone can tell: there is nobody to wait for.
        () = alone => if others == 0 { Ok(()) } else { Err(Error::Alone) },
    }
}

/// How many others must have some entries, and who is told.
struct Quorum {
    others: usize,
    /// Only those count to whom nobody else owns them.
    strict: bool,
    enough: oneshot::Sender<Result<(), Error>>,
}

/// Sends entries to everyone who is up, and says when enough have them, or won't. If they don't, it says nothing, but not before
/// everyone had their time: whoever waits may learn that nobody else is left.
async fn push_to_all(shared: Arc<Shared>, entries: Arc<[Entry]>, mut quorum: Option<Quorum>) {
    let mut pushes: FuturesUnordered<_> =
        shared.members.others_up().into_iter().map(|id| push(&shared, id, &entries)).collect();
    let (mut have, mut fenced) = (0, 0);
    while let Some(taken) = pushes.next().await {
        let Some(taken) = taken else { continue };
        let counts = taken.fenced == 0 || quorum.as_ref().is_some_and(|quorum| !quorum.strict);
        have += usize::from(counts);
        fenced += usize::from(!counts);
        if let Some(quorum) = quorum.take_if(|quorum| have >= quorum.others) {
            // Whoever waited may have given up.
            let _ = quorum.enough.send(Ok(()));
        }
    }
    if let Some(Quorum { mut enough, .. }) = quorum {
        match fenced {
            0 => enough.closed().await,
            _ => drop(enough.send(Err(Error::Fenced))),
        }
    }
}

/// Sends entries to one member. What became of them there, if it has them all on its disk; if not, it is compared with later.
pub(super) async fn push(shared: &Arc<Shared>, id: NodeId, entries: &[Entry]) -> Option<Taken> {
    let mut all = Taken::default();
    for parcel in parcels(entries) {
        let ask = ledger(shared, id).ask(PUSH_TIMEOUT, |reply| Message::Push(Wire(parcel.to_vec()), reply)).await;
        let why = match ask {
            Ok(Ok(taken)) if taken.missing == 0 => {
                (all.later, all.fenced) = (all.later + taken.later, all.fenced + taken.fenced);
                continue;
            }
            Ok(Ok(_)) => "it found some too large, or its clock is a day behind".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        tracing::debug!(member = ?id, why, "it did not take records of the ledger");
        shared.behind(id);
        return None;
    }
    if all.later > 0 {
        // It knows better: so shall this node.
        shared.behind(id);
    }
    Some(all)
}

/// The ledger of a node.
pub(super) fn ledger(shared: &Shared, id: NodeId) -> Handle<Message> {
    shared.directory.at(id, NAME)
}

/// As many as a message holds, again and again.
fn parcels(entries: &[Entry]) -> Vec<&[Entry]> {
    let (mut parcels, mut rest) = (Vec::new(), entries);
    while !rest.is_empty() {
        let (parcel, more) = rest.split_at(fitting(rest.iter().map(Entry::bytes)));
        parcels.push(parcel);
        rest = more;
    }
    parcels
}

/// How many of these a message holds: at least one.
pub(super) fn fitting(bytes: impl Iterator<Item = usize>) -> usize {
    let sums = bytes.scan(0, |sum, bytes| {
        *sum += bytes;
        Some(*sum)
    });
    sums.take_while(|sum| *sum <= PARCEL_BYTES_MAX).count().max(1)
}
