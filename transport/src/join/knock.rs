//! Knocking: two machines without a common secret, whose owners compare six digits on two screens.
//!
//! The digits are a hash over both keys and both nonces. The joiner commits to its nonce before it sees the
//! door's, so neither side, nor anyone in between, can choose what the screens show. Both owners approve: the
//! door's, because the machine gets in; the joiner's, because whoever takes it in may run commands on it. This
//! is Bluetooth's numeric comparison. Tables only: no I/O, no clock.

use crate::{origin::Origin, roster::SwarmId};
use aws_lc_rs::digest::{Context, SHA256};
use skep_runtime::{NodeId, swarm::Error, swarm::Waiting};
use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
};

/// Machines that may wait at one door.
pub const WAITING_MAX: usize = 32;
/// How long a place is kept after the machine was last heard.
const PLACE_MS: u64 = 10 * 60_000;
/// The time in which draws are counted.
const DRAWS_MS: u64 = 10 * 60_000;
/// Digits that a door draws in that time, for everyone together. Whoever wants two screens to show digits of its choice
/// has to draw until they come, which takes a million draws, and doesn't have to show itself for it: it has one chance
/// in thirty thousand while two people look for the digits.
const DRAWS_MAX: usize = 32;
/// Of these, for one origin: a machine that is started again knocks anew, and several may stand behind one address.
const DRAWS_PER_ORIGIN_MAX: usize = 8;
/// A machine that knocked and hasn't been heard for so long is not shown any more.
const SHOWN_MS: u64 = 30_000;

/// The commitment to a nonce.
pub fn commit(joiner: &NodeId, nonce: &[u8; 32]) -> [u8; 32] {
    hash(&[b"skep knock 1: commitment", joiner.as_bytes(), nonce])
}

/// The six digits of one knock.
pub fn digits(joiner: &NodeId, door: &NodeId, joiner_nonce: &[u8; 32], door_nonce: &[u8; 32]) -> String {
    let parts: [&[u8]; 5] = [b"skep knock 1: digits", joiner.as_bytes(), door.as_bytes(), joiner_nonce, door_nonce];
    let hash = hash(&parts);
    let number = u64::from_le_bytes(*hash.first_chunk().expect("a hash has 32 bytes"));
    format!("{:06}", number % 1_000_000)
}

fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Context::new(&SHA256);
    // All parts but the label have one length, so nothing can move from one into the next.
    parts.iter().for_each(|part| hash.update(part));
    hash.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// One pair of machines in the course of a knock, seen from either side.
#[derive(Debug, Clone)]
struct Place {
    name: String,
    address: SocketAddr,
    since_ms: u64,
    heard_ms: u64,
    commitment: [u8; 32],
    door_nonce: [u8; 32],
    code: Option<String>,
    approved: bool,
}

/// Who knocks at this node, and where this node knocks.
#[derive(Debug, Clone, Default)]
pub struct Lobby {
    swarm: Option<SwarmId>,
    /// When digits were drawn, and for whom.
    draws: VecDeque<(u64, Origin)>,
    /// By the joiner's key.
    inbound: BTreeMap<NodeId, Place>,
    /// By the door's key.
    outbound: BTreeMap<NodeId, Place>,
}

impl Lobby {
    /// The node is in this swarm now: who waited for another one, and what its owner approved then, is forgotten.
    pub fn of(&mut self, swarm: SwarmId) -> &mut Lobby {
        if self.swarm.replace(swarm) != Some(swarm) {
            self.inbound.clear();
            self.outbound.clear();
        }
        self
    }

    /// `joiner` knocks: the door's nonce for it. The same knock gets the same nonce again, so that its digits stay;
    /// another one draws new digits, of which there are few.
    pub fn knock(
        &mut self,
        joiner: NodeId,
        name: &str,
        address: SocketAddr,
        commitment: [u8; 32],
        fresh_nonce: [u8; 32],
        now_ms: u64,
    ) -> Result<[u8; 32], Error> {
        self.inbound.retain(|_, p| p.heard_ms + PLACE_MS > now_ms);
        let known = self.inbound.get(&joiner).filter(|p| p.commitment == commitment).map(|p| p.door_nonce);
        if known.is_none() {
            let crowded = self.inbound.len() >= WAITING_MAX && !self.inbound.contains_key(&joiner);
            if crowded || !self.draw(address, now_ms) {
                return Err(Error::Refused("too many machines knock here: try another member, or later".to_owned()));
            }
        }
        let door_nonce = known.unwrap_or(fresh_nonce);
        let place = self.inbound.entry(joiner).or_insert_with(|| Place::new(address, now_ms));
        if known.is_none() {
            // Another nonce is another pair of digits: nobody has compared those.
            (place.code, place.approved) = (None, false);
        }
        (place.name, place.address, place.heard_ms) = (name.to_owned(), address, now_ms);
        (place.commitment, place.door_nonce) = (commitment, door_nonce);
        Ok(door_nonce)
    }

