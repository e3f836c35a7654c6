//! Labels: what an owner says of a machine, and what the machine says of itself, for placement to ask about. Bounds and
//! words alone: the NodeActor keeps them.

use super::Card;
use std::collections::BTreeMap;

/// Labels of one machine that its owner gave.
pub const LABELS_MAX: usize = 64;
/// Characters of a label's key.
pub const KEY_CHARS_MAX: usize = 63;
/// Bytes of a label's value.
pub const VALUE_BYTES_MAX: usize = 255;
/// What every machine says of itself, by its [`Card`]: the system, the processor, the kind of machine. No owner's to give.
pub const OWN: [&str; 3] = ["os", "arch", "device"];

/// All labels of the machine with this card, its own words among them.
pub fn of(card: &Card) -> BTreeMap<String, String> {
    let mut labels = card.labels.clone();
    let own = [&card.os, &card.arch, &card.device_type];
    labels.extend(OWN.iter().zip(own).map(|(key, value)| ((*key).to_owned(), value.clone())));
    labels
}

/// Whether an owner may give a label.
///
/// # Errors
/// Why not, for people.
pub fn check(key: &str, value: &str) -> Result<(), String> {
    check_key(key)?;
    check_value(value)?;
    if OWN.contains(&key) {
        return Err(format!("{key}: each machine says itself what it is; choose another key"));
    }
    Ok(())
}

/// Whether a text can be a label's key: 1 to 63 letters, digits and `-._/`.
///
/// # Errors
/// What is wrong with it, for people.
pub fn check_key(key: &str) -> Result<(), String> {
    let sound = |c: char| c.is_alphanumeric() || "-._/".contains(c);
    if key.is_empty() || key.chars().count() > KEY_CHARS_MAX || !key.chars().all(sound) {
        let shown: String = key.chars().take(KEY_CHARS_MAX).collect();
        return Err(format!("{shown:?} is no label's key: 1 to {KEY_CHARS_MAX} letters, digits and -._/"));
    }
    Ok(())
}

/// Whether a text can be a label's value: at most 255 bytes, no control characters.
///
/// # Errors
/// What is wrong with it, for people.
pub fn check_value(value: &str) -> Result<(), String> {
    if value.len() > VALUE_BYTES_MAX || value.chars().any(char::is_control) {
        return Err(format!("a label's value has at most {VALUE_BYTES_MAX} bytes and no control characters"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_gives_what_has_a_sound_key_and_is_not_the_machines_own_to_say() {
        for (key, value) in [("gpu", ""), ("room/floor", "attic = top"), ("größe", "XL")] {
            assert_eq!(check(key, value), Ok(()));
        }
        for (key, value) in [("", ""), ("a b", ""), ("a=b", ""), ("!a", ""), ("os", "linux"), ("a", "x\ny")] {
            assert!(check(key, value).is_err(), "{key:?} {value:?}");
        }
        assert!(check(&"k".repeat(64), "").is_err() && check("k", &"v".repeat(256)).is_err());
    }
}
