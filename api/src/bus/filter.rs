//! Which events a listener wants. Without I/O.
//!
//! At first all of them. What it names narrows that: by name, thread, agent and type of payload. All that it has named
//! must fit, and an event that has no thread fits no thread. That events were missed is told in any case.

use crate::limits::FILTER_NAMES_MAX;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// What one command names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Named {
    /// Names of events.
    pub events: Option<Vec<String>>,
    /// Ids of threads.
    pub threads: Option<Vec<String>>,
    /// Ids of agents.
    pub agents: Option<Vec<String>>,
    /// Types of payloads.
    pub payload_types: Option<Vec<String>>,
}

/// What a listener wants. A part that is `None` is not looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Filter {
    /// It wants nothing at present.
    muted: bool,
    events: Option<BTreeSet<String>>,
    threads: Option<BTreeSet<String>>,
    agents: Option<BTreeSet<String>>,
    payload_types: Option<BTreeSet<String>>,
}

impl Filter {
    /// These events alone; all if none are named.
    pub fn of(events: impl IntoIterator<Item = String>) -> Filter {
        let events: BTreeSet<String> = events.into_iter().collect();
        Filter { events: Some(events).filter(|events| !events.is_empty()), ..Filter::default() }
    }

    /// Whether it wants the event of this name that tells this.
    pub fn wants(&self, name: &str, fields: &Map<String, Value>) -> bool {
        let fits = |named: &Option<BTreeSet<String>>, field: &str| {
            let said = || fields.get(field).and_then(Value::as_str);
            named.as_ref().is_none_or(|named| said().is_some_and(|said| named.contains(said)))
        };
        let fits_all = || {
            self.events.as_ref().is_none_or(|events| events.contains(name))
                && fits(&self.threads, "thread_id")
                && fits(&self.agents, "agent_id")
                && fits(&self.payload_types, "payload_type")
        };
        name == "missed" || (!self.muted && fits_all())
    }

    /// It wants what is named, beside what it named before; everything, if nothing is named.
    ///
    /// # Errors
    /// It has named more than is kept; nothing was changed.
    pub fn subscribe(&mut self, named: Named) -> Result<(), String> {
        let mut next = Filter { muted: false, ..self.clone() };
        if named == Named::default() {
            next = Filter::default();
        }
        let add = |part: &mut Option<BTreeSet<String>>, names: Option<Vec<String>>| {
            if let Some(names) = names {
                part.get_or_insert_default().extend(names);
            }
        };
        add(&mut next.events, named.events);
        add(&mut next.threads, named.threads);
        add(&mut next.agents, named.agents);
        add(&mut next.payload_types, named.payload_types);
        if next.parts().map(BTreeSet::len).sum::<usize>() > FILTER_NAMES_MAX {
            return Err(format!("a listener may name {FILTER_NAMES_MAX} events, threads, agents and types in all"));
        }
        *self = next;
        Ok(())
    }

    /// It no longer wants what is named; nothing at all, if nothing is named.
    pub fn unsubscribe(&mut self, named: &Named) {
        if *named == Named::default() {
            *self = Filter { muted: true, ..Filter::default() };
        }
        let remove = |part: &mut Option<BTreeSet<String>>, names: &Option<Vec<String>>| {
            if let (Some(part), Some(names)) = (part, names) {
                part.retain(|name| !names.contains(name));
            }
        };
        remove(&mut self.events, &named.events);
        remove(&mut self.threads, &named.threads);
        remove(&mut self.agents, &named.agents);
        remove(&mut self.payload_types, &named.payload_types);
    }

    fn parts(&self) -> impl Iterator<Item = &BTreeSet<String>> {
        [&self.events, &self.threads, &self.agents, &self.payload_types].into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn named(value: Value) -> Named {
        serde_json::from_value(value).unwrap()
    }

    fn wants(filter: &Filter, name: &str, fields: Value) -> bool {
        filter.wants(name, fields.as_object().unwrap())
    }

    #[test]
    fn all_that_was_named_must_fit() {
        let mut filter = Filter::default();
        assert!(wants(&filter, "message", json!({})), "at first it wants everything");
        filter.subscribe(named(json!({ "events": ["message"], "threads": ["a"] }))).unwrap();
        assert!(wants(&filter, "message", json!({ "thread_id": "a" })));
        assert!(!wants(&filter, "message", json!({ "thread_id": "b" })) && !wants(&filter, "message", json!({})));
        assert!(!wants(&filter, "agent_state", json!({ "thread_id": "a" })));
        filter.subscribe(named(json!({ "threads": ["b"] }))).unwrap();
        assert!(wants(&filter, "message", json!({ "thread_id": "b" })), "a second command adds to the first");
        filter.unsubscribe(&named(json!({ "threads": ["a"] })));
        assert!(!wants(&filter, "message", json!({ "thread_id": "a" })));
        assert!(wants(&filter, "missed", json!({})));
    }

    #[test]
    fn without_names_it_is_all_or_nothing() {
        let mut filter = Filter::of(["message".into()]);
        filter.unsubscribe(&Named::default());
        assert!(!wants(&filter, "message", json!({})));
        filter.subscribe(Named::default()).unwrap();
        assert!(wants(&filter, "agent_state", json!({})));
        assert_eq!(Filter::of([]), Filter::default());
    }

    #[test]
    fn names_have_a_bound() {
        let many: Vec<String> = (0..=FILTER_NAMES_MAX).map(|n| n.to_string()).collect();
        let mut filter = Filter::default();
        assert!(filter.subscribe(Named { agents: Some(many), ..Named::default() }).is_err());
        assert_eq!(filter, Filter::default());
    }
}
