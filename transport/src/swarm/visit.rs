//! This node as a joiner: one conversation at another's door.
//!
//! Which door, and when, is decided in [`super::seek`] and by the owner's `skep join`.

use super::{door, ground::Ground};
use crate::{
    defaults::{JOIN_DIAL_TIMEOUT, JOIN_SEEN_TIMEOUT, JOIN_STEP_TIMEOUT},
    join::{
        Joiner, Line, Message,
        code::Code,
        knock,
        protocol::{self, PROOF_BYTES_MAX, Pass, Random, WELCOME_BYTES_MAX},
    },
    mesh::{self, Streams},
    roster::Roster,
};
use futures::{StreamExt, stream::FuturesUnordered};
use skep_runtime::{NodeId, frames, member::State, swarm::Error};
use std::{collections::BTreeSet, net::SocketAddr, time::Duration};
use tokio::time::timeout;

/// How long a name of a machine may take to become an address.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(3);

/// How a visit that was not an error ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// This node is in that swarm now.
    Joined,
    /// Nothing to do there: it is our own swarm, or the other side is the one to move.
    Stayed,
}

/// An open door: who stands there, where, and the stream.
pub(super) struct At {
    pub(super) door: NodeId,
    pub(super) addr: SocketAddr,
    streams: Streams,
}

/// Opens the door at `addr`; with `expected` nobody else's.
pub(super) async fn open(ground: &Ground, addr: SocketAddr, expected: Option<NodeId>) -> Result<At, Error> {
    let opened = ground.mesh()?.join(addr, expected).await;
    let (door, streams) = opened.map_err(|e| failure(e, addr))?;
    if door == ground.me() {
        return Err(Error::Refused("that address is this machine's own".to_owned()));
    }
    Ok(At { door, addr, streams })
}

/// Joins by an invite's line.
pub(super) async fn by_line(ground: &Ground, line: &Line, also: &[SocketAddr]) -> Result<(), Error> {
    let addresses: BTreeSet<SocketAddr> = line.addresses.iter().chain(also).copied().collect();
    if addresses.is_empty() {
        return Err(Error::BadInvite);
    }
    let at = open_any(ground, &addresses, line.inviter).await?;
    prove(ground, at, Pass::Line(line.secret), false).await.map(|_| ())
}

/// Opens the door of `expected` at whichever of its addresses it answers.
async fn open_any(ground: &Ground, addresses: &BTreeSet<SocketAddr>, expected: NodeId) -> Result<At, Error> {
    // All at once: the machine answers at one of its interfaces, and which is not known.
    let mut dials: FuturesUnordered<_> = addresses.iter().map(|addr| open(ground, *addr, Some(expected))).collect();
    let mut why = Error::Unreachable(listed(addresses));
    let found = timeout(JOIN_DIAL_TIMEOUT, async {
        while let Some(dial) = dials.next().await {
            match dial {
                Ok(at) => return Some(at),
                Err(Error::Unreachable(_)) => {}
                Err(e) => why = e,
            }
        }
        None
    });
    found.await.ok().flatten().ok_or(why)
}

/// Asks `door`, a member that refuses this node, why, and shows it this node's own admission: then it may be dialled
/// again. If it shows an eviction that holds against this node's own roster, or that it has left itself, that is part of
/// it when this returns; nothing else that it may say changes anything.
pub(super) async fn why_not(ground: &Ground, door: NodeId, addresses: &[SocketAddr]) -> Result<(), Error> {
    let roster = ground.keeper.now();
    let addresses = addresses.iter().copied().collect();
    let At { streams: (mut to, mut from), .. } = open_any(ground, &addresses, door).await?;
    let (swarm, proof) = (roster.swarm(), roster.why_member(&ground.me(), PROOF_BYTES_MAX));
    say(&mut to, &Message::WhyNot { version: protocol::VERSION, swarm, proof }).await?;
    let Some(records) = protocol::explained(hear(&mut from).await?)? else {
        return ground.mesh()?.connect(door).await.map(|_| ()).map_err(|e| Error::Refused(e.to_string()));
    };
    let mut after = Roster::clone(&roster);
    after.merge(records.clone());
    if after.contains(&ground.me()) && after.contains(&door) {
        return Err(Error::Refused("it showed no reason that holds".to_owned()));
    }
    // What was merged meanwhile can only have been added, or be of another swarm, which takes none of these.
    ground.keeper.merge(records).await.map(|_| ())
}

/// Joins by a code at `host`, a name or an address with a port.
pub(super) async fn by_code(ground: &Ground, code: Code, host: &str) -> Result<(), Error> {
    let unreachable = || Error::Unreachable(host.to_owned());
    let addresses: Vec<SocketAddr> = match host.parse() {
        Ok(addr) => vec![addr],
        Err(_) => {
            let found = timeout(LOOKUP_TIMEOUT, tokio::net::lookup_host(host)).await;
            found.map_err(|_| unreachable())?.map_err(|_| unreachable())?.take(4).collect()
        }
    };
    for addr in addresses {
        match timeout(JOIN_DIAL_TIMEOUT, open(ground, addr, None)).await {
            Ok(Ok(at)) => return prove(ground, at, Pass::Code(code), false).await.map(|_| ()),
            Ok(Err(Error::Unreachable(_))) | Err(_) => {}
            Ok(Err(e)) => return Err(e),
        }
    }
    Err(unreachable())
}

/// Proves the swarm key to whoever stands there. Joins only a swarm that beats this node's own.
pub(super) async fn by_key(ground: &Ground, at: At) -> Result<Ended, Error> {
    let key = ground.config.swarm_key.clone().ok_or_else(|| Error::Refused("no swarm key is set".to_owned()))?;
    prove(ground, at, Pass::Key(key), true).await
}

