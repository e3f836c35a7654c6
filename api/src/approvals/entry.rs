//! Entries of the audit, as the API shows them: one by one, or put together to the calls and decisions of a turn.

use crate::when::rfc3339;
use poem_openapi::Object;
use skep_actors::audit::{Entry, Outcome, Verdict, What};
use std::collections::BTreeMap;
use uuid::Uuid;

/// A decision about a call.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct PolicyDecision {
    /// Its entry in the audit: the machine's short id and a number.
    pub id: String,
    /// The tool.
    pub tool_name: String,
    /// By the policy: `allow`, `ask` or `deny`; by a person: `approved` or `denied`; by nobody: `timed_out` or `withdrawn`.
    pub decision: String,
    /// The rule that said so.
    pub rule_name: Option<String>,
    /// Why, and by whom.
    pub reason: Option<String>,
    /// When.
    pub created_at: String,
}

/// A call of a tool.
#[derive(Debug, Object)]
#[oai(rename = "AuditedToolCall", skip_serializing_if_is_none)]
pub struct ToolCall {
    /// Its id.
    pub id: String,
    /// The tool.
    pub tool_name: String,
    /// Never there: tools are part of the program.
    pub skill_id: Option<String>,
    /// Never there.
    pub skill_name: Option<String>,
    /// Never there.
    pub skill_hash: Option<String>,
    /// Its arguments: JSON in a text, cut if it is long.
    pub input: String,
    /// What it gave, cut if it is long.
    pub output: Option<String>,
    /// `pending` (somebody is asked), `running`, `success`, `error`, `denied`, `timed_out` or `cancelled`.
    pub status: String,
    /// Milliseconds that it took.
    pub duration_ms: Option<u64>,
    /// When the agent wanted it.
    pub created_at: String,
}

/// An entry of the audit.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct AuditEntry {
    /// The key of the machine whose log it is of.
    pub node_id: String,
    /// Its number in that log.
    pub seq: u64,
    /// When, by that machine's clock.
    pub created_at: String,
    /// `judged`, `decided`, `began`, `ended`, `policy`, `cut`, `lost`, or `unknown` if it is of another version.
    pub what: String,
    /// The agent, if it is one that the swarm has defined.
    pub agent: Option<String>,
    /// The run.
    pub run_id: Option<String>,
    /// The turn.
    pub turn_id: Option<String>,
    /// The call.
    pub call_id: Option<String>,
    /// The request for approval.
    pub approval_id: Option<String>,
    /// The tool.
    pub tool_name: Option<String>,
    /// The SHA-256 of the exact arguments.
    pub input_sha256: Option<String>,
    /// What was said or came of it, in a word.
    pub result: Option<String>,
    /// Who decided.
    pub by: Option<String>,
    /// What stands beside it: arguments, a result, a reason.
    pub text: Option<String>,
    /// Its hash, which covers all entries before it.
    pub hash: String,
}

/// The decisions among these entries, in their order.
pub(super) fn decisions(entries: Vec<Entry>) -> Vec<PolicyDecision> {
    entries.into_iter().filter_map(PolicyDecision::of).collect()
}

impl PolicyDecision {
    fn of(entry: Entry) -> Option<PolicyDecision> {
        let (id, created_at) = (format!("{}-{}", entry.node.short(), entry.seq), rfc3339(entry.at_ms));
        match entry.what? {
            What::Judged { tool, verdict, rule, reason, .. } => Some(PolicyDecision {
                id,
                tool_name: tool,
                decision: verdict_word(verdict).into(),
                rule_name: rule,
                reason,
                created_at,
            }),
            What::Decided { tool, outcome, by, reason, .. } => Some(PolicyDecision {
                id,
                tool_name: tool,
                decision: outcome_word(outcome).into(),
                rule_name: None,
                reason: Some(reason.map_or_else(|| format!("by {by}"), |why| format!("by {by}: {why}"))),
                created_at,
            }),
            _ => None,
        }
    }
}

