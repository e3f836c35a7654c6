//! The filters that published templates use; everything else is refused by name.

use std::collections::BTreeMap;

use super::interpret::{Arguments, Interpreter};
use super::value::{Failure, Value};

/// `value | name(arguments)`.
pub(super) fn apply<'t>(
    of: &mut Interpreter<'t>,
    name: &str,
    value: Value<'t>,
    (by_place, by_name): Arguments<'t>,
) -> Result<Value<'t>, Failure> {
    let argument = |index: usize, name: &str| by_place.get(index).or_else(|| by_name.get(name));
    Ok(match name {
        "trim" | "lower" | "upper" | "capitalize" | "title" | "replace" => {
            let method = if name == "trim" { "strip" } else { name };
            return super::methods::call(of, &value, method, &by_place);
        }
        "safe" | "list" if matches!(value, Value::List(_)) => value,
        "safe" | "string" => {
            let mut text = String::new();
            of.fuel.show(&value, false, &mut text)?;
            Value::Text(text.into())
        }
        "list" => {
            let items = of.items(&value)?;
            of.fuel.list(items)?
        }
        "length" | "count" => Value::Int(match &value {
            Value::Text(text) => {
                of.fuel.pay(text.len())?;
                text.chars().count()
            }
            Value::List(list) => list.inner.len(),
            Value::Map(map) => map.inner.len(),
            Value::Undefined => 0,
            other => return Err(format!("{} has no length", other.kind())),
        } as i64),
        "default" | "d" => {
            let falsy = argument(1, "boolean").is_some_and(Value::is_true);
            match value {
                Value::Undefined => argument(0, "default_value").cloned().unwrap_or_else(|| Value::text("")),
                value if falsy && !value.is_true() => argument(0, "default_value").cloned().unwrap_or(value),
                value => value,
            }
        }
        "first" => of.items(&value)?.into_iter().next().unwrap_or(Value::Undefined),
        "last" => of.items(&value)?.pop().unwrap_or(Value::Undefined),
        "reverse" => {
            let mut items = of.items(&value)?;
            items.reverse();
            of.fuel.list(items)?
        }
        "join" => {
            let between =
                argument(0, "d").map_or(Ok(String::new()), |text| text.as_text().map(|text| text.to_string()))?;
            let mut text = String::new();
            for (index, item) in of.items(&value)?.iter().enumerate() {
                if index > 0 {
                    of.fuel.pay(between.len())?;
                    text.push_str(&between);
                }
                of.fuel.show(item, false, &mut text)?;
            }
            Value::Text(text.into())
        }
        "int" => match &value {
            Value::Float(float) => Value::Int(*float as i64),
            Value::Text(text) => Value::Int(text.trim().parse().unwrap_or(0)),
            other => Value::Int(other.as_int()?),
        },
        "float" => match &value {
            Value::Text(text) => Value::Float(text.trim().parse().unwrap_or(0.0)),
            other => Value::Float(other.as_float().ok_or_else(|| format!("{} is no number", other.kind()))?),
        },
        "abs" => match value {
            Value::Float(float) => Value::Float(float.abs()),
            value => Value::Int(value.as_int()?.saturating_abs()),
        },
        "items" | "dictsort" => return super::methods::call(of, &value, "items", &[]),
        "tojson" => {
            let mut text = String::new();
            of.fuel.show(&value, true, &mut text)?;
            match argument(usize::MAX, "indent") {
                None | Some(Value::None) => {}
                // Pretty or not is a matter of taste: what is written is the same value, twice as long at most.
                Some(_) => {
                    let parsed: serde_json::Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
                    of.fuel.pay(text.len() * 4)?;
                    text = serde_json::to_string_pretty(&parsed).map_err(|e| e.to_string())?;
                }
            }
            Value::Text(text.into())
        }
        "indent" => {
            let width = argument(0, "width").map_or(Ok(4), Value::as_int)?;
            let width = usize::try_from(width).map_err(|_| "a width is not negative")?;
            let first = argument(1, "first").is_some_and(Value::is_true);
            let text = value.as_text()?;
            let lines = text.split('\n').count();
            of.fuel.pay(lines.saturating_mul(width).saturating_add(text.len()))?;
            let margin = " ".repeat(width);
            let line = |(index, line): (usize, &str)| match (index > 0 || first) && !line.is_empty() {
                true => format!("{margin}{line}"),
                false => line.to_owned(),
            };
            Value::Text(text.split('\n').enumerate().map(line).collect::<Vec<_>>().join("\n").into())
        }
        "map" => {
            let attribute = argument(usize::MAX, "attribute").ok_or("map takes an attribute here")?.clone();
            let items = of.items(&value)?;
            let parts = items.iter().map(|item| of.member(item, &attribute)).collect::<Result<_, _>>()?;
            of.fuel.list(parts)?
        }
        "selectattr" | "rejectattr" => {
            let attribute = argument(0, "").ok_or("an attribute is needed")?.clone();
            let mut kept = Vec::new();
            for item in of.items(&value)? {
                let part = of.member(&item, &attribute)?;
                let holds = match by_place.get(1) {
                    Some(test) => of.test(&test.as_text()?.clone(), &part, &by_place[2..])?,
                    None => part.is_true(),
                };
                kept.extend((holds == (name == "selectattr")).then_some(item));
            }
            of.fuel.list(kept)?
        }
        "unique" => {
            let mut seen: BTreeMap<String, Value<'t>> = BTreeMap::new();
            let mut kept = Vec::new();
            for item in of.items(&value)? {
                let mut key = String::new();
                of.fuel.show(&item, true, &mut key)?;
                kept.extend(seen.insert(key, item.clone()).is_none().then_some(item));
            }
            of.fuel.list(kept)?
        }
        _ => return Err(format!("no filter is named {name:?}")),
    })
}
