//! What kind of message an injected payload is: the first key of its object, as the document has it.
//!
//! Read from the text: an object that was parsed has its keys in alphabetical order.

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use std::fmt;

/// The first key of the object under `payload` in this JSON object, if there is one.
pub(crate) fn kind_of(text: &[u8]) -> Option<String> {
    serde_json::from_slice::<Body>(text).ok()?.payload.0
}

#[derive(Deserialize)]
struct Body {
    payload: FirstKey,
}

struct FirstKey(Option<String>);

impl<'de> Deserialize<'de> for FirstKey {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<FirstKey, D::Error> {
        from.deserialize_map(Keys)
    }
}

struct Keys;

impl<'de> Visitor<'de> for Keys {
    type Value = FirstKey;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<FirstKey, M::Error> {
        let first = map.next_key()?;
        if first.is_some() {
            map.next_value::<IgnoredAny>()?;
        }
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(FirstKey(first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_key_is_the_first_that_was_written() {
        let check = |text: &str, kind: Option<&str>| assert_eq!(kind_of(text.as_bytes()).as_deref(), kind, "{text}");
        check(r#"{"to":"a","payload":{"Zebra":{"b":1,"a":2},"Apple":[]},"threadId":null}"#, Some("Zebra"));
        check(r#"{"payload":{"Apple":1,"Zebra":2},"to":"a"}"#, Some("Apple"));
        check(r#"{"payload":{"a b":1}}"#, Some("a b"));
        for none in [r#"{"payload":{}}"#, r#"{"payload":"x"}"#, r#"{"to":"a"}"#, "[]", "{", ""] {
            check(none, None);
        }
    }
}