    /// Whether new digits may be drawn for someone there.
    fn draw(&mut self, address: SocketAddr, now_ms: u64) -> bool {
        self.draws.retain(|(at, _)| at + DRAWS_MS > now_ms);
        let origin = Origin::from(address.ip());
        let here = self.draws.iter().filter(|(_, drawn)| *drawn == origin).count();
        let drawn = self.draws.len() < DRAWS_MAX && here < DRAWS_PER_ORIGIN_MAX;
        if drawn {
            self.draws.push_back((now_ms, origin));
        }
        drawn
    }

    /// `joiner` opens its commitment: the digits that both screens show now.
    pub fn reveal(&mut self, door: &NodeId, joiner: &NodeId, nonce: &[u8; 32], now_ms: u64) -> Result<String, Error> {
        let place = self.inbound.get_mut(joiner).ok_or(Error::Timeout)?;
        if commit(joiner, nonce) != place.commitment {
            return Err(Error::Refused("the knock was changed on its way".to_owned()));
        }
        let code = digits(joiner, door, nonce, &place.door_nonce);
        place.heard_ms = now_ms;
        place.code = Some(code.clone());
        Ok(code)
    }

    /// This node's knock was answered by `door` with `door_nonce`: the digits that both screens show now.
    pub fn answered(
        &mut self,
        me: &NodeId,
        door: NodeId,
        name: &str,
        address: SocketAddr,
        (nonce, door_nonce): ([u8; 32], [u8; 32]),
        now_ms: u64,
    ) -> String {
        let code = digits(me, &door, &nonce, &door_nonce);
        self.outbound.retain(|_, p| p.heard_ms + PLACE_MS > now_ms);
        let place = self.outbound.entry(door).or_insert_with(|| Place::new(address, now_ms));
        if place.code.as_ref() != Some(&code) {
            (place.since_ms, place.approved) = (now_ms, false);
        }
        (place.name, place.address, place.heard_ms) = (name.to_owned(), address, now_ms);
        place.code = Some(code.clone());
        code
    }

    /// The machine is still there.
    pub fn heard(&mut self, other: &NodeId, now_ms: u64) {
        for side in [&mut self.inbound, &mut self.outbound] {
            if let Some(place) = side.get_mut(other) {
                place.heard_ms = now_ms;
            }
        }
    }

    /// Forgets a machine: it is a member now, or gone.
    pub fn remove(&mut self, other: &NodeId) {
        self.inbound.remove(other);
        self.outbound.remove(other);
    }

    /// Whether this node's owner approved of the machine.
    pub fn approved(&self, other: &NodeId) -> bool {
        [&self.inbound, &self.outbound].iter().any(|side| side.get(other).is_some_and(|p| p.approved))
    }

    /// The owner approves of the machine that shows `code`.
    pub fn approve(&mut self, code: &str, now_ms: u64) -> Result<NodeId, Error> {
        let typed: String = code.chars().filter(char::is_ascii_digit).take(7).collect();
        let shown = |p: &Place| p.code.as_deref() == Some(&typed) && p.heard_ms + SHOWN_MS > now_ms;
        let sides = [&mut self.inbound, &mut self.outbound];
        let mut found: Vec<(NodeId, &mut Place)> = sides
            .into_iter()
            .flat_map(|side| side.iter_mut())
            .filter(|(_, p)| shown(p))
            .map(|(id, p)| (*id, p))
            .collect();
        match found.as_mut_slice() {
            [(id, place)] => {
                place.approved = true;
                Ok(*id)
            }
            [] => Err(Error::NoSuchNode(format!("no waiting machine shows {typed}: see `skep waiting`"))),
            _ => Err(Error::Refused("two machines show this code: restart one of them for another".to_owned())),
        }
    }

    /// Who waits here and where this node waits, by key.
    pub fn waiting(&self, now_ms: u64) -> Vec<Waiting> {
        let places = self.inbound.iter().chain(&self.outbound).filter(|(_, p)| p.heard_ms + SHOWN_MS > now_ms);
        let shown = places.filter_map(|(id, p)| {
            let code = p.code.clone()?;
            Some(Waiting { id: *id, name: p.name.clone(), address: p.address, code, since_ms: p.since_ms })
        });
        shown.collect()
    }
}

