//! This node's door: what strangers and members may open here. The mesh has proven their key and nothing else.

use super::{
    exchange,
    ground::{Command, Ground},
};
use crate::{
    defaults::{JOIN_STEP_TIMEOUT, PROOF_TIMEOUT},
    join::{
        Message, Method, Outline,
        protocol::{self, Greeting, MESSAGE_BYTES_MAX},
    },
    membership::cards,
    mesh::{Gate, Protocol, Streams},
    roster::{Record, Roster, SwarmId},
};
use futures::future::BoxFuture;
use skep_runtime::{NodeId, frames, swarm::Error};
use std::{
    net::SocketAddr,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{io::AsyncRead, time::timeout};

/// How often a machine that waits with an open stream is noted as present.
const PRESENCE_PERIOD: Duration = Duration::from_secs(5);

/// The gate that the mesh asks. Holds the ground weakly: the mesh holds the gate, and the ground the mesh.
pub(super) struct Door(Weak<Ground>);

impl Door {
    pub(super) fn new(ground: &Arc<Ground>) -> Arc<Door> {
        Arc::new(Door(Arc::downgrade(ground)))
    }
}

impl Gate for Door {
    fn is_member(&self, who: &NodeId) -> bool {
        self.0.upgrade().is_some_and(|ground| ground.keeper.now().contains(who))
    }

    fn joiner(&self, who: NodeId, from: SocketAddr, streams: Streams) -> BoxFuture<'static, ()> {
        let ground = self.0.upgrade();
        Box::pin(async move {
            let Some(ground) = ground else { return };
            let (mut to, mut from_them) = streams;
            let result = Visit { ground: &ground, who, from, to: &mut to, from_them: &mut from_them }.serve().await;
            match result {
                Ok(()) => {}
                Err(error) => {
                    tracing::info!(stranger = ?who, %from, %error, "not admitted");
                    let _ = timeout(JOIN_STEP_TIMEOUT, send(&mut to, &Message::Refused(error))).await;
                }
            }
            // The connection closes when this ends: what was said has to arrive first.
            let _ = to.finish();
            let _ = timeout(JOIN_STEP_TIMEOUT, to.stopped()).await;
        })
    }

    fn control(&self, peer: NodeId, protocol: Protocol, streams: Streams) -> BoxFuture<'static, ()> {
        let ground = self.0.upgrade();
        Box::pin(async move {
            let Some(ground) = ground else { return };
            match protocol {
                Protocol::Roster => {
                    if let Err(error) = exchange::answer(&ground, peer, streams).await {
                        tracing::debug!(?peer, %error, "no exchange");
                        // If the driver is behind, the next pulse that differs is as good.
                        let _ = ground.commands.try_send(Command::Unmet(peer));
                    }
                }
                Protocol::Card => {
                    let (mut to, _from) = streams;
                    let _ = cards::serve(&ground.card, &mut to).await;
                    let _ = to.finish();
                    let _ = to.stopped().await;
                }
                // The mesh's own; it doesn't ask us.
                Protocol::Link | Protocol::Bulk => {}
            }
        })
    }
}

/// One stranger at the door.
struct Visit<'a> {
    ground: &'a Ground,
    who: NodeId,
    from: SocketAddr,
    to: &'a mut quinn::SendStream,
    from_them: &'a mut quinn::RecvStream,
}

