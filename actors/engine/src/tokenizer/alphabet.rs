//! The byte alphabet of GPT-2: each byte as one printable character, so that a vocabulary of texts
//! covers all bytes. Source: `bytes_to_unicode` in <https://github.com/openai/gpt-2>.

/// The character that stands for `byte`.
pub(crate) fn character(byte: u8) -> char {
    if is_printable(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|&other| !is_printable(other)).count() as u32;
    char::from_u32(0x100 + before).expect("0x100 to 0x1ff are all characters")
}

/// The bytes that a token's text stands for; characters outside the alphabet stand for themselves.
pub(super) fn bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for character in text.chars() {
        match byte(character) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

fn byte(character: char) -> Option<u8> {
    /// Bytes without a printable character of their own, in order.
    const SHIFTED: u32 = 256 - 188;
    match u32::from(character) {
        code @ 0..=0xff => u8::try_from(code).ok().filter(|&byte| is_printable(byte)),
        code @ 0x100.. if code < 0x100 + SHIFTED => {
            let index = code - 0x100;
            // The shifted bytes are 0..=32, 127..=160 and 173.
            Some(match index {
                0..=32 => index as u8,
                33..=66 => (index + 94) as u8,
                _ => 173,
            })
        }
        _ => None,
    }
}

fn is_printable(byte: u8) -> bool {
    matches!(byte, 33..=126 | 161..=172 | 174..=255)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_a_character_of_its_own() {
        let all: Vec<u8> = (0..=255).collect();
        let text: String = all.iter().map(|&byte| character(byte)).collect();
        assert_eq!(bytes(&text), all);
        assert_eq!(character(b' '), 'Ġ');
        assert_eq!(character(b'\n'), 'Ċ');
    }
}
