//! What two members say to each other when they meet: who they are in this run, and their rosters until they agree.
//!
//! ```text
//! one side                               the other
//!   Greeting, some records            ->  merges
//!                                     <-  Greeting, the marks of all its records if the digests differ
//!   what it lacks, and what we lack   ->  merges
//!                                     <-  the records that we lack, its digest
//! ```
//!
//! Records are a set that only grows, so after one exchange without failures both have the same. What both have
//! travels as marks alone: while a swarm forms, every member's roster differs from every other's by a record or two.

use super::ground::{Command, Ground};
use crate::{
    defaults::EXCHANGE_TIMEOUT,
    membership::{
        Peer, Pulse,
        cards::{CARD_BYTES_MAX, Card},
    },
    mesh::{Protocol, Streams},
    roster::{Mark, Record},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use skep_runtime::{NodeId, frames, swarm::Error};
use std::net::SocketAddr;
use tokio::{io::AsyncRead, time::timeout};

/// Other members whose addresses one greeting hints at.
pub(super) const HINTS_MAX: usize = 64;
/// Addresses that are believed of one node in a greeting.
const ADDRESSES_MAX: usize = 8;

/// One member's first words to another.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Greeting {
    /// The version of its program.
    pub(super) version: String,
    /// Its key, which has to be the connection's.
    pub(super) id: NodeId,
    /// Its run.
    pub(super) epoch: u64,
    /// Its word on itself.
    pub(super) pulse: Pulse,
    /// Its card, where these are the first words over a connection: everyone who is met for the first time needs it.
    pub(super) card: Option<Card>,
    /// The name that its owner gives it now.
    pub(super) name: String,
    /// Where it says that it listens.
    pub(super) addresses: Vec<SocketAddr>,
    /// Where it reaches others.
    pub(super) others: Vec<(NodeId, Vec<SocketAddr>)>,
    /// Those that it hears of and can't reach: the answer tells where they are, if that is known.
    pub(super) lacks: Vec<NodeId>,
    /// The run under which it knows the one it greets; 0 if it doesn't.
    pub(super) known_as: u64,
    /// The digest of its roster.
    pub(super) digest: [u8; 32],
}

/// What the side that began knows to be different.
#[derive(Serialize, Deserialize)]
struct Difference {
    /// What the other side lacks.
    records: Vec<Record>,
    /// The marks of what this side lacks.
    lacks: Vec<Mark>,
}

impl Greeting {
    /// Its run.
    pub(super) fn peer(&self) -> Peer {
        Peer { id: self.id, epoch: self.epoch }
    }

    /// Cuts or leaves out what is longer than it may be, and refuses another's name.
    fn checked(mut self, from: NodeId) -> Result<Greeting, Error> {
        if self.id != from {
            return Err(Error::WrongPeer);
        }
        self.version.truncate(self.version.char_indices().nth(32).map_or(self.version.len(), |(at, _)| at));
        self.card = self.card.filter(|card| card.bytes.len() <= CARD_BYTES_MAX);
        self.addresses.truncate(ADDRESSES_MAX);
        self.others.truncate(HINTS_MAX);
        self.lacks.truncate(HINTS_MAX);
        self.others.iter_mut().for_each(|(_, addresses)| addresses.truncate(ADDRESSES_MAX));
        Ok(self)
    }
}

/// Meets `peer` and offers it `records`; both have the same roster afterwards. Gives its greeting.
pub(super) async fn offer(ground: &Ground, peer: NodeId, records: Vec<Record>) -> Result<Greeting, Error> {
    let result = timeout(EXCHANGE_TIMEOUT, async {
        let streams =
            ground.mesh()?.control(peer, Protocol::Roster).await.map_err(|e| Error::Refused(e.to_string()))?;
        converse(ground, peer, streams, records).await
    });
    let greeting = result.await.map_err(|_| Error::Timeout)??;
    tell(ground, greeting.clone()).await;
    Ok(greeting)
}

/// Hands `peer` one record that this node itself has not merged yet, and stops there.
pub(super) async fn tell_only(ground: &Ground, peer: NodeId, record: Record) -> Result<(), Error> {
    let (mut to, mut from) =
        ground.mesh()?.control(peer, Protocol::Roster).await.map_err(|e| Error::Refused(e.to_string()))?;
    write(&mut to, &(ground.greeting(&peer, &[]), vec![record])).await?;
    read::<(Greeting, Vec<Mark>)>(&mut from).await.map(|_| ())
}

async fn converse(
    ground: &Ground,
    peer: NodeId,
    (mut to, mut from): Streams,
    records: Vec<Record>,
) -> Result<Greeting, Error> {
    write(&mut to, &(ground.greeting(&peer, &[]), records)).await?;
    let (theirs, marks): (Greeting, Vec<Mark>) = read(&mut from).await?;
    let mut theirs = theirs.checked(peer)?;
    let mine = ground.keeper.now();
    if mine.digest() != theirs.digest {
        let (records, lacks) = mine.against(&marks);
        write(&mut to, &Difference { records, lacks }).await?;
        let (records, digest): (Vec<Record>, [u8; 32]) = read(&mut from).await?;
        merge(ground, peer, records).await?;
        theirs.digest = digest;
    }
    Ok(theirs)
}

/// Answers a member that meets this node.
pub(super) async fn answer(ground: &Ground, peer: NodeId, streams: Streams) -> Result<(), Error> {
    let greeting = timeout(EXCHANGE_TIMEOUT, reply(ground, peer, streams)).await.map_err(|_| Error::Timeout)??;
    tell(ground, greeting).await;
    Ok(())
}

async fn reply(ground: &Ground, peer: NodeId, (mut to, mut from): Streams) -> Result<Greeting, Error> {
    let (theirs, records): (Greeting, Vec<Record>) = read(&mut from).await?;
    let theirs = theirs.checked(peer)?;
    merge(ground, peer, records).await?;
    let mine = ground.keeper.now();
    let differ = mine.digest() != theirs.digest;
    let marks = if differ { mine.marks().collect() } else { Vec::new() };
    write(&mut to, &(ground.greeting(&peer, &theirs.lacks), marks)).await?;
    // They stop here if they have the same.
    if differ && let Some(difference) = frames::read::<Difference>(&mut from).await.map_err(broke)? {
        merge(ground, peer, difference.records).await?;
        let now = ground.keeper.now();
        write(&mut to, &(now.marked(&difference.lacks), now.digest())).await?;
    }
    Ok(theirs)
}

async fn merge(ground: &Ground, peer: NodeId, records: Vec<Record>) -> Result<(), Error> {
    if records.is_empty() {
        return Ok(());
    }
    let merged = ground.keeper.merge(records).await?;
    if merged.refused > 0 {
        tracing::warn!(?peer, refused = merged.refused, "a member sent records that don't hold");
    }
    Ok(())
}

async fn tell(ground: &Ground, greeting: Greeting) {
    // A full queue is a driver that is behind; it will hear of the peer by its packets.
    let _ = ground.commands.send(Command::Met(Box::new(greeting))).await;
}

async fn write<T: Serialize>(to: &mut quinn::SendStream, value: &T) -> Result<(), Error> {
    frames::write(to, value).await.map_err(broke)
}

async fn read<T: DeserializeOwned>(from: &mut (impl AsyncRead + Unpin)) -> Result<T, Error> {
    frames::read(from).await.map_err(broke)?.ok_or(Error::Timeout)
}

fn broke(error: skep_runtime::Error) -> Error {
    Error::Refused(error.to_string())
}
