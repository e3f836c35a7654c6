//! What a sub-agent may do, as a chain of grants that the node which hosts it checks: each is signed by the node that gives
//! it, for one node and one run, and gives no more than that node was given itself.
//!
//! ```text
//! root's node --grant 1--> child's node --grant 2--> grandchild's node
//! ```
//!
//! A grant names who may use it, so a copy is of no use to anyone else, and covers the one before it, so none can be put
//! into another chain. A node that hosts a sub-agent can pass on what it was given, in part or in whole, and nothing else:
//! whoever is to host what it starts sees the whole chain. What the root has is not part of it: who starts a goal is a
//! member of the swarm, and grants what it likes out of its own budget.
//!
//! A chain doesn't end by a date, which a wrong clock would misread: the tree's root is asked whether it still lives
//! ([`super::Message::Admit`]) before anything is started in it.

use super::{AgentError, Goal, Parent, life::DEPTH_MAX};
use crate::task::Level;
use serde::{Deserialize, Serialize};
use skep_runtime::{NodeId, Swarm, wire};
use uuid::Uuid;

/// What signatures of grants are for.
const CONTEXT: &str = "skep agent grant";
/// Grants of one chain.
const GRANTS_MAX: usize = DEPTH_MAX as usize;

/// What a run may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rights {
    /// The tools that it may call, by name.
    pub tools: Vec<String>,
    /// The tokens that it and those below it may spend.
    pub tokens: u64,
    /// How many levels of sub-agents it may have below it.
    pub levels: u8,
    /// The weakest fence that its commands may have.
    pub sandbox: Level,
    /// Folders that it may read beside its own. A sub-agent has none.
    pub paths: Vec<String>,
    /// Whether its commands may have the network. No run's may.
    pub network: bool,
}

impl Rights {
    /// What a run of this goal, at this depth, asks for.
    pub(super) fn of(goal: &Goal, depth: u8) -> Rights {
        Rights {
            tools: goal.tools.clone(),
            tokens: goal.budget,
            levels: DEPTH_MAX.saturating_sub(depth),
            sandbox: goal.fence(),
            paths: goal.folder.iter().cloned().collect(),
            network: false,
        }
    }

    /// The first right of these that `others` don't have.
    fn beyond(&self, others: &Rights) -> Option<String> {
        let extra = |own: &[String], all: &[String]| own.iter().find(|name| !all.contains(name)).cloned();
        if let Some(name) = extra(&self.tools, &others.tools).or_else(|| extra(&self.paths, &others.paths)) {
            return Some(super::data::bounded(&name, 64));
        }
        if self.tokens > others.tokens {
            return Some(format!("{} tokens of {}", self.tokens, others.tokens));
        }
        if self.sandbox < others.sandbox {
            return Some(format!("sandbox {} instead of {}", self.sandbox, others.sandbox));
        }
        if self.network && !others.network {
            return Some("the network".into());
        }
        (self.levels > others.levels).then(|| format!("{} levels of sub-agents of {}", self.levels, others.levels))
    }
}

/// What one node gives another's run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The node that hosts the run.
    to: NodeId,
    /// The run, its place in the tree, and who gives: the node of its parent.
    place: Parent,
    /// The defined agent that the whole tree works for.
    agent: Option<String>,
    /// What it may do.
    rights: Rights,
    /// Over all of that and the signature of the grant before it, by the node that gives.
    signature: Vec<u8>,
}

/// A chain of grants, the root's first; empty for a root.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warrant(Vec<Grant>);

impl Warrant {
    /// The chain with one grant more: by this node, for a run on `to`.
    pub(super) fn extended(&self, swarm: &dyn Swarm, to: NodeId, goal: &Goal, parent: &Parent) -> Warrant {
        let (agent, rights) = (goal.agent.clone(), Rights::of(goal, parent.depth));
        let mut grant = Grant { to, place: *parent, agent, rights, signature: Vec::new() };
        grant.signature = swarm.sign(CONTEXT, &grant.signed(self.0.last())).to_vec();
        Warrant(self.0.iter().cloned().chain([grant]).collect())
    }

