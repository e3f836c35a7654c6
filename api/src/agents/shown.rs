//! The two documented answers to one question: agents and runs in an object, or the runs alone in an array.

use super::{run::AgentRun, runs::AgentList};
use crate::Problem;
use poem_openapi::{
    Enum,
    registry::{MetaSchema, MetaSchemaRef, Registry},
    types::{ToJSON, Type},
};
use serde_json::Value;
use std::borrow::Cow;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename = "AgentView", rename_all = "lowercase")]
pub enum View {
    /// The runs alone.
    Runs,
}

/// What of both is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kinds {
    pub(crate) instances: bool,
    pub(crate) runs: bool,
}

impl Kinds {
    /// Of a text with commas; all if there is none.
    pub(crate) fn parse(text: Option<&str>) -> Result<Kinds, Problem> {
        let Some(text) = text else { return Ok(Kinds { instances: true, runs: true }) };
        let mut kinds = Kinds { instances: false, runs: false };
        for word in text.split(',') {
            match word.trim() {
                "instance" => kinds.instances = true,
                "run" => kinds.runs = true,
                _ => return Err(Problem::invalid("kind", "must be instance, run, or both with a comma")),
            }
        }
        Ok(kinds)
    }
}

/// An answer.
#[derive(Debug)]
pub enum Shown {
    /// Agents and runs.
    List(AgentList),
    /// Runs, newest first.
    Runs(Vec<AgentRun>),
}

impl Type for Shown {
    const IS_REQUIRED: bool = true;
    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        "AgentList_or_runs".into()
    }

    fn schema_ref() -> MetaSchemaRef {
        let any_of = vec![AgentList::schema_ref(), Vec::<AgentRun>::schema_ref()];
        MetaSchemaRef::Inline(Box::new(MetaSchema { any_of, ..MetaSchema::ANY }))
    }

    fn register(registry: &mut Registry) {
        AgentList::register(registry);
        AgentRun::register(registry);
    }

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
        Box::new(std::iter::once(self))
    }
}

impl ToJSON for Shown {
    fn to_json(&self) -> Option<Value> {
        match self {
            Shown::List(list) => list.to_json(),
            Shown::Runs(runs) => runs.to_json(),
        }
    }
}
