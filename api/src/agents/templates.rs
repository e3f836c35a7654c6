//! `/api/agents/templates`: goals to start from, for people who look at an empty field.

use crate::{Reply, caller::Caller, tag::Tag};
use poem_openapi::{Object, OpenApi, payload::Json};

/// Id, name, description, goal, tools.
type Row = (&'static str, &'static str, &'static str, &'static str, &'static [&'static str]);

const TEMPLATES: [Row; 5] = [
    (
        "summary",
        "Sum up documents",
        "Each document is read by a sub-agent, on whichever machine has room; the parts become one summary.",
        "Sum up these documents in ten sentences, the most important first.",
        &[],
    ),
    (
        "question",
        "Ask the model",
        "One prompt, one answer.",
        "Explain in a few sentences what a Merkle tree is good for.",
        &[],
    ),
    (
        "inventory",
        "Describe the machines",
        "The model looks at the swarm's machines and says what each is fit for.",
        "List the machines of this swarm and say in one sentence each what they are fit for.",
        &["list_cluster_nodes"],
    ),
    (
        "report",
        "Look at a machine",
        "The model runs commands and says what it found.",
        "Find out how full the disks of this machine are and say in two sentences whether that is a worry.",
        &["run_task"],
    ),
    (
        "delegation",
        "Let another machine work",
        "The model picks a machine and gives a part of the goal to a sub-agent there.",
        "Find a machine with a graphics processor and let a sub-agent there write a haiku about bees.",
        &["list_cluster_nodes", "spawn_sub_agent"],
    ),
];

/// Endpoints of the templates.
#[derive(Clone, Copy, Debug)]
pub struct Templates;

#[OpenApi(prefix_path = "/api/agents/templates", tag = "Tag::Agents")]
impl Templates {
    /// List goals to start from
    #[oai(path = "/", method = "get", operation_id = "templates_list")]
    async fn list(&self, _caller: Caller) -> Reply<Json<Vec<Template>>> {
        Ok(Json(TEMPLATES.iter().map(Template::from).collect()))
    }
}

/// A goal to start from.
#[derive(Debug, Object)]
#[oai(rename = "AgentTemplate")]
pub struct Template {
    /// Its id.
    pub id: String,
    /// Its name, for people.
    pub name: String,
    /// What it does, for people.
    pub description: String,
    /// What to send as `goal`.
    pub goal: String,
    /// What to send as `tools`.
    pub tools: Vec<String>,
}

impl From<&Row> for Template {
    fn from((id, name, description, goal, tools): &Row) -> Template {
        Template {
            id: (*id).into(),
            name: (*name).into(),
            description: (*description).into(),
            goal: (*goal).into(),
            tools: tools.iter().map(|tool| (*tool).into()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_actors::agent::tools::ALL;

    #[test]
    fn a_template_names_only_tools_that_there_are() {
        for (id, _, _, _, tools) in TEMPLATES {
            assert!(tools.iter().all(|tool| ALL.iter().any(|known| known.name == *tool)), "{id}");
        }
    }
}
