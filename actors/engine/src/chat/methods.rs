//! The methods of Python's texts, maps and lists that published templates call; everything else is refused by name.

use super::interpret::Interpreter;
use super::value::{Failure, Value};

/// Calls `value.method(arguments)`.
pub(super) fn call<'t>(
    of: &mut Interpreter<'t>,
    value: &Value<'t>,
    method: &str,
    arguments: &[Value<'t>],
) -> Result<Value<'t>, Failure> {
    match value {
        Value::Text(text) => {
            of.fuel.pay(text.len())?;
            call_on_text(of, text, method, arguments)
        }
        Value::Map(map) => match method {
            "get" => {
                let key = arguments.first().ok_or("get takes a key")?;
                match of.member(value, key)? {
                    Value::Undefined => Ok(arguments.get(1).cloned().unwrap_or(Value::None)),
                    found => Ok(found),
                }
            }
            "keys" => {
                let keys = of.items(value)?;
                of.fuel.list(keys)
            }
            "values" => of.fuel.list(map.inner.values().cloned().collect()),
            "items" => {
                let mut pairs = Vec::new();
                for (key, value) in &map.inner {
                    pairs.push(of.fuel.list(vec![Value::Text(key.clone()), value.clone()])?);
                }
                of.fuel.list(pairs)
            }
            _ => Err(unknown(value, method)),
        },
        _ => Err(unknown(value, method)),
    }
}

fn call_on_text<'t>(
    of: &mut Interpreter<'t>,
    text: &str,
    method: &str,
    arguments: &[Value<'t>],
) -> Result<Value<'t>, Failure> {
    let argument = |index: usize| match arguments.get(index) {
        None | Some(Value::None) => Ok(None),
        Some(value) => value.as_text().map(|text| Some(text.to_string())),
    };
    let needed = |index| argument(index)?.ok_or_else(|| format!("{method} takes a text"));
    let set = match method {
        "strip" | "lstrip" | "rstrip" => argument(0)?,
        _ => None,
    };
    // Each character of the text is looked for in the whole set.
    of.fuel.pay(text.len().saturating_mul(set.as_ref().map_or(0, String::len)))?;
    let is_in = |character: char| set.as_ref().map_or(character.is_whitespace(), |set| set.contains(character));
    Ok(match method {
        "strip" => Value::text(text.trim_matches(is_in)),
        "lstrip" => Value::text(text.trim_start_matches(is_in)),
        "rstrip" => Value::text(text.trim_end_matches(is_in)),
        "lower" => Value::Text(text.to_lowercase().into()),
        "upper" => Value::Text(text.to_uppercase().into()),
        "capitalize" | "title" => {
            let mut characters = text.chars();
            let first = characters.next().map(char::to_uppercase).into_iter().flatten();
            Value::Text(first.chain(characters.flat_map(char::to_lowercase)).collect::<String>().into())
        }
        "startswith" => Value::Bool(text.starts_with(&needed(0)?)),
        "endswith" => Value::Bool(text.ends_with(&needed(0)?)),
        "find" => {
            let found = text.find(&needed(0)?);
            Value::Int(found.map_or(-1, |at| text[..at].chars().count() as i64))
        }
        "replace" => {
            let (from, to) = (needed(0)?, needed(1)?);
            if from.is_empty() {
                return Ok(Value::text(text));
            }
            of.fuel.pay(text.matches(&from).count().saturating_mul(to.len()))?;
            Value::Text(text.replace(&from, &to).into())
        }
        "split" => {
            let times = arguments.get(1).map_or(Ok(-1), Value::as_int)?;
            let parts_max = usize::try_from(times).map_or(usize::MAX, |times| times.saturating_add(1));
            let parts: Vec<&str> = match argument(0)? {
                Some(separator) if separator.is_empty() => return Err("an empty separator".to_owned()),
                Some(separator) => {
                    of.fuel.pay(text.matches(&separator).count().saturating_mul(64))?;
                    text.splitn(parts_max, &separator).collect()
                }
                None => {
                    of.fuel.pay(text.len().saturating_mul(32))?;
                    text.split_whitespace().collect()
                }
            };
            of.fuel.list(parts.into_iter().map(Value::text).collect())?
        }
        _ => return Err(format!("a text has no method named {method:?}")),
    })
}

fn unknown(value: &Value<'_>, method: &str) -> Failure {
    format!("{} has no method named {method:?}", value.kind())
}
