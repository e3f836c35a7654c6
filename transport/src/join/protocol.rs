//! The join conversation, sans-I/O: messages, the joiner's state machine, the door's.
//!
//! Whoever drives it brings the messages, the time and random bytes, and carries out what it decides. The knock
//! shares the messages; its tables are in [`super::knock`].

use super::{
    book::{Book, Which},
    code::{Code, Exchange},
    invite::Line,
    key::Secret,
    proof::{Side, Transcript},
};
use crate::roster::{Record, SwarmId, tidy};
use serde::{Deserialize, Serialize};
use skep_runtime::{NodeId, swarm::Error, wire};

/// The version of these messages; another one is refused with words.
pub const VERSION: u16 = 3;
/// Bytes of a message from a stranger: the largest is a greeting with a name.
pub const MESSAGE_BYTES_MAX: usize = 4096;
/// Bytes of the records that a question may prove a membership with: a dozen admissions, and room for the rest of it.
pub const PROOF_BYTES_MAX: usize = 3072;
/// Characters that are shown of a stranger's reason: two lines of a terminal.
const REASON_CHARS_MAX: usize = 200;
/// Bytes of a welcome: the largest roster.
pub const WELCOME_BYTES_MAX: usize = 1 << 20;

/// A swarm in a few words: what decides which of two is joined, and nothing about its members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outline {
    /// Which.
    pub swarm: SwarmId,
    /// How many members.
    pub members: u16,
    /// When it was founded, in milliseconds since 1970, by its founder's clock.
    pub founded_ms: u64,
}

impl Outline {
    /// Whether one in `other` should move here: the larger swarm stays, then the older, then the lower id. A total
    /// order, so of two that meet exactly one moves.
    pub fn beats(&self, other: &Outline) -> bool {
        let rank = |o: &Outline| (std::cmp::Reverse(o.members), o.founded_ms, o.swarm);
        rank(self) < rank(other)
    }
}

/// How a joiner means to prove itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Method {
    /// By the secret of the invite with this tag.
    Line([u8; 8]),
    /// By the code of the invite in this slot.
    Code(u8),
    /// By the swarm's key.
    Key,
}

/// Everything that is said on a join stream.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// Joiner: how it will prove itself, and the swarm that it would leave.
    Hello {
        /// [`VERSION`].
        version: u16,
        /// The way in.
        method: Method,
        /// Random.
        nonce: [u8; 32],
        /// Its part of the exchange, for a code or the key.
        pake: Option<Vec<u8>>,
        /// Where it is now.
        outline: Outline,
    },
    /// Door: proves the swarm first.
    Challenge {
        /// Random.
        nonce: [u8; 32],
        /// Its part of the exchange, for a code.
        pake: Option<Vec<u8>>,
        /// That it knows the secret.
        proof: [u8; 32],
        /// What the joiner would join.
        outline: Outline,
        /// Tries that remain after this one, for a code.
        tries_left: u8,
    },
    /// Joiner: proves itself and says its name.
    Proof {
        /// That it knows the secret.
        proof: [u8; 32],
        /// The name that its owner gave it.
        name: String,
    },
    /// Door: the joiner is a member.
    Welcome {
        /// The whole roster, with the joiner's admission.
        records: Vec<Record>,
    },
    /// Joiner without a secret: asks for its owner's and the door's owner's approval.
    Knock {
        /// [`VERSION`].
        version: u16,
        /// Commits to the nonce that it reveals after the door's is known.
        commitment: [u8; 32],
        /// The name that its owner gave it.
        name: String,
        /// Where it is now.
        outline: Outline,
    },
    /// Door: its half of the six digits.
    Answer {
        /// Random.
        nonce: [u8; 32],
        /// The door's name.
        name: String,
        /// What the joiner would join.
        outline: Outline,
    },
    /// Joiner: its half of the six digits.
    Reveal {
        /// What the commitment was to.
        nonce: [u8; 32],
    },
    /// Joiner: its owner approved.
    Consent,
    /// Door: it would rather come to you; wait for it.
    Yield,
    /// Door: no, and why.
    Refused(Error),
    /// A machine whose roster says that it is a member, and that members refuse: why?
    WhyNot {
        /// [`VERSION`].
        version: u16,
        /// The swarm that it believes to be in.
        swarm: SwarmId,
        /// Its own admission and those above it, as many as fit: who admitted it may have told nobody else and left.
        proof: Vec<Record>,
    },
    /// Door: it is a member here, too, now that its proof is known: dial again.
    Believed,
    /// Door: because of these records. The machine was taken off that swarm's roster, or this one has left it.
    Because {
        /// The eviction, and the admissions that lead from the founder to who signed it; or this machine's departure.
        records: Vec<Record>,
    },
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Message::Hello { .. } => "Hello",
            Message::Challenge { .. } => "Challenge",
            Message::Proof { .. } => "Proof",
            Message::Welcome { .. } => "Welcome",
            Message::Knock { .. } => "Knock",
            Message::Answer { .. } => "Answer",
            Message::Reveal { .. } => "Reveal",
            Message::Consent => "Consent",
            Message::Yield => "Yield",
            Message::Refused(_) => "Refused",
            Message::WhyNot { .. } => "WhyNot",
            Message::Believed => "Believed",
            Message::Because { .. } => "Because",
        })
    }
}

