//! `spawn_sub_agent`: gives a goal to an agent on another node and waits for its answer.
//!
//! Here its arguments are read and its rights cut to its parent's; the sending is `life`'s and `children`'s.

use super::{Tool, maybe_text, text};
use crate::agent::{AgentError, Strategy, strategy::Errand};
use serde_json::Value;

/// Its name.
pub const NAME: &str = "spawn_sub_agent";
/// What it is.
pub const TOOL: Tool = Tool {
    name: NAME,
    args: "{\"goal\": TEXT, \"node_id\": TEXT or null, \"tools\": [NAMES] or null}",
    about: "let another agent reach a goal and give its answer; without tools it only thinks",
    repeatable: false,
};

/// Bytes of a sub-agent's goal.
const GOAL_BYTES_MAX: usize = 8 << 10;

/// The first tool that is asked for and not allowed.
pub(in crate::agent) fn beyond(args: &Value, allowed: &[String]) -> Option<String> {
    let names = args.get("tools")?.as_array()?.iter().filter_map(Value::as_str);
    names.map(str::to_owned).find(|name| !allowed.contains(name))
}

/// The errand that a model asks for. A tool that its parent lacks is refused.
pub(in crate::agent) fn errand(args: &Value, allowed: &[String]) -> Result<Errand, String> {
    let goal = text(args, "goal")?.trim();
    if goal.is_empty() || goal.len() > GOAL_BYTES_MAX {
        return Err(format!("a goal has 1 to {GOAL_BYTES_MAX} bytes"));
    }
    let tools: Vec<String> = match args.get("tools") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(names)) => {
            let name = |v: &Value| v.as_str().map(str::to_owned).ok_or("\"tools\" is a list of names");
            names.iter().take(super::ALL.len() + 1).map(name).collect::<Result<_, _>>()?
        }
        Some(_) => return Err("\"tools\" is a list of names".into()),
    };
    if let Some(tool) = beyond(args, allowed) {
        return Err(AgentError::Rights(crate::agent::data::bounded(&tool, 64)).to_string());
    }
    // Without tools there is nothing to take turns with.
    let strategy = if tools.is_empty() { Strategy::Answer } else { Strategy::React };
    let node = maybe_text(args, "node_id")?.map(str::to_owned);
    Ok(Errand { purpose: NAME, goal: goal.to_owned(), strategy, tools, node, documents: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_sub_agent_can_not_have_a_tool_that_its_parent_lacks() {
        let allowed = ["read_file".to_owned()];
        assert!(errand(&json!({"goal": "g", "tools": ["read_file"]}), &allowed).is_ok());
        let refused = errand(&json!({"goal": "g", "tools": ["read_file", "run_task"]}), &allowed).unwrap_err();
        assert!(refused.contains("run_task"), "{refused}");
        assert!(errand(&json!({"goal": 7}), &allowed).is_err());
    }
}
