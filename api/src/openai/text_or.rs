//! A field that is a text, or something else: OpenAI's `content` and `stop`.
//!
//! poem-openapi's `Union` says that every variant is an object; this says the truth.

use poem_openapi::{
    registry::{MetaSchema, MetaSchemaRef, Registry},
    types::{ParseError, ParseFromJSON, ParseResult, ToJSON, Type},
};
use serde_json::Value;
use std::borrow::Cow;

/// A text, or a `T`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextOr<T> {
    /// A text.
    Text(String),
    /// The other.
    Other(T),
}

impl<T: Type> Type for TextOr<T> {
    const IS_REQUIRED: bool = true;
    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        format!("string_or_{}", T::name()).into()
    }

    fn schema_ref() -> MetaSchemaRef {
        let any_of = vec![String::schema_ref(), T::schema_ref()];
        MetaSchemaRef::Inline(Box::new(MetaSchema { any_of, ..MetaSchema::ANY }))
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
        Box::new(std::iter::once(self))
    }
}

impl<T: ParseFromJSON> ParseFromJSON for TextOr<T> {
    fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
        match value {
            Some(Value::String(text)) => Ok(TextOr::Text(text)),
            value => T::parse_from_json(value).map(TextOr::Other).map_err(ParseError::propagate),
        }
    }
}

impl<T: ToJSON> ToJSON for TextOr<T> {
    fn to_json(&self) -> Option<Value> {
        match self {
            TextOr::Text(text) => Some(Value::String(text.clone())),
            TextOr::Other(other) => other.to_json(),
        }
    }
}
