//! A definition file, as text, into a [`Draft`]: TOML or YAML, told apart by their form.
//!
//! Both become the same tree of values, which is walked field by field, so that everything that is wrong is told at once:
//! words that nobody knows and values of the wrong kind as well as what doesn't fit together.

use super::draft::{Agent, Draft, FILE_BYTES_MAX, Field, FieldKind, Frame, Problem};
use serde_json::{Map, Value};

/// Problems that are told at once: a file that is nothing like a definition has thousands.
const PROBLEMS_MAX: usize = 100;
/// How deep a file's values may nest: agents have lists and tables, nothing deeper.
const DEPTH_MAX: usize = 8;

/// Reads a definition.
///
/// # Errors
/// Everything that is wrong with it, at most a hundred.
pub(super) fn read(text: &str) -> Result<Draft, Vec<Problem>> {
    let mut problems = Vec::new();
    let draft = tree(text).map(|tree| organism(&tree, &mut problems)).map_err(|problem| vec![problem])?;
    problems.extend(draft.problems());
    problems.truncate(PROBLEMS_MAX);
    if problems.is_empty() { Ok(draft) } else { Err(problems) }
}

/// The values of a file. One that is valid TOML is TOML; a table in YAML never is.
fn tree(text: &str) -> Result<Value, Problem> {
    if text.len() > FILE_BYTES_MAX {
        return Err(Problem::new("file", format!("has {} bytes; {FILE_BYTES_MAX} are the most", text.len())));
    }
    let toml = match toml::from_str::<toml::Table>(text) {
        Ok(table) => return serde_json::to_value(table).map_err(|e| Problem::new("file", e.to_string())),
        Err(error) => error,
    };
    // An alias of YAML can make a small file huge: none is needed here.
    let aliased = text
        .lines()
        .any(|line| line.split('#').next().is_some_and(|line| line.contains(": *") || line.contains("- *")));
    if aliased {
        return Err(Problem::new("file", "has an alias (*name), which a definition can't"));
    }
    match serde_yaml::from_str::<Value>(text) {
        Ok(value @ Value::Object(_)) if depth(&value) <= DEPTH_MAX => Ok(value),
        Ok(Value::Object(_)) => Err(Problem::new("file", "nests deeper than a definition does")),
        Ok(_) => {
            Err(Problem::new("file", format!("is neither TOML ({}) nor a YAML table", one_line(&toml.to_string()))))
        }
        Err(yaml) => {
            let (toml, yaml) = (one_line(&toml.to_string()), one_line(&yaml.to_string()));
            Err(Problem::new("file", format!("is neither TOML ({toml}) nor YAML ({yaml})")))
        }
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn one_line(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    crate::agent::bounded(&words, 200)
}

fn organism(tree: &Value, problems: &mut Vec<Problem>) -> Draft {
    let empty = Map::new();
    let mut top = Reader::new("", tree.as_object().unwrap_or(&empty), problems);
    let frame = match top.table("organism") {
        Some(fields) => {
            let mut reader = Reader::new("organism", fields, problems);
            let default = Frame::default();
            let frame = Frame {
                name: reader.text("name").unwrap_or(default.name),
                at_once: reader
                    .count("max_concurrent_per_agent")
                    .map_or(default.at_once, |n| n.min(u64::from(u32::MAX)) as u32),
                thread_tokens: reader.count("thread_budget"),
            };
            reader.end();
            frame
        }
        None => Frame::default(),
    };
    let mut top = Reader::new("", tree.as_object().unwrap_or(&empty), problems);
    top.known.push("organism");
    // The older of the two words is that of one documented file.
    let agents = [top.list("agents"), top.list("listeners")].into_iter().flatten().flatten().collect::<Vec<_>>();
    top.end();
    let agents: Vec<Agent> =
        agents.into_iter().enumerate().filter_map(|(at, value)| agent(at, value, problems)).collect();
    if agents.is_empty() && problems.is_empty() {
        problems.push(Problem::new("agents", "are missing: a definition has at least one"));
    }
    Draft { frame, agents }
}

fn agent(at: usize, value: &Value, problems: &mut Vec<Problem>) -> Option<Agent> {
    let place = format!("agents[{at}]");
    let Some(fields) = value.as_object() else {
        problems.push(Problem::new(place, "is a table"));
        return None;
    };
    let mut reader = Reader::new(&place, fields, problems);
    let name = reader.text("name");
    if name.is_none() && !fields.contains_key("name") {
        reader.wrong("name", "is missing");
    }
    let agent = Agent {
        name: name.clone().unwrap_or_else(|| place.clone()),
        description: reader.text("description").unwrap_or_default(),
        model: reader.text("model"),
        instructions: reader.text("instructions").or_else(|| reader.text("prompt")).unwrap_or_default(),
        tools: reader.texts("tools"),
        peers: reader.texts("peers"),
        payload: reader.text("payload_class").unwrap_or_else(|| "Message".into()),
        fields: reader.table("payload").map(|fields| payload(&place, fields, reader.problems)).unwrap_or_default(),
        budget: reader.count("budget"),
    };
    reader.known.extend(["prompt", "instructions"]);
    reader.end();
    name.map(|_| agent)
}

/// `question = "text"`, `urgency = "number?"`.
fn payload(place: &str, fields: &Map<String, Value>, problems: &mut Vec<Problem>) -> Vec<Field> {
    let mut out = Vec::new();
    for (name, value) in fields {
        let word = value.as_str().unwrap_or_default();
        let (word, optional) = word.strip_suffix('?').map_or((word, false), |word| (word, true));
        let kinds = [FieldKind::Text, FieldKind::Number, FieldKind::Boolean];
        match kinds.into_iter().find(|kind| kind.word() == word) {
            Some(kind) => out.push(Field { name: name.clone(), kind, optional }),
            None => problems.push(Problem::new(
                format!("{place}.payload.{name}"),
                "is \"text\", \"number\" or \"boolean\", with a ? if it may be left out",
            )),
        }
    }
    out
}

/// Reads the fields of one table, and notes those that nobody asked for.
struct Reader<'a, 'p> {
    place: String,
    fields: &'a Map<String, Value>,
    known: Vec<&'static str>,
    problems: &'p mut Vec<Problem>,
}

impl<'a, 'p> Reader<'a, 'p> {
    fn new(place: &str, fields: &'a Map<String, Value>, problems: &'p mut Vec<Problem>) -> Reader<'a, 'p> {
        Reader { place: place.to_owned(), fields, known: Vec::new(), problems }
    }

    fn get(&mut self, name: &'static str) -> Option<&'a Value> {
        self.known.push(name);
        self.fields.get(name).filter(|value| !value.is_null())
    }

    fn wrong(&mut self, name: &str, what: &str) {
        let at = if self.place.is_empty() { name.to_owned() } else { format!("{}.{name}", self.place) };
        self.problems.push(Problem::new(at, what));
    }

    fn text(&mut self, name: &'static str) -> Option<String> {
        match self.get(name)? {
            Value::String(text) => Some(text.clone()),
            _ => {
                self.wrong(name, "is a text");
                None
            }
        }
    }

    fn count(&mut self, name: &'static str) -> Option<u64> {
        let value = self.get(name)?;
        if value.as_u64().is_none() {
            self.wrong(name, "is a whole number, 0 or more");
        }
        value.as_u64()
    }

    fn list(&mut self, name: &'static str) -> Option<&'a Vec<Value>> {
        match self.get(name)? {
            Value::Array(items) => Some(items),
            _ => {
                self.wrong(name, "is a list");
                None
            }
        }
    }

    fn table(&mut self, name: &'static str) -> Option<&'a Map<String, Value>> {
        match self.get(name)? {
            Value::Object(fields) => Some(fields),
            _ => {
                self.wrong(name, "is a table");
                None
            }
        }
    }

    fn texts(&mut self, name: &'static str) -> Vec<String> {
        let items = self.list(name).map(Vec::as_slice).unwrap_or_default();
        if items.iter().any(|item| !item.is_string()) {
            self.wrong(name, "is a list of texts");
        }
        items.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    fn end(self) {
        let Reader { place, fields, known, problems } = self;
        for name in fields.keys().filter(|name| !known.contains(&name.as_str())) {
            let at = if place.is_empty() { name.clone() } else { format!("{place}.{name}") };
            problems.push(Problem::new(crate::agent::bounded(&at, 128), "is not known here"));
        }
    }
}
