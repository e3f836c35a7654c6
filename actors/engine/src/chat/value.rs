//! What a template's expressions are worth, and the fuel that every step and every byte of them costs.
//!
//! Templates come from strangers: whatever grows is paid for before it is made, and lists and maps nest only so deep,
//! so that nothing here can take memory, time or stack without end.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use minijinja::machinery::ast;

use crate::defaults::{TEMPLATE_FUEL_STEPS, TEMPLATE_VALUE_DEPTH_MAX};

/// Why rendering ended early.
pub(super) type Failure = String;

/// Bytes that cost as much as one step: what the slowest machine copies meanwhile.
const STEP_BYTES: usize = 8;
/// Bytes that an item of a list takes, and an entry of a map.
pub(super) const ITEM_BYTES: usize = 32;
const ENTRY_BYTES: usize = 128;

/// A value. Clones share what is large.
#[derive(Clone)]
pub(super) enum Value<'t> {
    Undefined,
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Rc<str>),
    List(Rc<Nest<Vec<Value<'t>>>>),
    Map(Rc<Nest<BTreeMap<Rc<str>, Value<'t>>>>),
    /// The only one that changes. It can't be put into any other, so that nothing ever holds itself.
    Namespace(Rc<RefCell<BTreeMap<Rc<str>, Value<'t>>>>),
    Macro(&'t ast::Macro<'t>),
}

/// What lists and maps hold, and how deep it nests.
pub(super) struct Nest<T> {
    depth: usize,
    pub(super) inner: T,
}

impl<'t> Value<'t> {
    pub(super) fn text(text: &str) -> Value<'t> {
        Value::Text(text.into())
    }

    /// As a condition.
    pub(super) fn is_true(&self) -> bool {
        match self {
            Value::Undefined | Value::None => false,
            Value::Bool(bool) => *bool,
            Value::Int(int) => *int != 0,
            Value::Float(float) => *float != 0.0,
            Value::Text(text) => !text.is_empty(),
            Value::List(list) => !list.inner.is_empty(),
            Value::Map(map) => !map.inner.is_empty(),
            Value::Namespace(_) | Value::Macro(_) => true,
        }
    }

    pub(super) fn as_text(&self) -> Result<&Rc<str>, Failure> {
        match self {
            Value::Text(text) => Ok(text),
            other => Err(format!("a text is needed where {} is", other.kind())),
        }
    }

    pub(super) fn as_int(&self) -> Result<i64, Failure> {
        match self {
            Value::Int(int) => Ok(*int),
            Value::Bool(bool) => Ok(i64::from(*bool)),
            other => Err(format!("a whole number is needed where {} is", other.kind())),
        }
    }

    pub(super) fn as_float(&self) -> Option<f64> {
        match self {
            Value::Float(float) => Some(*float),
            other => other.as_int().ok().map(|int| int as f64),
        }
    }

    pub(super) fn kind(&self) -> &'static str {
        match self {
            Value::Undefined => "nothing",
            Value::None => "none",
            Value::Bool(_) => "true or false",
            Value::Int(_) | Value::Float(_) => "a number",
            Value::Text(_) => "a text",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
            Value::Namespace(_) => "a namespace",
            Value::Macro(_) => "a macro",
        }
    }

    fn depth(&self) -> Result<usize, Failure> {
        match self {
            Value::List(list) => Ok(list.depth),
            Value::Map(map) => Ok(map.depth),
            Value::Namespace(_) | Value::Macro(_) => Err(format!("{} can't be put into a list or a map", self.kind())),
            _ => Ok(0),
        }
    }
}

/// What is left of a rendering's fuel.
pub(super) struct Fuel(u64);

impl Fuel {
    pub(super) fn new() -> Fuel {
        Fuel(TEMPLATE_FUEL_STEPS)
    }

    /// Pays for a step that makes or looks at so many bytes, before it does.
    pub(super) fn pay(&mut self, bytes: usize) -> Result<(), Failure> {
        let steps = 1 + (bytes / STEP_BYTES) as u64;
        self.0 = self.0.checked_sub(steps).ok_or("the template has run out of fuel")?;
        Ok(())
    }

