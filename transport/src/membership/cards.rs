//! Pulling a member's card on a stream of its own, when its pulse says that there is a newer one. The first
//! one comes with a member's first words (`swarm/exchange.rs`).
//!
//! A card is opaque here. It comes from the member itself, never from a third, so nobody can forge another's.

use serde::{Deserialize, Serialize};
use skep_runtime::{frames, swarm::Error};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::io::{AsyncRead, AsyncWrite};

/// Bytes of one card: hardware, models and labels of a machine are a few KiB.
pub const CARD_BYTES_MAX: usize = 64 << 10;

/// A card and its version, which grows with every change, across restarts as well.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Card {
    /// The version; 0 before the first.
    pub version: u64,
    /// What it says, as `actors` encodes it.
    pub bytes: Arc<Vec<u8>>,
}

/// This node's own card. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Own(Arc<RwLock<Card>>);

impl Own {
    /// The card now.
    pub fn now(&self) -> Card {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes the card and says its new version, at least `floor`; `None` if it is as it was or too large.
    pub fn change(&self, bytes: Vec<u8>, floor: u64) -> Option<u64> {
        if bytes.len() > CARD_BYTES_MAX {
            tracing::warn!(bytes = bytes.len(), max = CARD_BYTES_MAX, "the card is too large and was not published");
            return None;
        }
        let mut card = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if card.version > 0 && *card.bytes == bytes {
            return None;
        }
        *card = Card { version: (card.version + 1).max(floor), bytes: Arc::new(bytes) };
        Some(card.version)
    }
}

/// Answers a pull.
pub async fn serve(own: &Own, to: &mut (impl AsyncWrite + Unpin)) -> Result<(), skep_runtime::Error> {
    frames::write(to, &own.now()).await
}

/// Reads what the other side's [`serve`] wrote.
pub async fn pull(from: &mut (impl AsyncRead + Unpin)) -> Result<Card, Error> {
    let card = frames::read::<Card>(from).await.map_err(|e| Error::Refused(e.to_string()))?.ok_or(Error::Timeout)?;
    if card.bytes.len() > CARD_BYTES_MAX {
        return Err(Error::Refused(format!("its card is larger than {CARD_BYTES_MAX} bytes")));
    }
    Ok(card)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_card_comes_over_with_its_version() {
        let own = Own::default();
        assert_eq!(own.change(vec![1, 2, 3], 1000), Some(1000));
        assert_eq!(own.change(vec![1, 2, 3], 1000), None);
        assert_eq!(own.change(vec![4], 1000), Some(1001));
        let (mut near, mut far) = tokio::io::duplex(1024);
        serve(&own, &mut near).await.unwrap();
        assert_eq!(pull(&mut far).await, Ok(own.now()));
    }

    #[tokio::test]
    async fn a_card_over_the_limit_is_neither_published_nor_taken() {
        let own = Own::default();
        assert_eq!(own.change(vec![0; CARD_BYTES_MAX + 1], 1), None);
        let forged = Card { version: 1, bytes: Arc::new(vec![0; CARD_BYTES_MAX + 1]) };
        let (mut near, mut far) = tokio::io::duplex(256 << 10);
        frames::write(&mut near, &forged).await.unwrap();
        assert!(pull(&mut far).await.is_err());
    }
}
