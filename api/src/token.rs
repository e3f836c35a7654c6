//! The owner's token: who has it, owns the node. Compared in constant time, shown nowhere.
//!
//! Not here: where it is kept and how it is made (`skep token`).

use std::fmt;

/// The secret that opens the API.
#[derive(Clone)]
pub struct Token(String);

/// The token can be guessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the API token is too short: at least {min} characters, or delete it and let `skep up` make one", min = Token::CHARS_MIN)]
pub struct TooShort;

impl Token {
    /// Characters that a token needs: 22 of base64 are 128 bits; fewer can be tried.
    pub const CHARS_MIN: usize = 20;

    /// The token with this text.
    pub fn new(text: impl Into<String>) -> Result<Token, TooShort> {
        let text = text.into();
        if text.len() < Token::CHARS_MIN { Err(TooShort) } else { Ok(Token(text)) }
    }

    /// Whether `presented` is this token. How long it takes tells nothing but the length.
    pub fn is(&self, presented: &str) -> bool {
        same(self.0.as_bytes(), presented.as_bytes())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Equality that looks at every byte, whatever it found before.
fn same(a: &[u8], b: &[u8]) -> bool {
    let difference = a.iter().zip(b).fold(0u8, |sum, (a, b)| std::hint::black_box(sum | (a ^ b)));
    a.len() == b.len() && difference == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_fits() {
        let token = Token::new("0123456789abcdefghij").unwrap();
        assert!(token.is("0123456789abcdefghij"));
        for wrong in ["", "0", "0123456789abcdefghi", "0123456789abcdefghiJ", "0123456789abcdefghijk"] {
            assert!(!token.is(wrong), "{wrong}");
        }
    }

    #[test]
    fn it_is_never_shown() {
        assert_eq!(format!("{:?}", Token::new("0123456789abcdefghij").unwrap()), "Token(..)");
    }

    #[test]
    fn a_short_one_is_refused() {
        assert_eq!(Token::new("secret").unwrap_err(), TooShort);
    }
}