impl Message {
    /// The message in these bytes, at most `max` of them.
    pub fn decode(bytes: &[u8], max: usize) -> Result<Message, Error> {
        let unreadable = |_| Error::Refused("an unreadable message: is it the same version of skep?".to_owned());
        Ok(match wire::decode(bytes, max).map_err(unreadable)? {
            Message::Refused(why) => Message::Refused(tidied(why)),
            message => message,
        })
    }
}

/// A stranger's reason, fit for a log and a terminal.
fn tidied(why: Error) -> Error {
    match why {
        Error::BadInvite | Error::Spent | Error::WrongCode { .. } | Error::WrongPeer | Error::Timeout => why,
        Error::Refused(text) => Error::Refused(tidy(&text, REASON_CHARS_MAX)),
        other => Error::Refused(tidy(&other.to_string(), REASON_CHARS_MAX)),
    }
}

/// What the joiner knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pass {
    /// The secret of an invite's line.
    Line([u8; 16]),
    /// An invite's code.
    Code(Code),
    /// The swarm key.
    Key(Secret),
}

/// The joiner's side between its greeting and the welcome.
pub struct Joiner {
    me: NodeId,
    door: NodeId,
    nonce: [u8; 32],
    pass: Pass,
    exchange: Option<Exchange>,
    tries_left: u8,
}

/// What a joiner has of its own to start with, new for each conversation. Its seed is as secret as the code.
#[derive(Clone, Copy)]
pub struct Random {
    /// Random bytes that are sent.
    pub nonce: [u8; 32],
    /// Random bytes that nobody else may know: what a code's exchange draws from.
    pub seed: [u8; 32],
}

/// A challenge that the swarm passed: it knows the secret. Nothing of the joiner has been said yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    /// The swarm to join.
    pub outline: Outline,
    proof: [u8; 32],
}

impl Proven {
    /// The joiner's own proof, to be sent if it does want to join this swarm.
    pub fn proof(self, name: &str) -> Message {
        Message::Proof { proof: self.proof, name: name.to_owned() }
    }
}

impl Joiner {
    /// Starts a conversation with the node that holds the key `door`.
    pub fn start(me: NodeId, door: NodeId, pass: Pass, random: Random, outline: Outline) -> (Joiner, Message) {
        let Random { nonce, seed } = random;
        let (method, password) = match &pass {
            Pass::Line(secret) => (Method::Line(Line::tag(secret)), None),
            Pass::Key(key) => (Method::Key, Some(key.bytes())),
            Pass::Code(code) => (Method::Code(code.slot()), Some(code.password())),
        };
        let (exchange, pake) = password.map(|password| Exchange::joiner(password, &me, &door, seed)).unzip();
        let hello = Message::Hello { version: VERSION, method, nonce, pake, outline };
        (Joiner { me, door, nonce, pass, exchange, tries_left: 0 }, hello)
    }

    /// Checks the door's answer to the greeting.
    pub fn challenged(&mut self, answer: Message) -> Result<Proven, Error> {
        let (door_nonce, pake, proof, outline) = match answer {
            Message::Challenge { nonce, pake, proof, outline, tries_left } => {
                self.tries_left = tries_left;
                (nonce, pake, proof, outline)
            }
            other => return Err(refusal(other)),
        };
        let secret = match &self.pass {
            Pass::Line(secret) => secret.to_vec(),
            Pass::Code(_) | Pass::Key(_) => {
                let exchange = self.exchange.take().ok_or(Error::WrongPeer)?;
                exchange.finish(&pake.unwrap_or_default()).ok_or(Error::WrongPeer)?
            }
        };
        let transcript = Transcript { joiner: self.me, door: self.door, joiner_nonce: self.nonce, door_nonce, outline };
        if !transcript.holds(&secret, Side::Door, &proof) {
            return Err(match &self.pass {
                Pass::Code(_) => Error::WrongCode { tries_left: self.tries_left },
                Pass::Line(_) => Error::WrongPeer,
                Pass::Key(_) => Error::Refused("the machine there has another swarm key".to_owned()),
            });
        }
        Ok(Proven { outline, proof: transcript.prove(&secret, Side::Joiner) })
    }
}