/// The conversation by a secret. With `weigh` the better swarm wins; without, the owner has decided.
async fn prove(ground: &Ground, at: At, pass: Pass, weigh: bool) -> Result<Ended, Error> {
    let At { door, addr, streams: (mut to, mut from) } = at;
    let ours = ground.outline();
    let random = Random { nonce: ground.env.base.bytes(), seed: ground.env.base.bytes() };
    let (mut joiner, hello) = Joiner::start(ground.me(), door, pass, random, ours);
    say(&mut to, &hello).await?;
    let answer = hear(&mut from).await?;
    if weigh && answer == Message::Yield {
        return Ok(Ended::Stayed);
    }
    let proven = joiner.challenged(answer)?;
    let outline = proven.outline;
    if weigh && (outline.swarm == ours.swarm || !outline.beats(&ours)) {
        return Ok(Ended::Stayed);
    }
    // From here to the new roster nobody is admitted into the old one.
    let one = ground.change().await?;
    if ground.outline().swarm != ours.swarm {
        return Ok(Ended::Stayed);
    }
    say(&mut to, &proven.proof(&ground.name())).await?;
    let records = protocol::welcomed(hear(&mut from).await?)?;
    ground.adopt(records, door, outline).await?;
    drop(one);
    seen(ground, door, addr).await;
    Ok(Ended::Joined)
}

/// Knocks and waits until both owners approved, the other side gives up, or the caller does.
pub(super) async fn knock(ground: &Ground, at: At, nonce: [u8; 32]) -> Result<Ended, Error> {
    let At { door, addr, streams: (mut to, mut from) } = at;
    let (me, ours) = (ground.me(), ground.outline());
    let commitment = knock::commit(&me, &nonce);
    say(&mut to, &Message::Knock { version: protocol::VERSION, commitment, name: ground.name(), outline: ours })
        .await?;
    let (door_nonce, name, outline) = match hear(&mut from).await? {
        Message::Answer { nonce, name, outline } => (nonce, crate::roster::tidy_name(&name), outline),
        Message::Yield => return Ok(Ended::Stayed),
        other => return Err(protocol::welcomed(other).err().unwrap_or(Error::WrongPeer)),
    };
    say(&mut to, &Message::Reveal { nonce }).await?;
    ground.lobby().answered(&me, door, &name, addr, (nonce, door_nonce), ground.now_ms());
    let welcome = {
        let mut welcome = std::pin::pin!(listen(&mut from));
        let mut consented = false;
        loop {
            let approved = ground.approvals.notified();
            let consent = ground.config.knock_is_consent || ground.lobby().approved(&door);
            if consent && !consented {
                consented = true;
                say(&mut to, &Message::Consent).await?;
            }
            tokio::select! {
                welcome = &mut welcome => break welcome?,
                _ = timeout(PRESENCE_PERIOD, approved) => ground.lobby().heard(&door, ground.now_ms()),
            }
            if ground.outline().swarm != ours.swarm {
                return Ok(Ended::Stayed);
            }
        }
    };
    let consent = ground.config.knock_is_consent || ground.lobby().approved(&door);
    if !consent {
        return Err(Error::Refused("it welcomed this machine without its owner's approval".to_owned()));
    }
    let records = protocol::welcomed(welcome)?;
    let one = ground.change().await?;
    if ground.outline().swarm != ours.swarm {
        return Ok(Ended::Stayed);
    }
    ground.adopt(records, door, outline).await?;
    drop(one);
    seen(ground, door, addr).await;
    Ok(Ended::Joined)
}

/// How often a machine at whose door this node waits is noted as present.
const PRESENCE_PERIOD: Duration = Duration::from_secs(5);

/// Waits a little until this node sees the one that admitted it. It is a member already, whatever comes: it will see
/// the others when they can be reached.
async fn seen(ground: &Ground, door: NodeId, addr: SocketAddr) {
    let mut changes = ground.members.changes();
    let up = async {
        let mesh = ground.mesh()?;
        mesh.learn(door, addr);
        mesh.connect(door).await.map_err(|e| failure(e, addr))?;
        let up = changes.wait_for(|picture| picture.get(&door).is_some_and(|m| m.state == State::Up));
        up.await.map(|_| ()).map_err(|_| Error::Timeout)
    };
    if let Err(error) = timeout(JOIN_SEEN_TIMEOUT, up).await.unwrap_or(Err(Error::Timeout)) {
        tracing::warn!(%error, %door, "joined, but who admitted this node is not seen yet");
    }
}

async fn say(to: &mut quinn::SendStream, message: &Message) -> Result<(), Error> {
    timeout(JOIN_STEP_TIMEOUT, door::send(to, message)).await.map_err(|_| Error::Timeout)?
}

async fn hear(from: &mut quinn::RecvStream) -> Result<Message, Error> {
    timeout(JOIN_STEP_TIMEOUT, listen(from)).await.map_err(|_| Error::Timeout)?
}

async fn listen(from: &mut quinn::RecvStream) -> Result<Message, Error> {
    let bytes = frames::read_bytes(from, WELCOME_BYTES_MAX).await.map_err(|e| Error::Refused(e.to_string()))?;
    Message::decode(&bytes.ok_or(Error::Timeout)?, WELCOME_BYTES_MAX)
}

fn failure(error: mesh::Error, addr: SocketAddr) -> Error {
    match error {
        mesh::Error::WrongKey(_) => Error::WrongPeer,
        mesh::Error::Refused(why) => Error::Refused(why),
        mesh::Error::Nobody(_) | mesh::Error::Unreachable(..) | mesh::Error::Timeout => {
            Error::Unreachable(addr.to_string())
        }
        other => Error::Refused(other.to_string()),
    }
}

fn listed(addresses: &BTreeSet<SocketAddr>) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
