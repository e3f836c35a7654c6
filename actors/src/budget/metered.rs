//! What a call is charged: the payer's own count, and its server's word only within what the payer knows.
//!
//! A server may say that a prompt or an answer was free, cached or shorter than it was, or longer than it was asked to be. It
//! counts the prompt, too: that is what is reserved. The payer knows how many bytes both have, which are so many tokens at
//! least, how many pieces of text came, each of which is a token or more, and how many tokens it asked for at most. What it
//! can't know is how many there are exactly.

/// Bytes of the longest token: vocabularies have runs of spaces and dashes up to this long (those of GPT-4 and Llama 3), and
/// none has more. So a longer piece is several tokens.
const TOKEN_BYTES_MAX: usize = 128;
/// Bytes that a whole prompt has to a token at most. Prose has four to five, source code with its indents up to eight; twice
/// that errs on the payer's side for all but a prompt of blanks, which then costs more than it took.
const PROMPT_BYTES_PER_TOKEN_MAX: usize = 16;

/// What the payer knows of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metered {
    /// Tokens of the prompt, as they were counted and reserved: [`Metered::prompt_of`].
    pub prompt: u64,
    /// The most tokens that were asked for, and reserved.
    pub completion_max: u64,
    /// Tokens that the text which came has at least.
    pub pieces: u64,
}

impl Metered {
    /// A call with this prompt, for at most so many tokens, of which none has come.
    #[must_use]
    pub fn new(prompt: u64, completion_max: u64) -> Metered {
        Metered { prompt, completion_max, pieces: 0 }
    }

    /// Tokens of a prompt of so many bytes, if its server counts so many.
    #[must_use]
    pub fn prompt_of(counted: u64, bytes: usize) -> u64 {
        counted.max(bytes.div_ceil(PROMPT_BYTES_PER_TOKEN_MAX) as u64)
    }

    /// A piece of text came. Empty ones only say that the server is there.
    pub fn came(&mut self, text: &str) {
        self.pieces += text.len().div_ceil(TOKEN_BYTES_MAX) as u64;
    }

    /// Tokens of the completion that are charged, if the server says that there were so many.
    #[must_use]
    pub fn completion(&self, claimed: u64) -> u64 {
        claimed.max(self.pieces).min(self.completion_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_can_make_an_answer_neither_free_nor_dearer_than_it_may_be() {
        let mut call = Metered::new(30, 100);
        assert_eq!((call.completion(7), call.completion(0)), (7, 0));
        for text in ["bees", "", " fly"] {
            call.came(text);
        }
        assert_eq!(call.completion(0), 2, "what came was not free");
        assert_eq!(call.completion(u64::MAX), 100, "more than was asked for was not sold");
    }

    /// A36: a server that sells long texts as one token each.
    #[test]
    fn a36_neither_a_prompt_nor_an_answer_is_so_many_bytes_for_nothing() {
        for (counted, bytes, charged) in [(0, 0, 0), (0, 1, 1), (1, 32 << 10, 2048), (9000, 32 << 10, 9000)] {
            assert_eq!(Metered::prompt_of(counted, bytes), charged);
        }
        let mut call = Metered::new(2048, 512);
        call.came(&"bees ".repeat(256));
        assert_eq!(call.completion(1), 10, "1280 bytes are ten tokens of the longest");
        call.came(" ");
        assert_eq!(call.completion(1), 11);
        call.came(&"x".repeat(1 << 20));
        assert_eq!(call.completion(1), 512, "no more than was asked for");
    }
}
