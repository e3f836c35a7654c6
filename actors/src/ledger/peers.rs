//! What is written here goes to all members that are up, at once. Who doesn't confirm it is compared with later.

use super::{
    NAME,
    entry::Entry,
    handle::Shared,
    messages::{Error, Message, PARCEL_BYTES_MAX},
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
    shared.tasks.spawn(push_to_all(shared.clone(), entries, Some((others.max(1), enough))));
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
        confirmed = timeout_at(deadline, &mut confirmed) => confirmed.ok().and_then(Result::ok).ok_or(Error::Alone),
        // Too many are down, as far as anyone can tell: there is nobody to wait for.
        () = alone => if others == 0 { Ok(()) } else { Err(Error::Alone) },
    }
}

/// Sends entries to everyone who is up, and says when so many have them. Says nothing if they don't, but not before
/// everyone had their time: whoever waits may learn that nobody else is left.
async fn push_to_all(shared: Arc<Shared>, entries: Arc<[Entry]>, mut enough: Option<(usize, oneshot::Sender<()>)>) {
    let mut pushes: FuturesUnordered<_> =
        shared.members.others_up().into_iter().map(|id| push(&shared, id, &entries)).collect();
    let mut have = 0;
    while let Some(done) = pushes.next().await {
        have += usize::from(done);
        if let Some((_, told)) = enough.take_if(|(others, _)| have >= *others) {
            // Whoever waited may have given up.
            let _: Result<(), ()> = told.send(());
        }
    }
    if let Some((_, mut told)) = enough {
        told.closed().await;
    }
}

/// Sends entries to one member. Whether it has them all on its disk; if not, it is compared with later.
pub(super) async fn push(shared: &Arc<Shared>, id: NodeId, entries: &[Entry]) -> bool {
    for parcel in parcels(entries) {
        let ask = ledger(shared, id).ask(PUSH_TIMEOUT, |reply| Message::Push(Wire(parcel.to_vec()), reply)).await;
        match ask {
            Ok(Ok(later)) if later.is_empty() => {}
            // It knows better: so shall this node.
            Ok(Ok(_)) => shared.behind(id),
            Ok(Err(error)) => {
                tracing::debug!(member = ?id, %error, "it did not take records of the ledger");
                shared.behind(id);
                return false;
            }
            Err(error) => {
                tracing::debug!(member = ?id, %error, "it did not take records of the ledger");
                shared.behind(id);
                return false;
            }
        }
    }
    true
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
