//! Tokens to text as they come, never half a character.

use super::Tokenizer;

/// Turns one answer's tokens into text. Holds back at most three bytes, those of an unfinished character.
#[derive(Clone, Debug, Default)]
pub struct Detokenizer {
    pending: Vec<u8>,
}

impl Detokenizer {
    /// Starts an answer.
    pub fn new() -> Self {
        Self::default()
    }

    /// The text that `token` completes; may be empty. Bytes that can't be UTF-8 become U+FFFD.
    pub fn push(&mut self, tokenizer: &Tokenizer, token: u32) -> String {
        self.push_bytes(&tokenizer.bytes(token))
    }

    /// Ends the answer: an unfinished character becomes U+FFFD.
    pub fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.pending)).into_owned()
    }

    fn push_bytes(&mut self, bytes: &[u8]) -> String {
        self.pending.extend_from_slice(bytes);
        let mut text = String::new();
        loop {
            match std::str::from_utf8(&self.pending) {
                Ok(valid) => {
                    text.push_str(valid);
                    self.pending.clear();
                    return text;
                }
                Err(error) => {
                    let valid = error.valid_up_to();
                    text.push_str(&String::from_utf8_lossy(&self.pending[..valid]));
                    let broken = error.error_len();
                    self.pending.drain(..valid + broken.unwrap_or(0));
                    if broken.is_none() {
                        return text;
                    }
                    text.push(char::REPLACEMENT_CHARACTER);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn cutting_a_text_anywhere_gives_the_same_text(text in ".{0,40}", cut in 1_usize..5) {
            let mut stream = Detokenizer::new();
            let mut streamed: String = text.as_bytes().chunks(cut).map(|bytes| stream.push_bytes(bytes)).collect();
            streamed.push_str(&stream.finish());
            prop_assert_eq!(streamed, text);
        }

        #[test]
        fn any_bytes_give_what_a_lossy_reading_gives(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let mut stream = Detokenizer::new();
            let mut streamed: String = bytes.chunks(1).map(|bytes| stream.push_bytes(bytes)).collect();
            streamed.push_str(&stream.finish());
            prop_assert_eq!(streamed, String::from_utf8_lossy(&bytes).into_owned());
        }
    }
}
