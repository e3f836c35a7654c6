//! What a client of `/ws` says: one of the commands with a `cmd` field, or anything else, which is acknowledged.

use super::{
    filter::{Filter, Named},
    shown::Shown,
};
use crate::threads::kind::kind_of;
use serde::Deserialize;
use serde_json::{Value, json};

/// A command.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "cmd", rename_all = "lowercase")]
pub enum Command {
    /// Tell me of these; of everything, if nothing is named.
    Subscribe(Named),
    /// Tell me no more of these; of nothing, if nothing is named.
    Unsubscribe(Named),
    /// Hand this to an agent.
    Inject(Inject),
}

/// A message for an agent.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub struct Inject {
    /// Which agent.
    pub to: String,
    /// What it is handed.
    pub payload: Value,
    /// The first key of that, as it was written.
    #[serde(skip)]
    pub kind: Option<String>,
    /// The thread that it belongs to; a new one if absent.
    #[serde(alias = "threadId")]
    pub thread_id: Option<String>,
}

/// What a text frame is.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    /// A command.
    Command(Command),
    /// It has a `cmd`, but is no command: why.
    Wrong(String),
    /// Anything else.
    Other,
}

/// Reads a text frame.
pub fn read(text: &str) -> Said {
    let Ok(value) = serde_json::from_str::<Value>(text) else { return Said::Other };
    if value.get("cmd").is_none() {
        return Said::Other;
    }
    match serde_json::from_value(value) {
        Ok(Command::Inject(inject)) => {
            let kind = kind_of(text.as_bytes());
            Said::Command(Command::Inject(Inject { kind, ..inject }))
        }
        Ok(command) => Said::Command(command),
        // What it says of a text that is not understood holds no more of it than one word.
        Err(error) => Said::Wrong(error.to_string().chars().take(200).collect()),
    }
}

/// Does what a client says, as far as that is about the client itself; what it is answered, or the message that is to be
/// handed on.
pub fn obey(said: Said, filter: &mut Filter) -> Result<Shown, Inject> {
    let failed = |detail: String| Shown::frame("error", json!({ "detail": detail }));
    Ok(match said {
        Said::Other => Shown::frame("ack", json!({})),
        Said::Wrong(why) => failed(why),
        Said::Command(Command::Inject(inject)) => return Err(inject),
        Said::Command(Command::Subscribe(named)) => match filter.subscribe(named) {
            Ok(()) => Shown::frame("subscribed", json!(filter)),
            Err(why) => failed(why),
        },
        Said::Command(Command::Unsubscribe(named)) => {
            filter.unsubscribe(&named);
            Shown::frame("unsubscribed", json!(filter))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let answered = obey(read(text), &mut Filter::default()).map(|shown| shown.name);
        assert_eq!(answered, Ok(expected), "{text}");
    }

    #[test]
    fn commands_are_obeyed_and_the_rest_is_acknowledged() {
        check(r#"{"cmd":"subscribe","events":["message"],"later":1}"#, "subscribed");
        check(r#"{"cmd":"unsubscribe"}"#, "unsubscribed");
        for other in ["", "ping", "7", "[]", r#"{"type":"hello"}"#, &"[".repeat(10_000)] {
            check(other, "ack");
        }
        for wrong in [r#"{"cmd":"drop"}"#, r#"{"cmd":7}"#, r#"{"cmd":"inject"}"#, r#"{"cmd":"subscribe","events":7}"#] {
            check(wrong, "error");
        }
    }

    #[test]
    fn a_message_for_an_agent_is_handed_on_under_both_names_of_its_thread() {
        for thread in ["thread_id", "threadId"] {
            let text = format!(r#"{{"cmd":"inject","to":"a","payload":{{"Hello":1,"A":2}},"{thread}":"t"}}"#);
            let inject = obey(read(&text), &mut Filter::default()).unwrap_err();
            assert_eq!((inject.to.as_str(), inject.thread_id.as_deref()), ("a", Some("t")));
            assert_eq!(inject.kind.as_deref(), Some("Hello"), "the first that was written");
        }
    }
}