    /// Whether this node may host a run of this goal.
    ///
    /// # Errors
    /// [`AgentError::Warrant`] if the chain doesn't hold, [`AgentError::Rights`] if more is wanted than it gives.
    pub(super) fn check(&self, swarm: &dyn Swarm, me: NodeId, goal: &Goal, parent: &Parent) -> Result<(), AgentError> {
        let refused = |what: &str| Err(AgentError::Warrant(what.into()));
        let Some(last) = self.0.last() else { return refused("it shows none") };
        if self.0.len() > GRANTS_MAX || self.0.len() != usize::from(parent.depth) {
            return refused("it has not as many grants as its place in the tree");
        }
        if (last.to, &last.place, &last.agent) != (me, parent, &goal.agent) {
            return refused("it is another run's, another node's, or for another place in the tree");
        }
        for (at, grant) in self.0.iter().enumerate() {
            let before = at.checked_sub(1).and_then(|at| self.0.get(at));
            if let Err(what) = grant.follows(before, at + 1) {
                return refused(what);
            }
            if tree(&grant.place) != tree(parent) || grant.agent != goal.agent {
                return refused("a grant is of another tree, or for another agent");
            }
            if !swarm.vouched(&grant.place.node, CONTEXT, &grant.signed(before), &grant.signature) {
                return refused("a grant is not signed by who gives it");
            }
            let most = before.map(|before| &before.rights);
            if let Some(what) = most.and_then(|most| grant.rights.beyond(most)) {
                return Err(AgentError::Rights(what));
            }
            if most.is_some_and(|most| grant.rights.levels >= most.levels) {
                return refused("a grant has as many levels below it as the one above");
            }
        }
        match Rights::of(goal, parent.depth).beyond(&last.rights) {
            Some(what) => Err(AgentError::Rights(what)),
            None => Ok(()),
        }
    }
}

impl Grant {
    /// Whether it is given by who hosts the run that the one before it is for, or by the tree's root.
    fn follows(&self, before: Option<&Grant>, depth: usize) -> Result<(), &'static str> {
        let giver = before.map_or((self.place.root_node, self.place.root), |before| (before.to, before.place.child));
        if (self.place.node, self.place.run) != giver {
            return Err("a grant is by who was given none");
        }
        if usize::from(self.place.depth) != depth {
            return Err("a grant is for another depth");
        }
        Ok(())
    }

    fn signed(&self, before: Option<&Grant>) -> Vec<u8> {
        let before = before.map(|grant| grant.signature.as_slice()).unwrap_or_default();
        wire::encode(&(before, self.to, self.place, &self.agent, &self.rights))
    }
}

