//! The swarm key: one secret that unattended machines share (`SKEP_SWARM_KEY`). It is proven, never sent.

use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use std::fmt;

/// Fewest characters of a swarm key. What is overheard or asked for helps nobody to guess it ([`super::code`]): each
/// guess is a conversation at a door, of which there is no limit, so the key has to be out of their reach. Twenty
/// random letters and digits are 100 bits, four words from a list are 44 and would do.
pub const SWARM_KEY_CHARS_MIN: usize = 20;

/// The secret behind a swarm key. Its `Debug` shows nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; 32]);

/// The text is too short to be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the swarm key is too short: use at least {SWARM_KEY_CHARS_MIN} random characters, the same on every machine")]
pub struct TooShort;

impl Secret {
    /// The secret that this text stands for; blanks around it don't count.
    pub fn new(text: &str) -> Result<Secret, TooShort> {
        let text = text.trim();
        if text.chars().count() < SWARM_KEY_CHARS_MIN {
            return Err(TooShort);
        }
        let tag = sign(&Key::new(HMAC_SHA256, b"skep swarm key 1"), text.as_bytes());
        Ok(Secret(tag.as_ref().try_into().expect("HMAC-SHA-256 has 32 bytes")))
    }

    /// The bytes to prove with.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_key_is_refused_and_a_long_one_never_shown() {
        assert_eq!(Secret::new("hunter2"), Err(TooShort));
        let secret = Secret::new(" correct horse battery staple\n").unwrap();
        assert_eq!(secret, Secret::new("correct horse battery staple").unwrap());
        assert_eq!(format!("{secret:?}"), "Secret(..)");
    }
}
