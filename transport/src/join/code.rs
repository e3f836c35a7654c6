//! The short code: six characters that a person reads from one screen and types at the other.
//!
//! The first character names the invite; the other five are the password of a SPAKE2 exchange (`spake2` 0.4,
//! Ed25519 group) whose identities are both TLS keys. So a guess costs one of few tries, at the door, and what
//! is overheard helps nobody. The swarm's key goes through the same exchange.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use skep_runtime::NodeId;
use spake2::{Ed25519Group, Identity, Password, Spake2};
use std::{collections::BTreeSet, fmt};

/// Invites that a first character can tell apart.
pub const SLOTS: usize = ALPHABET.len();
/// Digits and letters without 0, O, 1, I, L, U: none is taken for another, and few words come about.
const ALPHABET: &[u8; 30] = b"23456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Characters of a code. Five secret ones are 24 million: with [`super::book::TRIES_MAX`] tries, one chance in two
/// million for one code, and one in seventy thousand while all [`SLOTS`] are open.
pub const CODE_CHARS: usize = 6;

/// A short code. Its `Debug` shows nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Code([u8; CODE_CHARS]);

impl Code {
    /// The code that these random bytes choose, its first character one of those that are not `taken`. `None` if all
    /// are.
    pub fn from_random(random: [u64; CODE_CHARS], taken: &BTreeSet<u8>) -> Option<Code> {
        let free: Vec<u8> = ALPHABET.iter().copied().filter(|slot| !taken.contains(slot)).collect();
        let chosen = |random: u64, from: &[u8]| from.get((random % from.len().max(1) as u64) as usize).copied();
        let mut symbols = random.map(|r| ALPHABET[(r % ALPHABET.len() as u64) as usize]);
        symbols[0] = chosen(random[0], &free)?;
        Some(Code(symbols))
    }

    /// The code that someone typed, in either case, with blanks or dashes; `None` if it can't be one.
    pub fn parse(text: &str) -> Option<Code> {
        let typed = text.chars().filter(|c| !c.is_whitespace() && *c != '-').take(CODE_CHARS + 1);
        let symbols: Vec<u8> = typed.map(|c| u8::try_from(c.to_ascii_uppercase()).unwrap_or(0)).collect();
        let symbols: [u8; CODE_CHARS] = symbols.try_into().ok()?;
        symbols.iter().all(|s| ALPHABET.contains(s)).then_some(Code(symbols))
    }

    /// Which invite of the door it opens: not secret.
    pub fn slot(&self) -> u8 {
        self.0[0]
    }

    /// What the exchange is about.
    pub(super) fn password(&self) -> &[u8] {
        &self.0
    }

    /// For the owner's screen.
    pub fn text(&self) -> String {
        self.0.iter().map(|&c| char::from(c)).collect()
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Code(..)")
    }
}

/// One side of the exchange, waiting for the other's message.
pub(super) struct Exchange(Spake2<Ed25519Group>);

impl Exchange {
    /// The joiner's side, and its message. `seed` is random, secret, and never used again.
    pub(super) fn joiner(password: &[u8], joiner: &NodeId, door: &NodeId, seed: [u8; 32]) -> (Exchange, Vec<u8>) {
        let (joiner, door) = (identity(joiner), identity(door));
        let (state, message) = Spake2::start_a_with_rng(&Password::new(password), &joiner, &door, Stream::new(seed));
        (Exchange(state), message)
    }

    /// The door's side, and its message. `seed` is random, secret, and never used again.
    pub(super) fn door(password: &[u8], joiner: &NodeId, door: &NodeId, seed: [u8; 32]) -> (Exchange, Vec<u8>) {
        let (joiner, door) = (identity(joiner), identity(door));
        let (state, message) = Spake2::start_b_with_rng(&Password::new(password), &joiner, &door, Stream::new(seed));
        (Exchange(state), message)
    }

    /// The secret that both share if both knew the code; `None` if the message is not one.
    pub(super) fn finish(self, message: &[u8]) -> Option<Vec<u8>> {
        self.0.finish(message).ok()
    }
}

/// One seed's random stream, behind the older trait that `spake2` 0.4 asks for.
struct Stream(ChaCha8Rng);

impl Stream {
    fn new(seed: [u8; 32]) -> Stream {
        Stream(ChaCha8Rng::from_seed(seed))
    }
}

impl rand_core_06::RngCore for Stream {
    fn next_u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand_core_06::Error> {
        self.0.fill_bytes(bytes);
        Ok(())
    }
}

impl rand_core_06::CryptoRng for Stream {}

fn identity(id: &NodeId) -> Identity {
    Identity::new(id.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NodeId = NodeId::from_bytes([1; 32]);
    const B: NodeId = NodeId::from_bytes([2; 32]);

    fn run(joiner: &str, door: &str, seen_by_joiner: NodeId) -> bool {
        let (joiner, door) = (Code::parse(joiner).unwrap(), Code::parse(door).unwrap());
        let (a, to_door) = Exchange::joiner(joiner.password(), &A, &seen_by_joiner, [1; 32]);
        let (b, to_joiner) = Exchange::door(door.password(), &A, &B, [2; 32]);
        a.finish(&to_joiner) == b.finish(&to_door)
    }

    #[test]
    fn the_right_code_gives_both_one_secret() {
        assert!(run("ABC234", "abc-2 34", B));
    }

    #[test]
    fn a_wrong_code_or_someone_in_between_does_not() {
        assert!(!run("ABC234", "ABC235", B));
        assert!(!run("ABC234", "ABC234", A));
    }

    #[test]
    fn a_code_takes_a_slot_that_is_free_as_long_as_there_is_one() {
        let mut taken = BTreeSet::new();
        while let Some(code) = Code::from_random([7; CODE_CHARS], &taken) {
            assert!(taken.insert(code.slot()));
        }
        assert_eq!(taken.len(), SLOTS);
    }

    #[test]
    fn what_is_no_code_is_refused() {
        for text in ["", "ABC23", "ABC2345", "ABC10O", "ABC2é4", &"A".repeat(100_000)] {
            assert_eq!(Code::parse(text), None);
        }
    }
}
