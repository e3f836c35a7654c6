//! What a definition says once it makes sense: the swarm's frame and its agents. And whether it does: everything that is
//! wrong is told at once, each with where it stands.

use crate::agent::tools;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Bytes of a definition file: hundreds of agents with pages of instructions.
pub const FILE_BYTES_MAX: usize = 1 << 20;
/// Agents of a swarm: every member holds all of them.
pub const AGENTS_MAX: usize = 256;
/// Bytes of an agent's instructions: several pages, which every turn's prompt begins with.
const INSTRUCTIONS_BYTES_MAX: usize = 16 << 10;
/// Bytes of a description: what other agents and people are told.
const DESCRIPTION_BYTES_MAX: usize = 1 << 10;
/// Bytes of a name.
const NAME_BYTES_MAX: usize = 64;
/// Fields of a payload.
const FIELDS_MAX: usize = 32;
/// Turns of one agent at work at once on one node, if nobody says otherwise.
const AT_ONCE: u32 = 5;

/// What holds for all agents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// What people call the swarm's agents.
    pub name: String,
    /// Turns of one agent at work at once, on each node that keeps threads.
    pub at_once: u32,
    /// Tokens of a thread that nobody gave a budget.
    pub thread_tokens: Option<u64>,
}

impl Default for Frame {
    fn default() -> Frame {
        Frame { name: "skep".into(), at_once: AT_ONCE, thread_tokens: None }
    }
}

/// An agent, as it is defined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// What it is called by.
    pub name: String,
    /// What it is good for: told to people and to the agents that may ask it.
    pub description: String,
    /// The model that it thinks with; `None` for the default one.
    pub model: Option<String>,
    /// What it is told about itself.
    pub instructions: String,
    /// The tools that it may use.
    pub tools: Vec<String>,
    /// The agents that it may ask.
    pub peers: Vec<String>,
    /// What a message to it is called.
    pub payload: String,
    /// What a message to it has to have; empty: anything.
    pub fields: Vec<Field>,
    /// The most tokens that one turn of it may spend; `None` for what its thread has left.
    pub budget: Option<u64>,
}

impl Agent {
    /// The one that answers where nobody has defined any: it only thinks.
    pub fn main() -> Agent {
        Agent {
            name: super::MAIN.into(),
            description: "answers whatever it is asked".into(),
            model: None,
            instructions: String::new(),
            tools: Vec::new(),
            peers: Vec::new(),
            payload: "Message".into(),
            fields: Vec::new(),
            budget: None,
        }
    }
}

/// A field of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: FieldKind,
    /// It may be left out.
    pub optional: bool,
}

/// What a field of a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FieldKind {
    /// Words.
    Text,
    /// A number.
    Number,
    /// Yes or no.
    Boolean,
}

impl FieldKind {
    /// Its word in a definition.
    pub const fn word(self) -> &'static str {
        match self {
            FieldKind::Text => "text",
            FieldKind::Number => "number",
            FieldKind::Boolean => "boolean",
        }
    }
}

/// Something that is wrong with a definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Where: `agents[2].peers`, or an agent's name.
    pub at: String,
    /// What.
    pub what: String,
}

impl Problem {
    pub(super) fn new(at: impl Into<String>, what: impl Into<String>) -> Problem {
        Problem { at: at.into(), what: what.into() }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.at, self.what)
    }
}

/// A whole definition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Draft {
    /// What holds for all.
    pub frame: Frame,
    /// The agents.
    pub agents: Vec<Agent>,
}

impl Draft {
    /// What is wrong with it; nothing if it makes sense.
    pub fn problems(&self) -> Vec<Problem> {
        let mut out = Vec::new();
        if !is_line(&self.frame.name, NAME_BYTES_MAX) {
            out.push(Problem::new("organism.name", format!("is one line of 1 to {NAME_BYTES_MAX} bytes")));
        }
        if !(1..=64).contains(&self.frame.at_once) {
            out.push(Problem::new("organism.max_concurrent_per_agent", "is from 1 to 64"));
        }
        if self.frame.thread_tokens == Some(0) {
            out.push(Problem::new("organism.thread_budget", "is at least 1 token"));
        }
        if self.agents.len() > AGENTS_MAX {
            out.push(Problem::new("agents", format!("are {}; {AGENTS_MAX} are the most", self.agents.len())));
        }
        let mut seen = BTreeSet::new();
        for agent in &self.agents {
            if !seen.insert(agent.name.as_str()) {
                out.push(Problem::new(&agent.name, "is defined twice"));
            }
            alone(agent, &mut out);
        }
        for agent in &self.agents {
            for peer in agent.peers.iter().filter(|peer| !seen.contains(peer.as_str())) {
                out.push(Problem::new(&agent.name, format!("its peer {peer} is not defined")));
            }
        }
        out.extend(circle(&self.agents).map(|names| Problem::new("peers", format!("go in a circle: {names}"))));
        out
    }
}