/// The records of a welcome, or why there is none.
pub fn welcomed(answer: Message) -> Result<Vec<Record>, Error> {
    match answer {
        Message::Welcome { records } => Ok(records),
        other => Err(refusal(other)),
    }
}

/// The records that are to explain a refusal, or why there are none; `None` if it is taken back. What records prove is
/// the roster's to say.
pub fn explained(answer: Message) -> Result<Option<Vec<Record>>, Error> {
    match answer {
        Message::Because { records } => Ok(Some(records)),
        Message::Believed => Ok(None),
        other => Err(refusal(other)),
    }
}

fn refusal(message: Message) -> Error {
    match message {
        Message::Refused(error) => error,
        Message::Yield => Error::Refused("the machine there is about to join this one: wait a moment".to_owned()),
        _ => Error::Refused("it broke the join protocol: is it the same version of skep?".to_owned()),
    }
}

/// The door's side between a greeting and its proof.
pub struct Door {
    transcript: Transcript,
    secret: Vec<u8>,
    which: Option<Which>,
}

/// A greeting to a door, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    /// [`VERSION`] of the joiner.
    pub version: u16,
    /// The way in.
    pub method: Method,
    /// Random.
    pub nonce: [u8; 32],
    /// Its part of the exchange, for a code.
    pub pake: Option<Vec<u8>>,
}

/// What a door has of its own to answer a greeting with.
pub struct Here<'a> {
    /// Its key.
    pub me: NodeId,
    /// Its swarm.
    pub outline: Outline,
    /// The swarm key, if it has one.
    pub key: Option<&'a Secret>,
    /// Random bytes, new for each greeting.
    pub nonce: [u8; 32],
    /// Random bytes that nobody else may know, new for each greeting: what a code's exchange draws from.
    pub seed: [u8; 32],
    /// The time, in milliseconds since 1970.
    pub now_ms: u64,
}

impl Door {
    /// Answers a greeting of `joiner`.
    pub fn challenge(
        here: Here<'_>,
        joiner: NodeId,
        greeting: &Greeting,
        book: &mut Book,
    ) -> Result<(Door, Message), Error> {
        let Here { me, outline, key, nonce, seed, now_ms } = here;
        if greeting.version != VERSION {
            return Err(other_version(greeting.version));
        }
        let no_exchange = || Error::Refused("it broke the join protocol: is it the same version of skep?".to_owned());
        let exchange = |password: &[u8]| {
            let (exchange, message) = Exchange::door(password, &joiner, &me, seed);
            let secret = exchange.finish(greeting.pake.as_deref().unwrap_or_default()).ok_or_else(no_exchange)?;
            Ok::<_, Error>((secret, Some(message)))
        };
        let mut left = 0;
        let (secret, pake, which) = match greeting.method {
            Method::Line(tag) => (book.secret(&tag, &joiner, now_ms)?.to_vec(), None, Some(Which::Line(tag))),
            Method::Key => {
                let key = key.ok_or_else(|| Error::Refused("no swarm key is set here".to_owned()))?;
                let (secret, message) = exchange(key.bytes())?;
                (secret, message, None)
            }
            Method::Code(slot) => {
                let (secret, message) = exchange(book.code(slot, &joiner, now_ms)?.password())?;
                left = book.guessed(slot, joiner);
                (secret, message, Some(Which::Code(slot)))
            }
        };
        let transcript = Transcript { joiner, door: me, joiner_nonce: greeting.nonce, door_nonce: nonce, outline };
        let proof = transcript.prove(&secret, Side::Door);
        let challenge = Message::Challenge { nonce, pake, proof, outline, tries_left: left };
        Ok((Door { transcript, secret, which }, challenge))
    }