impl Place {
    fn new(address: SocketAddr, now_ms: u64) -> Place {
        Place {
            name: String::new(),
            address,
            since_ms: now_ms,
            heard_ms: now_ms,
            commitment: [0; 32],
            door_nonce: [0; 32],
            code: None,
            approved: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOINER: NodeId = NodeId::from_bytes([1; 32]);
    const DOOR: NodeId = NodeId::from_bytes([2; 32]);

    fn at() -> SocketAddr {
        "127.0.0.1:9".parse().unwrap()
    }

    fn from(n: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, n], 9))
    }

    fn knock(lobby: &mut Lobby, nonce: [u8; 32], fresh: [u8; 32], now_ms: u64) -> Result<String, Error> {
        lobby.knock(JOINER, "one", at(), commit(&JOINER, &nonce), fresh, now_ms)?;
        lobby.reveal(&DOOR, &JOINER, &nonce, now_ms)
    }

    #[test]
    fn both_screens_show_the_same_six_digits() {
        let (mut door, mut joiner) = (Lobby::default(), Lobby::default());
        let shown = knock(&mut door, [7; 32], [8; 32], 0).unwrap();
        assert_eq!(joiner.answered(&JOINER, DOOR, "two", at(), ([7; 32], [8; 32]), 0), shown);
        assert_eq!(shown.len(), 6);
        assert_eq!(door.waiting(1)[0].code, joiner.waiting(1)[0].code);
    }

    #[test]
    fn a_nonce_that_was_not_committed_to_is_refused() {
        let mut door = Lobby::default();
        door.knock(JOINER, "one", at(), commit(&JOINER, &[7; 32]), [8; 32], 0).unwrap();
        assert!(door.reveal(&DOOR, &JOINER, &[6; 32], 0).is_err());
        assert!(door.waiting(0).is_empty());
    }

    #[test]
    fn the_digits_stay_when_the_same_knock_comes_again() {
        let mut door = Lobby::default();
        let first = knock(&mut door, [7; 32], [8; 32], 0).unwrap();
        assert_eq!(door.approve(&first, 1), Ok(JOINER));
        assert_eq!(knock(&mut door, [7; 32], [9; 32], 5).unwrap(), first);
        assert!(door.approved(&JOINER));
        // Other digits need another approval.
        assert_ne!(knock(&mut door, [6; 32], [9; 32], 6).unwrap(), first);
        assert!(!door.approved(&JOINER));
    }

    #[test]
    fn only_what_is_shown_can_be_approved() {
        let mut door = Lobby::default();
        let code = knock(&mut door, [7; 32], [8; 32], 0).unwrap();
        assert!(matches!(door.approve("000000x", 1), Err(Error::NoSuchNode(_))));
        assert!(door.approve(&format!("{} {}", &code[..3], &code[3..]), SHOWN_MS - 1).is_ok());
        assert!(door.approve(&code, SHOWN_MS).is_err());
        assert!(door.waiting(SHOWN_MS).is_empty());
    }

    #[test]
    fn a_crowd_of_strangers_is_turned_away_and_pushes_nobody_out() {
        let mut door = Lobby::default();
        knock(&mut door, [7; 32], [8; 32], 0).unwrap();
        for n in 10..60 {
            let _ = door.knock(NodeId::from_bytes([n; 32]), "x", from(n), [0; 32], [n; 32], 1);
        }
        assert_eq!(door.inbound.len(), WAITING_MAX);
        assert!(knock(&mut door, [7; 32], [8; 32], 2).is_ok());
    }

    #[test]
    fn nobody_draws_digits_until_the_wanted_ones_come() {
        let mut door = Lobby::default();
        let mut drawn = |joiner: u8, from, now_ms| {
            let tries = 0u8..100;
            // Each with another commitment, as whoever grinds would.
            let tried =
                tries.map(|n| door.knock(NodeId::from_bytes([joiner; 32]), "x", from, [n; 32], [n; 32], now_ms));
            tried.filter(Result::is_ok).count()
        };
        assert_eq!(drawn(1, from(1), 0), DRAWS_PER_ORIGIN_MAX);
        assert_eq!(drawn(2, from(1), 1), 0, "another key draws from the same account");
        let others: usize = (2..100).map(|n| drawn(n, from(n), 2)).sum();
        assert_eq!(others, DRAWS_MAX - DRAWS_PER_ORIGIN_MAX);
        assert_eq!(drawn(1, from(1), DRAWS_MS), DRAWS_PER_ORIGIN_MAX, "an honest machine waits for ten minutes");
    }

    #[test]
    fn an_approval_is_for_the_swarm_that_it_was_given_in() {
        let mut door = Lobby::default();
        let (home, office) = (SwarmId([1; 32]), SwarmId([2; 32]));
        let code = knock(door.of(home), [7; 32], [8; 32], 0).unwrap();
        door.of(home).approve(&code, 1).unwrap();
        assert!(door.of(home).approved(&JOINER));
        assert!(!door.of(office).approved(&JOINER));
        knock(door.of(office), [7; 32], [8; 32], 2).unwrap();
        assert!(!door.of(office).approved(&JOINER));
    }
}
