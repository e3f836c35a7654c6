//! Text out of bytes that come in pieces: a character that is cut in two waits for its other half.

/// A decoder of UTF-8 for one stream of output.
#[derive(Debug, Default)]
pub struct Text {
    /// The beginning of a character, at most 3 bytes.
    rest: Vec<u8>,
}

impl Text {
    /// The text of the next bytes. What is no UTF-8 becomes U+FFFD.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.rest.extend_from_slice(bytes);
        let keep = cut(&self.rest);
        let rest = self.rest.split_off(self.rest.len() - keep);
        let text = String::from_utf8_lossy(&self.rest).into_owned();
        self.rest = rest;
        text
    }

    /// What is left at the end of the stream.
    pub fn end(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.rest)).into_owned()
    }
}

/// How many bytes at the end are the beginning of a character.
fn cut(bytes: &[u8]) -> usize {
    for back in 1..=bytes.len().min(3) {
        let byte = bytes[bytes.len() - back];
        let length = match byte {
            0xC2..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF4 => 4,
            0x80..=0xBF => continue,
            _ => return 0,
        };
        return if length > back { back } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cut_anywhere_comes_out_whole() {
        let whole = "aé€😀z";
        for size in 1..whole.len() {
            let mut text = Text::default();
            let parts: String = whole.as_bytes().chunks(size).map(|piece| text.push(piece)).collect();
            assert_eq!(parts + &text.end(), whole, "in pieces of {size}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_marked_and_never_kept_back_for_long() {
        let mut text = Text::default();
        assert_eq!(text.push(&[0xff, b'a']), "\u{fffd}a");
        assert_eq!(text.push(&[0xe2, 0x82]), "");
        assert_eq!(text.push(b"a"), "\u{fffd}a");
        assert_eq!(text.push(&[0x80, 0x80, 0x80]).chars().count(), 3);
        assert_eq!(text.end(), "");
    }
}
