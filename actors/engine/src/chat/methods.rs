//! The methods of Python's strings and dictionaries that published templates call; everything else
//! is refused by name.

use minijinja::value::{Value, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State};

/// Calls `value.method(arguments)`.
pub(super) fn call(_: &State<'_, '_>, value: &Value, method: &str, arguments: &[Value]) -> Result<Value, Error> {
    match (value.kind(), value.as_str()) {
        (ValueKind::String, Some(text)) => call_on_text(text, method, arguments),
        (ValueKind::Map, _) => call_on_map(value, method, arguments),
        _ => Err(unknown(method)),
    }
}

fn call_on_text(text: &str, method: &str, arguments: &[Value]) -> Result<Value, Error> {
    let strip = || from_args::<(Option<&str>,)>(arguments).map(|(set,)| set);
    let is_in = |set: Option<&str>| {
        let set = set.map(str::to_owned);
        move |character: char| set.as_ref().map_or(character.is_whitespace(), |set| set.contains(character))
    };
    Ok(match method {
        "strip" => text.trim_matches(is_in(strip()?)).into(),
        "lstrip" => text.trim_start_matches(is_in(strip()?)).into(),
        "rstrip" => text.trim_end_matches(is_in(strip()?)).into(),
        "lower" => text.to_lowercase().into(),
        "upper" => text.to_uppercase().into(),
        "capitalize" | "title" => {
            let mut characters = text.chars();
            let first = characters.next().map(char::to_uppercase).into_iter().flatten();
            first.chain(characters.flat_map(char::to_lowercase)).collect::<String>().into()
        }
        "startswith" => text.starts_with(from_args::<(&str,)>(arguments)?.0).into(),
        "endswith" => text.ends_with(from_args::<(&str,)>(arguments)?.0).into(),
        "find" => {
            let found = text.find(from_args::<(&str,)>(arguments)?.0);
            found.map_or(-1, |at| text[..at].chars().count() as i64).into()
        }
        "replace" => {
            let (from, to) = from_args::<(&str, &str)>(arguments)?;
            if from.is_empty() { text.into() } else { text.replace(from, to).into() }
        }
        "split" => split(text, arguments)?,
        _ => return Err(unknown(method)),
    })
}

fn split(text: &str, arguments: &[Value]) -> Result<Value, Error> {
    let (separator, times) = from_args::<(Option<&str>, Option<i64>)>(arguments)?;
    let parts_max = times.and_then(|times| usize::try_from(times).ok()).map_or(usize::MAX, |times| times + 1);
    Ok(match separator {
        Some("") => return Err(Error::new(ErrorKind::InvalidOperation, "empty separator")),
        Some(separator) => text.splitn(parts_max, separator).map(Value::from).collect(),
        None => text.split_whitespace().map(Value::from).collect(),
    })
}

fn call_on_map(map: &Value, method: &str, arguments: &[Value]) -> Result<Value, Error> {
    Ok(match method {
        "get" => {
            let (key, default) = from_args::<(Value, Option<Value>)>(arguments)?;
            let found = map.get_item(&key)?;
            if found.is_undefined() { default.unwrap_or(Value::from(())) } else { found }
        }
        "keys" => map.try_iter()?.collect(),
        "values" => map.try_iter()?.map(|key| map.get_item(&key)).collect::<Result<_, _>>()?,
        "items" => {
            let pair = |key: Value| map.get_item(&key).map(|value| Value::from(vec![key, value]));
            map.try_iter()?.map(pair).collect::<Result<_, _>>()?
        }
        _ => return Err(unknown(method)),
    })
}

fn unknown(method: &str) -> Error {
    Error::new(ErrorKind::UnknownMethod, format!("no method named {method:?}"))
}
