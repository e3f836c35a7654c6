//! Definitions: what is taken, what is wrong with the rest, and what a new one changes.

use super::{
    Change, Message, NAME, OrganismError, Standing,
    actor::difference,
    draft::{Agent, Draft, FieldKind},
    read::read,
    schema,
};
use crate::{ledger, testing::Swarm};
use ractor::RpcReplyPort;
use serde::{Serialize, de::DeserializeOwned};
use skep_runtime::Wire;
use std::{collections::BTreeMap, time::Duration};
use tokio::time::{sleep, timeout};

const TOML: &str = r#"
[organism]
name = "bees"
max_concurrent_per_agent = 2

[[agents]]
name = "scout"
description = "looks around"
instructions = "You look around."
tools = ["list_cluster_nodes"]
peers = ["scribe"]
payload_class = "Question"
payload = { question = "text", urgency = "number?" }
budget = 4000

[[agents]]
name = "scribe"
description = "writes things down"
"#;

const YAML: &str = "
organism: {name: bees, max_concurrent_per_agent: 2}
listeners:
  - name: scout
    description: looks around
    prompt: You look around.
    tools: [list_cluster_nodes]
    peers: [scribe]
    payload_class: Question
    payload: {question: text, urgency: 'number?'}
    budget: 4000
  - {name: scribe, description: writes things down}
";

async fn swarm(n: usize) -> Swarm {
    let swarm = Swarm::new(n).await;
    for i in 0..n {
        ledger::start(swarm.context(i), swarm.root(i)).await.unwrap();
        super::start(swarm.context(i), swarm.root(i)).await.unwrap();
    }
    swarm
}

async fn ask<T>(swarm: &Swarm, i: usize, make: impl FnOnce(RpcReplyPort<Wire<T>>) -> Message) -> T
where
    T: Serialize + DeserializeOwned + Send + 'static,
{
    let organism = swarm.context(i).directory.here::<Message>(NAME);
    organism.ask(Duration::from_secs(20), make).await.unwrap()
}

async fn load(swarm: &Swarm, i: usize, text: impl Into<String>) -> Result<Change, OrganismError> {
    ask(swarm, i, |reply| Message::Load(Wire(text.into()), reply)).await
}

/// Waits until both of two nodes have an agent so.
async fn until_both(swarm: &Swarm, name: &str, so: impl Fn(&Agent) -> bool) {
    let both = || (0..2).all(|i| super::agent(&swarm.context(i).ledger, name).unwrap().as_ref().is_some_and(&so));
    let seen = async {
        while !both() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(120), seen).await.unwrap();
}

