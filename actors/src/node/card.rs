//! A card as bytes, and whether it changed enough to be announced again.

use super::messages::Card;
use skep_runtime::wire;

/// Bytes of a card: every member pulls every card.
pub const CARD_BYTES_MAX: usize = 64 << 10;

/// The card's bytes. One that would be too large lists fewer models, then fewer pipelines and labels.
pub fn encode(card: &Card) -> Vec<u8> {
    let bytes = wire::encode(card);
    if bytes.len() <= CARD_BYTES_MAX {
        return bytes;
    }
    let mut card = card.clone();
    loop {
        let dropped = card.models.pop().is_some() || card.pipelines.pop().is_some() || card.labels.pop_last().is_some();
        let bytes = wire::encode(&card);
        if bytes.len() <= CARD_BYTES_MAX || !dropped {
            return bytes;
        }
    }
}

/// The card that a member announced; `None` if it was not pulled yet or is of another version.
pub fn decode(bytes: &[u8]) -> Option<Card> {
    if bytes.is_empty() { None } else { wire::decode(bytes, CARD_BYTES_MAX).ok() }
}

/// Whether others should know: anything changed but what is free, or that by a tenth of the whole.
pub fn differs(told: &Card, now: &Card) -> bool {
    let tenth = |told: u64, now: u64, whole: u64| told.abs_diff(now) > whole / 10;
    let same_but_free =
        Card { memory_free_bytes: told.memory_free_bytes, disk_free_bytes: told.disk_free_bytes, ..now.clone() };
    same_but_free != *told
        || tenth(told.memory_free_bytes, now.memory_free_bytes, now.memory_bytes)
        || tenth(told.disk_free_bytes, now.disk_free_bytes, now.disk_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::messages::CardModel;
    use proptest::prelude::*;

    #[test]
    fn a_card_with_too_many_models_still_fits() {
        let model = CardModel { name: "m".repeat(100), digest: "d".repeat(64), bytes: 1, layers: 1 };
        let card = Card { cpus: 4, models: vec![model; 1000], ..Card::default() };
        let decoded = decode(&encode(&card)).unwrap();
        assert!(decoded.cpus == 4 && decoded.models.len() > 300);
    }

    #[test]
    fn a_little_less_free_memory_is_no_news() {
        let told = Card { memory_bytes: 100, memory_free_bytes: 50, ..Card::default() };
        assert!(!differs(&told, &Card { memory_free_bytes: 45, ..told.clone() }));
        assert!(differs(&told, &Card { memory_free_bytes: 30, ..told.clone() }));
        assert!(differs(&told, &Card { cpus: 1, ..told.clone() }));
    }

    proptest! {
        #[test]
        fn foreign_bytes_are_a_card_or_none(bytes: Vec<u8>) {
            let _ = decode(&bytes);
        }
    }
}