/// What is wrong with an agent, whoever else there is.
fn alone(agent: &Agent, out: &mut Vec<Problem>) {
    let mut wrong = |what: String| out.push(Problem::new(&agent.name, what));
    if !is_name(&agent.name) {
        wrong(format!(
            "a name is 1 to {NAME_BYTES_MAX} of a-z, A-Z, 0-9, \".\", \"_\" and \"-\", and begins with a letter or digit"
        ));
    }
    if agent.name == super::GOAL {
        wrong("goals that are no agent's are called so: choose another name".into());
    }
    if agent.description.trim().is_empty() || agent.description.len() > DESCRIPTION_BYTES_MAX {
        wrong(format!("its description has 1 to {DESCRIPTION_BYTES_MAX} bytes: others choose whom to ask by it"));
    }
    if agent.instructions.len() > INSTRUCTIONS_BYTES_MAX {
        wrong(format!("its instructions have {INSTRUCTIONS_BYTES_MAX} bytes at most"));
    }
    if agent.model.as_ref().is_some_and(|model| !is_line(model, 256)) {
        wrong("its model is one line of 1 to 256 bytes".into());
    }
    let known = || tools::ALL.iter().map(|tool| tool.name).filter(|name| *name != tools::ask_agent::NAME);
    for (at, tool) in agent.tools.iter().enumerate() {
        if tool == tools::ask_agent::NAME {
            wrong(format!("{tool} comes with its peers and isn't listed"));
        } else if !known().any(|name| name == tool) {
            wrong(format!("there is no tool {tool}; there are {}", known().collect::<Vec<_>>().join(", ")));
        } else if agent.tools[..at].contains(tool) {
            wrong(format!("the tool {tool} is listed twice"));
        }
    }
    for (at, peer) in agent.peers.iter().enumerate() {
        if agent.peers[..at].contains(peer) {
            wrong(format!("the peer {peer} is listed twice"));
        }
    }
    if !is_tag(&agent.payload) {
        wrong("its payload_class is a letter, then letters, digits, \"_\", \"-\" or \".\", 64 at most".into());
    }
    if agent.fields.len() > FIELDS_MAX {
        wrong(format!("its payload has {FIELDS_MAX} fields at most"));
    }
    for field in agent.fields.iter().filter(|field| !is_tag(&field.name)) {
        wrong(format!("the field {} of its payload is no name: a letter, then letters, digits, \"_\"", field.name));
    }
    if agent.budget == Some(0) {
        wrong("its budget is at least 1 token".into());
    }
}

fn is_line(text: &str, bytes_max: usize) -> bool {
    !text.trim().is_empty() && text.len() <= bytes_max && !text.chars().any(char::is_control)
}

/// Whether this can name an agent: it stands in paths, lists and prompts.
pub(super) fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    text.len() <= NAME_BYTES_MAX && text.chars().all(plain) && text.starts_with(|c: char| c.is_ascii_alphanumeric())
}

/// Whether this can be the name of an XML element.
fn is_tag(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    text.len() <= NAME_BYTES_MAX && text.chars().all(plain) && text.starts_with(|c: char| c.is_ascii_alphabetic())
}

/// The first circle of peers, if there is one: who asks waits for the answer, so a circle would wait for itself.
fn circle(agents: &[Agent]) -> Option<String> {
    // One that is defined twice has the peers of both, so that everything is told at once.
    let mut peers: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for agent in agents {
        peers.entry(&agent.name).or_default().extend(agent.peers.iter().map(String::as_str));
    }
    let mut clear = BTreeSet::new();
    for start in peers.keys() {
        let mut path: Vec<&str> = Vec::new();
        // Depth first, without recursion: each entry is an agent and how many of its peers were looked at.
        let mut stack = vec![(*start, 0)];
        while let Some((name, next)) = stack.pop() {
            if next == 0 {
                if clear.contains(name) {
                    continue;
                }
                path.push(name);
            }
            let peer = peers.get(name).and_then(|peers| peers.get(next)).copied();
            let Some(peer) = peer else {
                path.pop();
                clear.insert(name);
                continue;
            };
            if let Some(at) = path.iter().position(|on| *on == peer) {
                return Some(path[at..].iter().chain([&peer]).copied().collect::<Vec<_>>().join(" -> "));
            }
            stack.push((name, next + 1));
            if peers.contains_key(peer) {
                stack.push((peer, 0));
            }
        }
    }
    None
}