fn wrong(text: &str) -> Vec<String> {
    read(text).unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn toml_and_yaml_say_the_same() {
    let draft = read(TOML).unwrap();
    assert_eq!(draft, read(YAML).unwrap());
    let scout = &draft.agents[0];
    assert_eq!((scout.name.as_str(), scout.budget, draft.frame.at_once), ("scout", Some(4000), 2));
    assert_eq!((scout.fields[1].kind, scout.fields[1].optional), (FieldKind::Number, true));
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let told = wrong(
        "
[organism]
nmae = 'x'
[[agents]]
name = 'a'
description = 'one'
tools = ['read_file', 'fly', 7]
peers = ['b', 'ghost']
colour = 'red'
[[agents]]
name = 'b'
description = ''
peers = ['c']
[[agents]]
name = 'c'
description = 'three'
peers = ['b']
budget = -4
[[agents]]
name = 'a'
description = 'again'
[[agents]]
description = 'nameless'
",
    );
    for expected in [
        "organism.nmae: is not known here",
        "agents[0].tools: is a list of texts",
        "agents[0].colour: is not known here",
        "agents[2].budget: is a whole number, 0 or more",
        "agents[4].name: is missing",
        "a: is defined twice",
        "a: its peer ghost is not defined",
        "peers: go in a circle: b -> c -> b",
    ] {
        assert!(told.iter().any(|line| line == expected), "{expected} is not in {told:#?}");
    }
    assert!(told.iter().any(|line| line.starts_with("a: there is no tool fly; there are ")), "{told:#?}");
    assert!(told.iter().any(|line| line.starts_with("b: its description has 1 to ")), "{told:#?}");
}

#[test]
fn an_agent_that_is_its_own_peer_goes_in_a_circle() {
    assert!(wrong("agents: [{name: a, description: d, peers: [a]}]").contains(&"peers: go in a circle: a -> a".into()));
}

#[test]
fn what_is_no_definition_is_refused_in_one_line() {
    for text in ["", "agents: []", "- a\n- b", "just words", "{", "a: &x [1]\nb: *x", "agents: 3"] {
        let told = wrong(text);
        assert!(!told.is_empty() && told.iter().all(|line| line.len() < 700 && !line.contains('\n')), "{told:?}");
    }
    let deep = format!("agents: {}1{}", "[".repeat(60), "]".repeat(60));
    assert!(!wrong(&deep).is_empty());
    assert!(wrong(&"#".repeat(super::FILE_BYTES_MAX + 1))[0].contains("are the most"));
}

#[test]
fn a_new_definition_changes_what_it_has_to() {
    let draft = read(TOML).unwrap();
    let agent = |name: &str| Agent { name: name.into(), ..draft.agents[1].clone() };
    let known: BTreeMap<String, Agent> = [
        ("scout".to_owned(), Agent { description: "other".into(), ..draft.agents[0].clone() }),
        ("scribe".to_owned(), agent("scribe")),
        ("old".to_owned(), agent("old")),
    ]
    .into();
    let (change, writes) = difference(&known, &draft);
    assert_eq!((change.added.len(), change.removed, change.updated), (0, vec!["old".to_owned()], vec!["scout".into()]));
    assert_eq!(writes.len(), 2, "whether an agent works is not the definition's to say");
    let (again, writes) = difference(&draft.agents.iter().map(|a| (a.name.clone(), a.clone())).collect(), &draft);
    assert_eq!((again, writes.len()), (super::Change::default(), 0));
}

#[tokio::test(start_paused = true)]
async fn a_model_that_is_chosen_while_another_node_loads_a_definition_undoes_nothing_of_it() {
    let swarm = swarm(2).await;
    load(&swarm, 0, TOML).await.unwrap();
    until_both(&swarm, "scribe", |_| true).await;
    swarm.part(0, 1);
    let alone = OrganismError::Ledger(ledger::Error::Alone);
    let loaded = load(&swarm, 0, TOML.replace("writes things down", "writes all down")).await;
    assert_eq!(loaded, Err(alone.clone()));
    let model = Wire(("scribe".to_owned(), Some("m".to_owned())));
    let chosen = ask(&swarm, 1, |reply| Message::Model(model, reply)).await;
    assert_eq!(chosen, Err(alone));
    swarm.meet(0, 1);
    let both = |agent: &Agent| agent.description == "writes all down" && agent.model.as_deref() == Some("m");
    until_both(&swarm, "scribe", both).await;
    // The next definition says again which model it is.
    let changed = load(&swarm, 0, TOML).await.unwrap();
    assert_eq!(changed.updated, ["scribe"]);
    until_both(&swarm, "scribe", |agent| agent.model.is_none() && agent.description == "writes things down").await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_comes_back_is_paused_as_it_was() {
    let swarm = swarm(1).await;
    load(&swarm, 0, TOML).await.unwrap();
    let pause = Wire(("scribe".to_owned(), Standing::Paused));
    ask(&swarm, 0, |reply| Message::Set(pause, reply)).await.unwrap();
    let gone = load(&swarm, 0, "agents: [{name: other, description: d}]").await.unwrap();
    assert_eq!(gone.removed, ["scout", "scribe"]);
    load(&swarm, 0, TOML).await.unwrap();
    assert_eq!(super::standing(&swarm.context(0).ledger, "scribe").unwrap(), Standing::Paused);
}

#[test]
fn a_schema_shows_what_a_message_has() {
    let draft = read(TOML).unwrap();
    let xsd = schema::xsd(&draft.agents[0]);
    assert!(
        xsd.contains("<xs:element name=\"Question\">")
            && xsd.contains("name=\"urgency\" type=\"xs:decimal\" minOccurs=\"0\""),
        "{xsd}"
    );
    assert_eq!(schema::example(&draft.agents[0]), "<Question><question>...</question><urgency>1</urgency></Question>");
    assert!(schema::xsd(&draft.agents[1]).contains("<xs:element name=\"Message\" type=\"xs:string\"/>"));
}

proptest::proptest! {
    #[test]
    fn no_file_makes_it_panic(text in "(?s).{0,300}") {
        let _ = read(&text);
    }

    #[test]
    fn circles_are_found_exactly_when_there_are_some(edges in proptest::collection::vec((0_usize..6, 0_usize..6), 0..12)) {
        let agent = |n: usize| {
            let mut peers: Vec<String> = edges.iter().filter(|(from, _)| *from == n).map(|(_, to)| format!("a{to}")).collect();
            peers.sort();
            peers.dedup();
            Agent { name: format!("a{n}"), peers, ..read(TOML).unwrap().agents[1].clone() }
        };
        let draft = Draft { agents: (0..6).map(agent).collect(), ..Draft::default() };
        // Whoever is left when agents without peers are taken away again and again is on a circle, or asks one that is.
        let mut left: std::collections::BTreeSet<usize> = (0..6).collect();
        while let Some(free) = left.iter().copied().find(|n| !edges.iter().any(|(from, to)| from == n && left.contains(to))) {
            left.remove(&free);
        }
        proptest::prop_assert_eq!(draft.problems().iter().any(|problem| problem.at == "peers"), !left.is_empty());
    }
}
