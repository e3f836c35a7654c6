//! What a call is charged: the payer's own count, and its server's word only within what the payer knows.
//!
//! A server may say that an answer was free, cached or shorter than it was, or longer than it was asked to be. The payer
//! knows the prompt (it was counted when it was reserved), how many pieces of text came, each of which is a token or more,
//! and how many tokens it asked for at most. What it can't know is how many tokens are in one piece.

/// What the payer knows of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metered {
    /// Tokens of the prompt, as they were counted and reserved.
    pub prompt: u64,
    /// The most tokens that were asked for, and reserved.
    pub completion_max: u64,
    /// Pieces of text that came.
    pub pieces: u64,
}

impl Metered {
    /// A call with this prompt, for at most so many tokens, of which none has come.
    #[must_use]
    pub fn new(prompt: u64, completion_max: u64) -> Metered {
        Metered { prompt, completion_max, pieces: 0 }
    }

    /// A piece of text came. Empty ones only say that the server is there.
    pub fn came(&mut self, text: &str) {
        self.pieces += u64::from(!text.is_empty());
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
}