impl Visit<'_> {
    async fn serve(&mut self) -> Result<(), Error> {
        let Some(first) = self.hear().await? else { return Ok(()) };
        match first {
            Message::Hello { version, method, nonce, pake, outline } => {
                let greeting = Greeting { version, method, nonce, pake };
                timeout(PROOF_TIMEOUT, self.greeted(greeting, outline)).await.unwrap_or(Err(Error::Timeout))
            }
            Message::Knock { version, commitment, name, outline } => {
                if version != protocol::VERSION {
                    return Err(protocol::other_version(version));
                }
                self.knocked(commitment, &name, outline).await
            }
            Message::WhyNot { version, swarm, proof } => {
                if version != protocol::VERSION {
                    return Err(protocol::other_version(version));
                }
                self.asked_why(swarm, proof).await
            }
            _ => Err(Error::Refused("a conversation starts with a greeting, a knock or a question".to_owned())),
        }
    }

    /// Someone believes to be a member of `swarm`, as this node is or was, and was refused.
    async fn asked_why(&mut self, swarm: SwarmId, proof: Vec<Record>) -> Result<(), Error> {
        let roster = self.ground.keeper.now();
        let records = match roster.swarm() == swarm {
            true => roster.why_evicted(&self.who),
            false => self.ground.keeper.departure(swarm).into_iter().collect(),
        };
        if !records.is_empty() {
            return self.say(&Message::Because { records }).await;
        }
        // Of a stranger's records only those are kept that make it a member.
        let mut after = Roster::clone(&roster);
        after.merge(proof.clone());
        if roster.swarm() == swarm && after.contains(&self.who) {
            self.ground.keeper.merge(proof).await?;
            tracing::info!(member = ?self.who, "showed an admission that was not known here");
            return self.say(&Message::Believed).await;
        }
        // Whoever admitted it may have been out by then.
        let admitters = proof.iter().map(Record::by);
        match admitters.map(|by| roster.why_evicted(&by)).find(|why| !why.is_empty()) {
            Some(records) => self.say(&Message::Because { records }).await,
            None => Err(Error::Refused("there is no eviction of this key here".to_owned())),
        }
    }

    /// Someone claims to have an invite or the swarm's key.
    async fn greeted(&mut self, greeting: Greeting, theirs: Outline) -> Result<(), Error> {
        let ours = self.ground.outline();
        if greeting.method == Method::Key && theirs.beats(&ours) && theirs.swarm != ours.swarm {
            return self.say(&Message::Yield).await;
        }
        let (door, challenge) = {
            let here = protocol::Here {
                me: self.ground.me(),
                outline: ours,
                key: self.ground.config.swarm_key.as_ref(),
                nonce: self.ground.env.base.bytes(),
                seed: self.ground.env.base.bytes(),
                now_ms: self.ground.now_ms(),
            };
            protocol::Door::challenge(here, self.who, &greeting, &mut self.ground.book())?
        };
        self.say(&challenge).await?;
        let Some(answer) = self.hear().await? else { return Ok(()) };
        let name = {
            let now_ms = self.ground.now_ms();
            door.prove(answer, &mut self.ground.book(), now_ms)?
        };
        self.welcome(&name, ours).await
    }

    /// Someone without a secret wants in.
    async fn knocked(&mut self, commitment: [u8; 32], name: &str, theirs: Outline) -> Result<(), Error> {
        let ours = self.ground.outline();
        let roster = self.ground.keeper.now();
        if roster.is_evicted(&self.who) {
            return Err(Error::Refused(crate::roster::Invalid::Evicted.to_string()));
        }
        if theirs.beats(&ours) {
            return self.say(&Message::Yield).await;
        }
        let crowded = || Error::Refused("too many machines knock here: try another member, or later".to_owned());
        let _place = self.ground.knockers.enter(self.from.ip()).ok_or_else(crowded)?;
        let name = crate::roster::tidy_name(name);
        let (me, now_ms) = (self.ground.me(), self.ground.now_ms());
        let fresh = self.ground.env.base.bytes();
        let nonce = self.ground.lobby().knock(self.who, &name, self.from, commitment, fresh, now_ms)?;
        self.say(&Message::Answer { nonce, name: self.ground.name(), outline: ours }).await?;
        let Some(Message::Reveal { nonce }) = self.hear().await? else { return Ok(()) };
        self.ground.lobby().reveal(&me, &self.who, &nonce, self.ground.now_ms())?;
        self.await_approval(&name, ours).await
    }

    /// Both owners have to say yes: ours by `approve`, theirs by a message.
    async fn await_approval(&mut self, name: &str, ours: Outline) -> Result<(), Error> {
        let (ground, who) = (self.ground, self.who);
        let consent = AtomicBool::new(false);
        let listen = async {
            while let Ok(Some(Message::Consent)) = hear(self.from_them).await {
                consent.store(true, Ordering::Relaxed);
                ground.approvals.notify_waiters();
            }
        };
        let approval = async {
            loop {
                // Made before the look, so that nothing said in between is missed.
                let approved = ground.approvals.notified();
                if consent.load(Ordering::Relaxed) && ground.lobby().approved(&who) {
                    return;
                }
                let _ = timeout(PRESENCE_PERIOD, approved).await;
                ground.lobby().heard(&who, ground.now_ms());
            }
        };
        tokio::select! {
            () = listen => return Ok(()),
            () = approval => {}
        }
        self.welcome(name, ours).await
    }

    async fn welcome(&mut self, name: &str, ours: Outline) -> Result<(), Error> {
        let records = self.ground.admit(self.who, name, ours).await?;
        self.say(&Message::Welcome { records }).await
    }

    async fn say(&mut self, message: &Message) -> Result<(), Error> {
        timeout(JOIN_STEP_TIMEOUT, send(self.to, message)).await.map_err(|_| Error::Timeout)?
    }

    /// The stranger's next message; `None` if it has nothing more to say.
    async fn hear(&mut self) -> Result<Option<Message>, Error> {
        timeout(JOIN_STEP_TIMEOUT, hear(self.from_them)).await.map_err(|_| Error::Timeout)?
    }
}

pub(super) async fn send(to: &mut quinn::SendStream, message: &Message) -> Result<(), Error> {
    frames::write(to, message).await.map_err(|e| Error::Refused(e.to_string()))
}

/// One message of a stranger. Not to be dropped half-way, unless the conversation ends with it.
async fn hear(from: &mut (impl AsyncRead + Unpin)) -> Result<Option<Message>, Error> {
    let bytes = frames::read_bytes(from, MESSAGE_BYTES_MAX).await.map_err(|e| Error::Refused(e.to_string()))?;
    bytes.map(|bytes| Message::decode(&bytes, MESSAGE_BYTES_MAX)).transpose()
}