    /// Texts in a row.
    pub(super) fn concat<'t>(&mut self, parts: &[&str]) -> Result<Value<'t>, Failure> {
        self.pay(parts.iter().map(|part| part.len()).sum())?;
        Ok(Value::Text(parts.concat().into()))
    }

    pub(super) fn list<'t>(&mut self, items: Vec<Value<'t>>) -> Result<Value<'t>, Failure> {
        self.pay(items.len() * ITEM_BYTES)?;
        let depth = deepest(items.iter())?;
        Ok(Value::List(Rc::new(Nest { depth, inner: items })))
    }

    pub(super) fn map<'t>(&mut self, items: BTreeMap<Rc<str>, Value<'t>>) -> Result<Value<'t>, Failure> {
        self.pay(items.len() * ENTRY_BYTES)?;
        let depth = deepest(items.values())?;
        Ok(Value::Map(Rc::new(Nest { depth, inner: items })))
    }

    /// Whether two values are the same.
    pub(super) fn equal<'t>(&mut self, a: &Value<'t>, b: &Value<'t>) -> Result<bool, Failure> {
        self.pay(0)?;
        Ok(match (a, b) {
            (Value::Undefined, Value::Undefined) | (Value::None, Value::None) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Text(a), Value::Text(b)) => {
                self.pay(a.len().min(b.len()))?;
                a == b
            }
            (Value::List(a), Value::List(b)) => {
                a.inner.len() == b.inner.len() && self.all_equal(a.inner.iter().zip(&b.inner))?
            }
            (Value::Map(a), Value::Map(b)) => {
                a.inner.keys().eq(b.inner.keys()) && self.all_equal(a.inner.values().zip(b.inner.values()))?
            }
            (a, b) => a.as_float().zip(b.as_float()).is_some_and(|(a, b)| a == b),
        })
    }

    fn all_equal<'v, 't: 'v>(
        &mut self,
        mut pairs: impl Iterator<Item = (&'v Value<'t>, &'v Value<'t>)>,
    ) -> Result<bool, Failure> {
        pairs.try_fold(true, |equal, (a, b)| Ok(equal && self.equal(a, b)?))
    }

    /// Appends a value as a template shows it; `json` writes texts in quotes.
    pub(super) fn show(&mut self, value: &Value<'_>, json: bool, out: &mut String) -> Result<(), Failure> {
        self.pay(0)?;
        let plain = match value {
            Value::Undefined if json => return Err("what is not defined has no JSON".to_owned()),
            Value::Undefined => String::new(),
            Value::None => if json { "null" } else { "None" }.to_owned(),
            Value::Bool(bool) if json => bool.to_string(),
            Value::Bool(bool) => if *bool { "True" } else { "False" }.to_owned(),
            Value::Int(int) => int.to_string(),
            Value::Float(float) => format!("{float:?}"),
            Value::Text(text) => {
                self.pay(text.len())?;
                match json {
                    true => serde_json::to_string(&**text).map_err(|e| e.to_string())?,
                    false => text.to_string(),
                }
            }
            Value::List(list) => {
                out.push('[');
                for (index, item) in list.inner.iter().enumerate() {
                    out.push_str(if index > 0 { ", " } else { "" });
                    self.show(item, true, out)?;
                }
                "]".to_owned()
            }
            Value::Map(map) => {
                out.push('{');
                for (index, (key, item)) in map.inner.iter().enumerate() {
                    out.push_str(if index > 0 { ", " } else { "" });
                    self.show(&Value::Text(key.clone()), true, out)?;
                    out.push_str(": ");
                    self.show(item, true, out)?;
                }
                "}".to_owned()
            }
            Value::Namespace(_) | Value::Macro(_) => return Err(format!("{} can't be shown", value.kind())),
        };
        out.push_str(&plain);
        Ok(())
    }
}

/// How deep something nests that holds these.
fn deepest<'v, 't: 'v>(items: impl Iterator<Item = &'v Value<'t>>) -> Result<usize, Failure> {
    let depth = items.map(Value::depth).try_fold(0, |most, depth| depth.map(|depth| most.max(depth)))? + 1;
    if depth <= TEMPLATE_VALUE_DEPTH_MAX { Ok(depth) } else { Err("lists and maps nest too deep".to_owned()) }
}