    /// Checks the joiner's proof and spends the invite. `Ok` is the right to be admitted under the name given.
    pub fn prove(self, answer: Message, book: &mut Book, now_ms: u64) -> Result<String, Error> {
        let Message::Proof { proof, name } = answer else { return Err(refusal(answer)) };
        if !self.transcript.holds(&self.secret, Side::Joiner, &proof) {
            return Err(Error::Refused("the proof is wrong".to_owned()));
        }
        if let Some(which) = &self.which {
            book.spend(which, self.transcript.joiner, now_ms)?;
        }
        Ok(name)
    }
}

/// What is said to another version.
pub fn other_version(theirs: u16) -> Error {
    Error::Refused(format!(
        "it speaks version {theirs} of the join protocol, this machine {VERSION}: update the older one"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    const JOINER: NodeId = NodeId::from_bytes([1; 32]);
    const DOOR: NodeId = NodeId::from_bytes([2; 32]);
    const MIDDLE: NodeId = NodeId::from_bytes([3; 32]);
    const RANDOM: Random = Random { nonce: [8; 32], seed: [7; 32] };

    fn outline(members: u16, founded_ms: u64) -> Outline {
        Outline { swarm: SwarmId([founded_ms as u8; 32]), members, founded_ms }
    }

    fn book() -> Book {
        let mut book = Book::new(Duration::from_secs(600));
        book.open([5; 16], Code::parse("ABC234").unwrap(), 0);
        book
    }

    fn here(key: Option<&Secret>, now_ms: u64) -> Here<'_> {
        Here { me: DOOR, outline: outline(3, 1), key, nonce: [9; 32], seed: [10; 32], now_ms }
    }

    fn key(text: &str) -> Secret {
        Secret::new(text).unwrap()
    }

    /// One conversation; `seen` is the key that the joiner sees at the other end.
    fn talk(pass: Pass, book: &mut Book, swarm_key: Option<&Secret>, seen: NodeId) -> Result<String, Error> {
        let (mut joiner, hello) = Joiner::start(JOINER, seen, pass, RANDOM, outline(1, 2));
        let Message::Hello { version, method, nonce, pake, .. } = hello else { panic!() };
        let greeting = Greeting { version, method, nonce, pake };
        let (door, challenge) = Door::challenge(here(swarm_key, 1), JOINER, &greeting, book)?;
        let proven = joiner.challenged(challenge)?;
        door.prove(proven.proof("one"), book, 1)
    }

    #[test]
    fn each_right_pass_opens_the_door() {
        let secret = key("twenty characters long");
        for pass in [Pass::Line([5; 16]), Pass::Code(Code::parse("abc234").unwrap()), Pass::Key(secret.clone())] {
            assert_eq!(talk(pass, &mut book(), Some(&secret), DOOR), Ok("one".to_owned()));
        }
    }

    #[test]
    fn each_wrong_pass_fails_with_its_own_words() {
        let right = key("twenty characters long");
        assert_eq!(talk(Pass::Line([6; 16]), &mut book(), None, DOOR), Err(Error::Spent));
        let wrong = Pass::Code(Code::parse("ABC235").unwrap());
        assert_eq!(talk(wrong, &mut book(), None, DOOR), Err(Error::WrongCode { tries_left: 2 }));
        let other = Pass::Key(key("another twenty characters"));
        assert!(matches!(talk(other, &mut book(), Some(&right), DOOR), Err(Error::Refused(_))));
        assert!(matches!(talk(Pass::Key(right), &mut book(), None, DOOR), Err(Error::Refused(_))));
    }

    #[test]
    fn someone_in_between_passes_no_proof_on() {
        for pass in [Pass::Line([5; 16]), Pass::Code(Code::parse("ABC234").unwrap())] {
            assert!(talk(pass, &mut book(), None, MIDDLE).is_err());
        }
    }

    #[test]
    fn a_greeting_without_a_guess_costs_no_try() {
        let mut book = book();
        for pake in [None, Some(vec![]), Some(vec![0xff; 33])] {
            for _ in 0..20 {
                let greeting =
                    Greeting { version: VERSION, method: Method::Code(b'A'), nonce: [1; 32], pake: pake.clone() };
                assert!(Door::challenge(here(None, 1), MIDDLE, &greeting, &mut book).is_err());
            }
        }
        assert!(talk(Pass::Code(Code::parse("ABC234").unwrap()), &mut book, None, DOOR).is_ok());
    }

    #[test]
    fn what_the_door_shows_to_whoever_has_another_key_is_no_oracle_for_guesses() {
        let right = key("twenty characters long");
        let (_, hello) =
            Joiner::start(MIDDLE, DOOR, Pass::Key(key("a guess of twenty letters")), RANDOM, outline(1, 2));
        let Message::Hello { version, method, nonce, pake, .. } = hello else { panic!() };
        let greeting = Greeting { version, method, nonce, pake };
        let (_, challenge) = Door::challenge(here(Some(&right), 1), MIDDLE, &greeting, &mut book()).unwrap();
        let Message::Challenge { nonce: door_nonce, proof, outline, .. } = challenge else { panic!() };
        let transcript = Transcript { joiner: MIDDLE, door: DOOR, joiner_nonce: nonce, door_nonce, outline };
        assert!(!transcript.holds(right.bytes(), Side::Door, &proof), "it can't be checked with the key alone");
    }

    #[test]
    fn a_strangers_reason_writes_to_no_terminal() {
        let said = |error| {
            let bytes = wire::encode(&Message::Refused(error));
            match Message::decode(&bytes, WELCOME_BYTES_MAX) {
                Ok(Message::Refused(why)) => why.to_string(),
                other => panic!("{other:?}"),
            }
        };
        for error in [Error::Refused, Error::Unreachable, Error::NoSuchNode, Error::Store] {
            let shown = said(error(format!("\u{1b}[2Jno\nroot: {}", "x".repeat(100_000))));
            assert!(shown.chars().all(|c| !c.is_control()) && shown.len() < 2 * REASON_CHARS_MAX, "{shown:?}");
        }
        assert_eq!(said(Error::Spent), Error::Spent.to_string());
    }

    #[test]
    fn equal_seeds_greet_byte_for_byte_alike() {
        let greet = |seed| {
            let code = Pass::Code(Code::parse("ABC234").unwrap());
            wire::encode(&Joiner::start(JOINER, DOOR, code, Random { seed, ..RANDOM }, outline(1, 2)).1)
        };
        assert_eq!(greet([1; 32]), greet([1; 32]));
        assert_ne!(greet([1; 32]), greet([2; 32]));
    }

    #[test]
    fn a_used_invite_is_spent_for_everyone_else() {
        let mut book = book();
        talk(Pass::Line([5; 16]), &mut book, None, DOOR).unwrap();
        let greeting =
            Greeting { version: VERSION, method: Method::Line(Line::tag(&[5; 16])), nonce: [1; 32], pake: None };
        let second = Door::challenge(here(None, 2), MIDDLE, &greeting, &mut book);
        assert!(matches!(second, Err(Error::Spent)));
    }

    #[test]
    fn a_joiner_that_can_not_prove_itself_leaves_the_invite_open() {
        let mut book = book();
        let greeting =
            Greeting { version: VERSION, method: Method::Line(Line::tag(&[5; 16])), nonce: [1; 32], pake: None };
        let (door, _) = Door::challenge(here(None, 2), MIDDLE, &greeting, &mut book).unwrap();
        let forged = Message::Proof { proof: [0; 32], name: "x".into() };
        assert!(door.prove(forged, &mut book, 2).is_err());
        assert!(talk(Pass::Line([5; 16]), &mut book, None, DOOR).is_ok());
    }

    #[test]
    fn another_version_is_refused_with_words() {
        let greeting = Greeting { version: 9, method: Method::Key, nonce: [1; 32], pake: None };
        let refused = Door::challenge(here(None, 2), JOINER, &greeting, &mut book());
        assert!(matches!(refused, Err(Error::Refused(why)) if why.contains("version 9")));
    }

    #[test]
    fn of_two_swarms_exactly_one_yields() {
        let all = [outline(1, 1), outline(1, 2), outline(3, 2), outline(50, 9)];
        for a in &all {
            for b in &all {
                assert_eq!(a.beats(b) as u8 + b.beats(a) as u8, u8::from(a != b));
            }
        }
        assert!(outline(50, 9).beats(&outline(3, 2)) && outline(1, 1).beats(&outline(1, 2)));
    }

    proptest! {
        #[test]
        fn whatever_a_stranger_sends_is_a_message_or_refused(bytes: Vec<u8>) {
            let _ = Message::decode(&bytes, MESSAGE_BYTES_MAX);
        }

        #[test]
        fn no_message_in_the_wrong_place_opens_anything(bytes: Vec<u8>) {
            if let Ok(message) = Message::decode(&bytes, MESSAGE_BYTES_MAX) {
                let (mut joiner, _) = Joiner::start(JOINER, DOOR, Pass::Line([5; 16]), RANDOM, outline(1, 2));
                prop_assert!(joiner.challenged(message).is_err());
            }
        }
    }
}
