//! A text of an event: cut to a bound wherever it comes from, for an event says that something happened, and the thing
//! itself is asked for.

use serde::{Deserialize, Serialize};

/// Bytes of one text of an event: a sentence, a command, a few lines of a message.
pub const TEXT_BYTES_MAX: usize = 2 << 10;

/// A text of at most [`TEXT_BYTES_MAX`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Text(String);

impl Text {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for Text {
    fn from(mut text: String) -> Text {
        text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
        Text(text)
    }
}

impl From<&str> for Text {
    /// What is cut off is not copied first.
    fn from(text: &str) -> Text {
        Text(text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned())
    }
}

impl From<Text> for String {
    fn from(text: Text) -> String {
        text.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_runtime::wire;

    #[test]
    fn a_text_is_cut_between_two_characters_whoever_wrote_it() {
        let long = "é".repeat(TEXT_BYTES_MAX);
        assert_eq!(Text::from(long.as_str()).as_str().len(), TEXT_BYTES_MAX);
        let foreign: Text = wire::decode(&wire::encode(&format!("x{long}")), 1 << 20).unwrap();
        assert_eq!(foreign.as_str().len(), TEXT_BYTES_MAX - 1);
        assert_eq!(Text::from("short".to_owned()), Text::from("short"));
    }
}
