//! An event as clients read it: flat, with its name under both of the documented names.

use crate::when::rfc3339;
use poem_openapi::{
    registry::{MetaSchema, MetaSchemaRef, Registry},
    types::{ToJSON, Type},
};
use serde_json::{Map, Value, json};
use skep_actors::event::{Event, What};
use std::borrow::Cow;

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    /// Its name.
    pub name: &'static str,
    /// What is told of it, its name included.
    pub fields: Map<String, Value>,
}

impl Shown {
    /// A frame of this name that is no event of the bus.
    pub(super) fn frame(name: &'static str, fields: Value) -> Shown {
        let mut fields = match fields {
            Value::Object(fields) => fields,
            _ => Map::new(),
        };
        fields.insert("type".into(), name.into());
        fields.insert("event".into(), name.into());
        Shown { name, fields }
    }

    /// As text.
    pub(super) fn text(&self) -> String {
        // A map of values always prints.
        serde_json::to_string(&self.fields).unwrap_or_default()
    }
}

impl From<&Event> for Shown {
    fn from(event: &Event) -> Shown {
        let mut shown = Shown::frame(event.what.name(), Value::Object(event.what.fields()));
        shown.fields.insert("timestamp".into(), rfc3339(event.at_ms).into());
        shown.fields.insert("node_id".into(), event.node.to_string().into());
        shown
    }
}

impl Type for Shown {
    const IS_REQUIRED: bool = true;
    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        "SwarmEvent".into()
    }

    fn schema_ref() -> MetaSchemaRef {
        MetaSchemaRef::Reference(Self::name().into())
    }

    fn register(registry: &mut Registry) {
        registry.create_schema::<Self, _>(Self::name().into(), |_| {
            let text = |description, format, enum_items| {
                let text =
                    MetaSchema { description: Some(description), format, enum_items, ..MetaSchema::new("string") };
                MetaSchemaRef::Inline(Box::new(text))
            };
            let names = ["connected", "dropped"].iter().chain(What::NAMES).map(|name| json!(name)).collect();
            MetaSchema {
                description: Some(
                    "Something that happened. Beside these it has the fields of its kind: a machine's (`id`, `name`, \
                     `status`, ...), a task's (`id`, `command`, `status`, ...), a run's (`id`, `goal`, `step`, ...)",
                ),
                required: vec!["type", "event"],
                properties: vec![
                    ("type", text("What kind it is", None, names)),
                    ("event", text("The same", None, Vec::new())),
                    ("timestamp", text("When, by the clock of that machine", Some("date-time"), Vec::new())),
                    ("node_id", text("The machine that told of it", None, Vec::new())),
                ],
                additional_properties: Some(Box::new(MetaSchemaRef::Inline(Box::new(MetaSchema::ANY)))),
                ..MetaSchema::new("object")
            }
        });
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
        Some(Value::Object(self.fields.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_actors::{event::what::Failure, runtime::NodeId};

    #[test]
    fn an_event_is_flat_and_has_both_names() {
        let node = NodeId::from_bytes([1; 32]);
        let shown = Shown::from(&Event { at_ms: 0, node, what: What::Error(Failure { detail: "no".into() }) });
        let expected = json!({
            "type": "error", "event": "error", "detail": "no",
            "timestamp": "1970-01-01T00:00:00Z", "node_id": node.to_string(),
        });
        assert_eq!(shown.to_json(), Some(expected));
    }
}