/// What is the same for all runs of a tree.
fn tree(place: &Parent) -> (Uuid, NodeId, Uuid, Uuid, NodeId) {
    (place.root, place.root_node, place.turn, place.thread, place.budget_owner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{agent::Strategy, agent::stage::goal, digest::Digest, testing::Swarm as Nodes};

    fn parent(nodes: &Nodes, depth: u8, by: usize) -> Parent {
        Parent {
            run: Uuid::from_u128(if depth == 1 { 1 } else { 9 + u128::from(depth) }),
            node: nodes.id(by),
            thread: Uuid::from_u128(99),
            budget_owner: nodes.id(0),
            root: Uuid::from_u128(1),
            root_node: nodes.id(0),
            turn: Uuid::from_u128(1),
            depth,
            child: Uuid::from_u128(10 + u128::from(depth)),
            errand: Digest::of(&[depth]),
        }
    }

    fn asks(tools: &[&str], budget: u64) -> Goal {
        Goal { budget, ..goal(Strategy::React, tools, 0) }
    }

    fn swarm(nodes: &Nodes, i: usize) -> &dyn Swarm {
        &*nodes.context(i).swarm
    }

    /// Node 0 starts a run on node 1, which starts one on node 2.
    fn chain(nodes: &Nodes, first: &Goal, second: &Goal) -> Warrant {
        let one = Warrant::default().extended(swarm(nodes, 0), nodes.id(1), first, &parent(nodes, 1, 0));
        one.extended(swarm(nodes, 1), nodes.id(2), second, &parent(nodes, 2, 1))
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_passed_on_is_taken_and_more_is_not() {
        let nodes = Nodes::new(3).await;
        let (first, second) = (asks(&["read_file", "run_task"], 1000), asks(&["read_file"], 400));
        let whole = chain(&nodes, &first, &second);
        let at = parent(&nodes, 2, 1);
        whole.check(swarm(&nodes, 2), nodes.id(2), &second, &at).unwrap();
        for wider in [asks(&["read_file", "run_task"], 400), asks(&["read_file"], 401)] {
            let refused = whole.check(swarm(&nodes, 2), nodes.id(2), &wider, &at);
            assert!(matches!(refused, Err(AgentError::Rights(_))), "{refused:?}");
        }
        // The node in the middle grants what it has not.
        for wider in [asks(&["spawn_sub_agent"], 400), asks(&["read_file"], 1001)] {
            let rogue = chain(&nodes, &first, &wider);
            let refused = rogue.check(swarm(&nodes, 2), nodes.id(2), &wider, &at);
            assert!(matches!(refused, Err(AgentError::Rights(_))), "{refused:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_chain_that_is_stolen_cut_or_patched_is_refused() {
        let nodes = Nodes::new(4).await;
        let (first, second) = (asks(&["read_file", "run_task"], 1000), asks(&["read_file"], 400));
        let whole = chain(&nodes, &first, &second);
        let at = parent(&nodes, 2, 1);
        let check = |warrant: &Warrant, node: usize, at: &Parent| {
            warrant.check(swarm(&nodes, node), nodes.id(node), &second, at)
        };
        let refused = |warrant: &Warrant, node: usize, at: &Parent| {
            let told = check(warrant, node, at);
            assert!(matches!(told, Err(AgentError::Warrant(_))), "{told:?}");
        };
        refused(&Warrant::default(), 2, &at);
        refused(&whole, 3, &at);
        // Every word about its place is signed.
        refused(&whole, 2, &Parent { child: Uuid::from_u128(77), ..at });
        refused(&whole, 2, &Parent { run: Uuid::from_u128(77), ..at });
        refused(&whole, 2, &Parent { node: nodes.id(3), ..at });
        refused(&whole, 2, &Parent { thread: Uuid::from_u128(98), ..at });
        refused(&whole, 2, &Parent { budget_owner: nodes.id(3), ..at });
        refused(&whole, 2, &Parent { root: Uuid::from_u128(77), ..at });
        refused(&whole, 2, &Parent { root_node: nodes.id(3), ..at });
        refused(&whole, 2, &Parent { turn: Uuid::from_u128(77), ..at });
        refused(&whole, 2, &Parent { depth: 1, ..at });
        refused(&whole, 2, &Parent { errand: Digest::of(b"another"), ..at });
        let other = Goal { agent: Some("scout".into()), ..second.clone() };
        let told = whole.check(swarm(&nodes, 2), nodes.id(2), &other, &at);
        assert!(matches!(told, Err(AgentError::Warrant(_))), "{told:?}");
        // The node in the middle signs for another tree than it is in, and for another agent.
        let elsewhere = Parent { turn: Uuid::from_u128(77), ..at };
        let first_alone = Warrant(whole.0[..1].to_vec());
        refused(&first_alone.extended(swarm(&nodes, 1), nodes.id(2), &second, &elsewhere), 2, &elsewhere);
        let renamed = first_alone.extended(swarm(&nodes, 1), nodes.id(2), &other, &at);
        let told = renamed.check(swarm(&nodes, 2), nodes.id(2), &other, &at);
        assert!(matches!(told, Err(AgentError::Warrant(_))), "{told:?}");
        // The first grant alone, as if it were for this node; the second one alone, as if it were a root's.
        refused(&Warrant(whole.0[..1].to_vec()), 2, &Parent { depth: 1, ..at });
        refused(&Warrant(whole.0[1..].to_vec()), 2, &Parent { depth: 1, ..at });
        // Rights written over after they were signed.
        let mut patched = whole.clone();
        patched.0[0].rights.tools.push("spawn_sub_agent".into());
        refused(&patched, 2, &at);
        // The rogue signs in the root's place.
        let mut forged = whole.clone();
        forged.0[0].rights.tokens = 1 << 40;
        forged.0[0].signature = swarm(&nodes, 1).sign(CONTEXT, &forged.0[0].signed(None)).to_vec();
        refused(&forged, 2, &at);
    }

    /// A13: whoever is in the middle can't take the fence, the folder or the network that its parent did not give.
    #[tokio::test(start_paused = true)]
    async fn a13_a_sub_agent_with_a_weaker_fence_another_folder_or_the_network_is_refused() {
        let nodes = Nodes::new(3).await;
        let first = Goal { sandbox: Some(Level::Bubblewrap), ..asks(&["run_task"], 1000) };
        let second = Goal { budget: 400, ..first.clone() };
        let at = parent(&nodes, 2, 1);
        let check = |warrant: Warrant, goal: &Goal| warrant.check(swarm(&nodes, 2), nodes.id(2), goal, &at);
        check(chain(&nodes, &first, &second), &second).unwrap();
        for sandbox in [None, Some(Level::None), Some(Level::Landlock)] {
            let weaker = Goal { sandbox, ..second.clone() };
            for warrant in [chain(&nodes, &first, &second), chain(&nodes, &first, &weaker)] {
                let told = check(warrant, &weaker);
                assert!(matches!(&told, Err(AgentError::Rights(what)) if what.starts_with("sandbox")), "{told:?}");
            }
        }
        // A stricter one than it was given is its own affair, and its sub-agents'.
        let loose = Goal { sandbox: Some(Level::Landlock), ..first.clone() };
        check(chain(&nodes, &loose, &second), &second).unwrap();
        let nosy = Goal { folder: Some("/home".into()), ..second.clone() };
        let told = check(chain(&nodes, &first, &nosy), &nosy);
        assert!(matches!(told, Err(AgentError::Rights(_))), "{told:?}");
        let mut rogue = chain(&nodes, &first, &second);
        rogue.0[1].rights.network = true;
        let signed = rogue.0[1].signed(rogue.0.first());
        rogue.0[1].signature = swarm(&nodes, 1).sign(CONTEXT, &signed).to_vec();
        let told = check(rogue, &second);
        assert!(matches!(told, Err(AgentError::Rights(_))), "{told:?}");
    }
}
