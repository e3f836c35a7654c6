//! A call's exact arguments, in one form for all texts that mean the same to a tool.
//!
//! The form: JSON without spaces; an object's names in the order of their code points, each once (the last one counts, as
//! for whoever reads it); texts with only the escapes that JSON demands; whole numbers in digits, others in the shortest
//! digits that give the same number back. What a tool can tell apart stays apart: 1 and 1.0, composed letters and plain ones,
//! a name with `null` and no name.

use crate::digest::Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Arguments in their canonical form.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Arguments {
    text: String,
}

impl Arguments {
    /// Of what a tool is called with.
    pub fn of(value: &Value) -> Arguments {
        let mut text = String::new();
        write(value, &mut text);
        Arguments { text }
    }

    /// Their canonical form.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What they are known by.
    pub fn digest(&self) -> Digest {
        Digest::of(self.text.as_bytes())
    }

    /// What they say.
    pub fn value(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }
}

/// The argument of this name as a pattern sees it: a text as it is, all else in its canonical form, one that is absent or
/// `null` as an empty text.
pub(super) fn seen(arguments: &Value, name: &str) -> String {
    match arguments.get(name) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => Arguments::of(other).text,
    }
}

fn write(value: &Value, out: &mut String) {
    match value {
        Value::Object(object) => {
            let mut names: Vec<(&String, &Value)> = object.iter().collect();
            // The map may keep another order: some crate may ask serde_json for that.
            names.sort_unstable_by_key(|(name, _)| name.as_str());
            between('{', '}', names, out, |(name, value), out| {
                leaf(&Value::String(name.clone()), out);
                out.push(':');
                write(value, out);
            });
        }
        Value::Array(items) => between('[', ']', items, out, write),
        value => leaf(value, out),
    }
}

fn between<T>(open: char, close: char, items: impl IntoIterator<Item = T>, out: &mut String, item: fn(T, &mut String)) {
    out.push(open);
    for (n, value) in items.into_iter().enumerate() {
        if n > 0 {
            out.push(',');
        }
        item(value, out);
    }
    out.push(close);
}

/// A text, a number, a truth value or nothing: serde_json has one form of each.
fn leaf(value: &Value, out: &mut String) {
    out.push_str(&value.to_string());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(text: &str) -> String {
        Arguments::of(&serde_json::from_str(text).unwrap()).text
    }

    #[test]
    fn what_means_the_same_has_one_form() {
        let check =
            |expected: &str, texts: &[&str]| texts.iter().for_each(|text| assert_eq!(of(text), expected, "{text}"));
        check(r#"{"a":1,"b":[true,null]}"#, &[r#"{"b": [true, null], "a": 1}"#, r#"{"a":7,"b":[true,null],"a":1}"#]);
        check(r#"{"a":"é/\n\"\\"}"#, &[r#"{"a":"\u00e9\/\u000a\u0022\\"}"#, "{\"a\":\"é/\\n\\\"\\\\\"}"]);
        check(r#"{"Z":1,"a":2,"é":3,"ｱ":4,"😀":5}"#, &[r#"{"😀":5,"ｱ":4,"é":3,"a":2,"Z":1}"#]);
        assert_eq!(of("[1e2,0.10,1E300]"), of("[100.0, 0.1, 1.0e300]"));
        check("{}", &["{}", " { } "]);
    }

    #[test]
    fn what_a_tool_can_tell_apart_stays_apart() {
        let texts = [
            r#"{"a":1}"#,
            r#"{"a":1.0}"#,
            r#"{"a":"1"}"#,
            r#"{"a":true}"#,
            r#"{"a":null}"#,
            "{}",
            r#"{"A":1}"#,
            r#"{"a":"é"}"#,
            "{\"a\":\"e\u{301}\"}",
            r#"{"a":"é "}"#,
            r#"{"a":[1]}"#,
            r#"{"a":-0.0}"#,
            r#"{"a":0.0}"#,
            r#"{"a":18446744073709551615}"#,
            r#"{"a":18446744073709551614}"#,
        ];
        for (n, one) in texts.iter().enumerate() {
            for other in &texts[n + 1..] {
                assert_ne!(of(one), of(other), "{one} {other}");
            }
        }
    }

    #[test]
    fn an_argument_is_looked_at_as_its_tool_sees_it() {
        let args =
            Arguments::of(&serde_json::json!({"command": "rm \u{1F600}\n", "n": 7, "list": [1, "a"], "no": null}))
                .value();
        assert_eq!(seen(&args, "command"), "rm \u{1F600}\n");
        assert_eq!((seen(&args, "n"), seen(&args, "list")), ("7".to_owned(), "[1,\"a\"]".to_owned()));
        assert_eq!((seen(&args, "no"), seen(&args, "other")), (String::new(), String::new()));
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            // Eighths: what is read back of others may differ in the last digit.
            any::<i32>().prop_map(|n| Value::from(f64::from(n) / 8.0)),
            ".{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 20, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(".{0,4}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_form_says_all_of_it_and_is_its_own_form(value in json()) {
            let args = Arguments::of(&value);
            let again: Value = serde_json::from_str(args.text()).unwrap();
            prop_assert_eq!(Arguments::of(&again), args.clone());
            prop_assert_eq!(again, value);
        }

        #[test]
        fn other_arguments_are_other_arguments(a in json(), b in json()) {
            if Arguments::of(&a).digest() == Arguments::of(&b).digest() {
                prop_assert_eq!(a, b);
            }
        }
    }
}
