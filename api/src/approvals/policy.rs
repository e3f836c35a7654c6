//! `/api/policy`: the rules about calls of tools, one policy for the swarm.

use crate::{Reply, caller::Caller, input::Input, limits::DECIDE_TIMEOUT, tag::Tag, when::rfc3339};
use poem_openapi::{Enum, Object, OpenApi, payload::Json};
use skep_actors::{
    Context,
    approval::{self, Message, Policy, Rule, Verdict},
    runtime::{Handle, Wire, defaults::ASK_TIMEOUT},
};
use std::collections::BTreeMap;

/// Endpoints of the policy.
#[derive(Clone)]
pub struct Policies(pub Context);

#[OpenApi(prefix_path = "/api/policy", tag = "Tag::Approvals")]
impl Policies {
    /// Show the policy
    #[oai(path = "/", method = "get", operation_id = "policy_get")]
    async fn get(&self, _caller: Caller) -> Reply<Json<ToolPolicy>> {
        let policy = self.approvals().ask(ASK_TIMEOUT, Message::Policy).await??;
        Ok(Json(policy.into()))
    }

    /// Set the policy
    ///
    /// All of it, for all machines. What is wrong with it is told all at once.
    #[oai(path = "/", method = "put", operation_id = "policy_update")]
    async fn update(&self, _caller: Caller, body: Input<NewToolPolicy>) -> Reply<Json<ToolPolicy>> {
        let policy = body.0.into();
        let set = self.approvals().ask(DECIDE_TIMEOUT, |port| Message::SetPolicy(Wire(policy), port)).await??;
        Ok(Json(set.into()))
    }

    fn approvals(&self) -> Handle<Message> {
        self.0.directory.here(approval::NAME)
    }
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename = "ToolVerdict", rename_all = "lowercase")]
pub enum VerdictWord {
    /// It is made.
    Allow,
    /// The owner is asked.
    Ask,
    /// It is refused.
    Deny,
}

/// A rule about calls of tools.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields, skip_serializing_if_is_none)]
pub struct ToolRule {
    /// What people call it.
    pub name: String,
    /// Which tools: a pattern, in which `*` stands for any text and `?` for one character.
    pub tool: String,
    /// Which agents, by name; any if absent. A sub-agent counts as the agent that it works for.
    pub agent: Option<String>,
    /// Which arguments: a pattern for each name. An argument that is absent is an empty text.
    pub when: Option<BTreeMap<String, String>>,
    /// What becomes of a call that fits all of it.
    pub verdict: VerdictWord,
    /// What the agent, or whoever is asked, is told.
    pub reason: Option<String>,
}

/// A policy to set.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
pub struct NewToolPolicy {
    /// The first that fits a call counts.
    #[oai(validator(max_items = 256))]
    pub rules: Vec<ToolRule>,
    /// What becomes of a call that none fits; `allow` if absent.
    pub default: Option<VerdictWord>,
    /// Who changes it; `api` if absent.
    #[oai(validator(min_length = 1, max_length = 256))]
    pub changed_by: Option<String>,
    /// Ignored: so that what was read can be sent.
    pub changed_at: Option<String>,
}

/// The policy.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct ToolPolicy {
    /// The first that fits a call counts.
    pub rules: Vec<ToolRule>,
    /// What becomes of a call that none fits.
    pub default: VerdictWord,
    /// Who changed it last.
    pub changed_by: Option<String>,
    /// When.
    pub changed_at: Option<String>,
}

impl From<VerdictWord> for Verdict {
    fn from(word: VerdictWord) -> Verdict {
        match word {
            VerdictWord::Allow => Verdict::Allow,
            VerdictWord::Ask => Verdict::Ask,
            VerdictWord::Deny => Verdict::Deny,
        }
    }
}

impl From<Verdict> for VerdictWord {
    fn from(verdict: Verdict) -> VerdictWord {
        match verdict {
            Verdict::Allow => VerdictWord::Allow,
            Verdict::Ask => VerdictWord::Ask,
            Verdict::Deny => VerdictWord::Deny,
        }
    }
}

impl From<ToolRule> for Rule {
    fn from(rule: ToolRule) -> Rule {
        Rule {
            name: rule.name,
            tool: rule.tool,
            agent: rule.agent.unwrap_or_else(|| "*".into()),
            when: rule.when.unwrap_or_default(),
            verdict: rule.verdict.into(),
            reason: rule.reason.filter(|text| !str::is_empty(text)),
        }
    }
}

impl From<Rule> for ToolRule {
    fn from(rule: Rule) -> ToolRule {
        ToolRule {
            name: rule.name,
            tool: rule.tool,
            agent: Some(rule.agent).filter(|pattern| pattern != "*"),
            when: Some(rule.when).filter(|when| !BTreeMap::is_empty(when)),
            verdict: rule.verdict.into(),
            reason: rule.reason,
        }
    }
}

impl From<NewToolPolicy> for Policy {
    fn from(new: NewToolPolicy) -> Policy {
        Policy {
            rules: new.rules.into_iter().map(Rule::from).collect(),
            default: new.default.map(Verdict::from).unwrap_or_default(),
            changed_ms: 0,
            changed_by: new.changed_by.unwrap_or_else(|| "api".into()),
        }
    }
}

impl From<Policy> for ToolPolicy {
    fn from(policy: Policy) -> ToolPolicy {
        let changed = policy.changed_ms > 0;
        ToolPolicy {
            rules: policy.rules.into_iter().map(ToolRule::from).collect(),
            default: policy.default.into(),
            changed_by: Some(policy.changed_by).filter(|_| changed),
            changed_at: changed.then(|| rfc3339(policy.changed_ms)),
        }
    }
}