/// The calls that these entries tell of, in the order in which they were wanted.
pub(super) fn tool_calls(entries: Vec<Entry>) -> Vec<ToolCall> {
    let (mut calls, mut places) = (Vec::new(), BTreeMap::<Uuid, usize>::new());
    let mut waiting: Vec<(Uuid, usize)> = Vec::new();
    for Entry { at_ms, what, .. } in entries {
        match what {
            Some(What::Judged { call, tool, input, verdict, request, .. }) => {
                places.insert(call, calls.len());
                waiting.extend(request.map(|request| (request, calls.len())));
                calls.push(ToolCall {
                    id: call.to_string(),
                    tool_name: tool,
                    skill_id: None,
                    skill_name: None,
                    skill_hash: None,
                    input,
                    output: None,
                    status: if verdict == Verdict::Deny { "denied" } else { "pending" }.into(),
                    duration_ms: None,
                    created_at: rfc3339(at_ms),
                });
            }
            Some(What::Decided { request, outcome, .. }) => {
                let of_request = waiting.iter().filter(|(waits, _)| *waits == request).map(|(_, place)| *place);
                for place in of_request {
                    calls[place].status = match outcome {
                        Outcome::Approved => "pending",
                        Outcome::Denied => "denied",
                        Outcome::TimedOut => "timed_out",
                        Outcome::Withdrawn => "cancelled",
                    }
                    .into();
                }
            }
            Some(What::Began { call, .. }) => {
                if let Some(place) = places.get(&call) {
                    calls[*place].status = "running".into();
                }
            }
            Some(What::Ended { call, ok, output, took_ms, .. }) => {
                if let Some(place) = places.get(&call) {
                    let ended = &mut calls[*place];
                    ended.status = if ok { "success" } else { "error" }.into();
                    (ended.output, ended.duration_ms) = (Some(output), Some(took_ms));
                }
            }
            _ => {}
        }
    }
    calls
}

impl From<Entry> for AuditEntry {
    fn from(entry: Entry) -> AuditEntry {
        let mut shown = AuditEntry {
            node_id: entry.node.to_string(),
            seq: entry.seq,
            created_at: rfc3339(entry.at_ms),
            what: "unknown".into(),
            agent: None,
            run_id: None,
            turn_id: entry.what.as_ref().and_then(What::turn).map(|turn| turn.to_string()),
            call_id: None,
            approval_id: None,
            tool_name: None,
            input_sha256: None,
            result: None,
            by: None,
            text: None,
            hash: entry.hash.to_string(),
        };
        if let Some(what) = entry.what {
            shown.say(what);
        }
        shown
    }
}

impl AuditEntry {
    fn say(&mut self, what: What) {
        let word = match what {
            What::Judged { call, who, tool, args, input, verdict, rule, reason, request } => {
                self.agent = Some(who.agent).filter(|name| !str::is_empty(name));
                (self.run_id, self.call_id) = (Some(who.run.to_string()), Some(call.to_string()));
                (self.tool_name, self.input_sha256) = (Some(tool), Some(args.to_string()));
                (self.result, self.by) = (Some(verdict_word(verdict).into()), rule);
                self.approval_id = request.map(|id| id.to_string());
                self.text = Some(reason.map_or_else(|| input.clone(), |why| format!("{input} ({why})")));
                "judged"
            }
            What::Decided { request, tool, args, outcome, by, reason, .. } => {
                (self.approval_id, self.tool_name) = (Some(request.to_string()), Some(tool));
                (self.input_sha256, self.result) = (Some(args.to_string()), Some(outcome_word(outcome).into()));
                (self.by, self.text) = (Some(by), reason);
                "decided"
            }
            What::Began { call, tool, args, request, .. } => {
                (self.call_id, self.tool_name) = (Some(call.to_string()), Some(tool));
                (self.input_sha256, self.approval_id) = (Some(args.to_string()), request.map(|id| id.to_string()));
                "began"
            }
            What::Ended { call, ok, output, .. } => {
                (self.call_id, self.text) = (Some(call.to_string()), Some(output));
                self.result = Some(if ok { "success" } else { "error" }.into());
                "ended"
            }
            What::Policy { digest, rules, by } => {
                (self.by, self.text) = (Some(by), Some(format!("{rules} rules, {digest}")));
                "policy"
            }
            What::Cut(last) => {
                self.text = Some(format!("entries up to {} were removed", last.seq));
                "cut"
            }
            What::Lost(seen) => {
                self.text = Some(format!("other machines have seen entry {}", seen.seq));
                "lost"
            }
        };
        self.what = word.into();
    }
}

fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "allow",
        Verdict::Ask => "ask",
        Verdict::Deny => "deny",
    }
}

fn outcome_word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Approved => "approved",
        Outcome::Denied => "denied",
        Outcome::TimedOut => "timed_out",
        Outcome::Withdrawn => "withdrawn",
    }
}
