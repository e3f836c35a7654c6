//! Approvals over several nodes, from the outside, and the core against everything that may happen to it.

use super::{
    ApprovalError, Arguments, Call, Decide, Judged, Message, NAME, Policy, Request, Rule, State, Verdict,
    core::{ANSWER_MS_MAX, Core, Stand},
    start,
};
use crate::{
    audit::{self, Outcome, What, Who},
    ledger::{self, Collection},
    testing::Swarm,
};
use proptest::prelude::*;
use ractor::RpcReplyPort;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use skep_runtime::{NodeId, Wire};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use uuid::Uuid;

const TURN: Uuid = Uuid::from_u128(7);
/// As the desk has it.
const REQUESTS: Collection<Request> = Collection::new(32, 2);

/// Nodes with all that approvals need.
struct Hall(Swarm);

impl Hall {
    async fn new(n: usize) -> Hall {
        let hall = Hall(Swarm::new(n).await);
        for i in 0..n {
            hall.begin(i).await;
        }
        hall
    }

    async fn begin(&self, i: usize) {
        let (context, root) = (self.0.context(i), self.0.root(i));
        ledger::start(context, root.clone()).await.unwrap();
        audit::start(context, root.clone()).await.unwrap();
        start(context, root).await.unwrap();
    }

    async fn again(&mut self, i: usize) {
        self.0.kill(i).await;
        self.0.restart(i).await;
        self.begin(i).await;
    }

    async fn ask<T>(&self, i: usize, make: impl FnOnce(RpcReplyPort<Wire<T>>) -> Message) -> T
    where
        T: Serialize + DeserializeOwned + Send + 'static,
    {
        self.0.context(i).directory.here::<Message>(NAME).ask(Duration::from_secs(300), make).await.unwrap()
    }

    async fn judge(&self, i: usize, call: &Call, waited: Option<Uuid>) -> Result<Judged, ApprovalError> {
        self.ask(i, |port| Message::Judge(Wire((call.clone(), waited)), port)).await
    }

    /// The request that a call has to wait for.
    async fn waits(&self, i: usize, call: &Call) -> Uuid {
        match self.judge(i, call, None).await {
            Ok(Judged::Waits(id)) => id,
            other => panic!("{other:?}"),
        }
    }

    async fn decide(&self, i: usize, request: Uuid, approve: bool, by: &str) -> Result<Request, ApprovalError> {
        let because = Some("of the bees".to_owned());
        let answer = Decide { request, approve, by: by.into(), because, via: self.0.id(i) };
        self.ask(i, |port| Message::Decide(Wire(answer), port)).await
    }

    async fn list(&self, i: usize) -> Vec<Request> {
        self.ask(i, Message::List).await.unwrap()
    }

    async fn known(&self, i: usize, id: Uuid) -> Request {
        self.ask(i, |port| Message::Get(Wire(id), port)).await.unwrap()
    }

    async fn set(&self, i: usize, rules: Vec<Rule>) {
        let policy = Policy { rules, changed_by: "ada".into(), ..Policy::default() };
        self.ask(i, |port| Message::SetPolicy(Wire(policy), port)).await.unwrap();
        settle().await;
    }

    /// What the swarm's audit has about the turn.
    async fn audit(&self, i: usize) -> Vec<What> {
        let audit = self.0.context(i).directory.here::<audit::Message>(audit::NAME);
        let entries = audit.ask(Duration::from_secs(60), |port| audit::Message::Turn(Wire(TURN), port)).await.unwrap();
        entries.into_iter().map(|entry| entry.what.unwrap()).collect()
    }
}

/// Waits until what was told has come everywhere.
async fn settle() {
    tokio::time::sleep(Duration::from_secs(20)).await;
}

fn rule(tool: &str, verdict: Verdict) -> Rule {
    Rule {
        name: format!("{tool} {verdict:?}"),
        tool: tool.into(),
        agent: "*".into(),
        when: BTreeMap::new(),
        verdict,
        reason: Some("be careful".into()),
    }
}

fn call(id: u128, args: &serde_json::Value) -> Call {
    let who = Who { agent: "scout".into(), run: Uuid::from_u128(id), turn: TURN, thread: TURN };
    let args = Arguments::of(args);
    Call { id: Uuid::from_u128(id), who, tool: "run_task".into(), args, scope: TURN, doubtful: false }
}

#[tokio::test(start_paused = true)]
async fn without_a_rule_a_call_is_made_and_is_in_the_audit() {
    let hall = Hall::new(1).await;
    let call = call(1, &json!({"command": "ls"}));
    assert_eq!(hall.judge(0, &call, None).await, Ok(Judged::May));
    let audit = hall.audit(0).await;
    assert!(
        matches!(&audit[..], [
        What::Judged { verdict: Verdict::Allow, args, input, .. },
        What::Began { args: began, request: None, .. },
    ] if *args == call.args.digest() && began == args && input == r#"{"command":"ls"}"#),
        "{audit:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_rule_that_refuses_says_so_and_nothing_begins() {
    let hall = Hall::new(2).await;
    hall.set(1, vec![rule("run_*", Verdict::Deny)]).await;
    let refused = hall.judge(0, &call(1, &json!({})), None).await.unwrap();
    assert_eq!(refused, Judged::MayNot("refused by the policy (rule \"run_* Deny\"): be careful".into()));
    assert!(hall.list(0).await.is_empty());
    assert!(!hall.audit(0).await.iter().any(|what| matches!(what, What::Began { .. })));
}

#[tokio::test(start_paused = true)]
async fn an_approval_from_another_node_lets_exactly_that_call_be_made_once() {
    let hall = Hall::new(3).await;
    hall.set(0, vec![rule("run_task", Verdict::Ask)]).await;
    let wanted = call(1, &json!({"command": "make", "node": null}));
    let id = hall.waits(0, &wanted).await;
    settle().await;
    let shown = hall.list(2).await.remove(0);
    assert_eq!((shown.id, shown.state, &shown.call, shown.owner), (id, State::Pending, &wanted, hall.0.id(0)));

    // What was approved is not what another call wants.
    let changed = call(2, &json!({"command": "make", "node": null, "approved": true}));
    let other = hall.waits(0, &changed).await;
    assert_ne!(other, id);
    let decided = hall.decide(2, id, true, "ada").await.unwrap();
    assert_eq!((decided.state, decided.decision.unwrap().by.as_str()), (State::Approved, "ada"));
    assert_eq!(hall.judge(0, &changed, Some(other)).await, Ok(Judged::Waits(other)));
    // Nor does it help to have waited for it.
    assert_eq!(hall.judge(0, &changed, Some(id)).await, Ok(Judged::Waits(other)));

    assert_eq!(hall.judge(0, &wanted, Some(id)).await, Ok(Judged::May));
    let again = hall.judge(0, &wanted, Some(id)).await.unwrap();
    assert!(matches!(again, Judged::Waits(fresh) if fresh != id), "an approval is for one call: {again:?}");
    let audit = hall.audit(1).await;
    let decided = |what: &&What| matches!(what, What::Decided { by, via, outcome: Outcome::Approved, .. } if by == "ada" && *via == hall.0.id(2));
    assert_eq!(audit.iter().filter(decided).count(), 1, "{audit:#?}");
    let began = |what: &&What| matches!(what, What::Began { request: Some(request), .. } if *request == id);
    assert_eq!(audit.iter().filter(began).count(), 1, "{audit:#?}");
}

#[tokio::test(start_paused = true)]
async fn the_first_answer_counts_whichever_node_gives_it() {
    let hall = Hall::new(3).await;
    hall.set(0, vec![rule("*", Verdict::Ask)]).await;
    let (wanted, other) = (call(1, &json!({"a": 1})), call(2, &json!({"a": 2})));
    let (first, second) = (hall.waits(0, &wanted).await, hall.waits(0, &other).await);
    settle().await;
    let both = tokio::join!(hall.decide(1, first, false, "ada"), hall.decide(2, first, true, "bob"));
    let (Ok(won), Err(lost)) = (match both {
        (Ok(won), lost) => (Ok::<_, ()>(won), lost),
        (lost, Ok(won)) => (Ok(won), lost),
        neither => panic!("{neither:?}"),
    }) else {
        panic!("both were told that they counted")
    };
    let approved = won.state == State::Approved;
    let by = won.decision.unwrap().by;
    assert_eq!(lost, ApprovalError::Decided { approved, by });
    let judged = hall.judge(0, &wanted, Some(first)).await.unwrap();
    assert_eq!(judged == Judged::May, approved);

    hall.decide(0, second, false, "ada").await.unwrap();
    settle().await;
    for node in 0..3 {
        let again = hall.decide(node, second, true, "bob").await;
        assert_eq!(again, Err(ApprovalError::Decided { approved: false, by: "ada".into() }));
    }
    let refused = Judged::MayNot("not done: ada denied it: of the bees".into());
    assert_eq!(hall.judge(0, &other, Some(second)).await, Ok(refused.clone()));
    assert_eq!(hall.judge(0, &call(3, &json!({"a": 2})), None).await, Ok(refused), "it stays denied in this turn");
    let next_turn = Call { who: Who { turn: Uuid::from_u128(8), ..other.who.clone() }, ..other };
    assert!(matches!(hall.judge(0, &next_turn, None).await, Ok(Judged::Waits(_))));
    let unknown = hall.decide(1, Uuid::from_u128(9), true, "ada").await;
    assert_eq!(unknown, Err(ApprovalError::NoSuchRequest(Uuid::from_u128(9))));
}

#[tokio::test(start_paused = true)]
async fn nobodys_answer_is_a_no_and_a_late_one_counts_for_nothing() {
    let hall = Hall::new(2).await;
    hall.set(0, vec![rule("*", Verdict::Ask)]).await;
    let wanted = call(1, &json!({}));
    let id = hall.waits(0, &wanted).await;
    let begun = tokio::time::Instant::now();
    while hall.judge(0, &wanted, Some(id)).await == Ok(Judged::Waits(id)) {
        hall.ask(0, |port| Message::Wait(Wire(id), port)).await;
    }
    let took = begun.elapsed();
    assert!(took.as_millis().abs_diff(ANSWER_MS_MAX.into()) < 2000, "{took:?}");
    let judged = hall.judge(0, &wanted, Some(id)).await.unwrap();
    assert!(matches!(&judged, Judged::MayNot(why) if why.contains("nobody approved it")), "{judged:?}");
    settle().await;
    for node in 0..2 {
        assert_eq!(hall.list(node).await[0].state, State::TimedOut);
        assert_eq!(hall.decide(node, id, true, "ada").await, Err(ApprovalError::Late(ANSWER_MS_MAX / 1000)));
    }
    assert!(hall.audit(1).await.iter().any(|what| matches!(what, What::Decided { outcome: Outcome::TimedOut, .. })));
    let fresh = hall.waits(0, &call(2, &json!({}))).await;
    assert_ne!(fresh, id);
}

#[tokio::test(start_paused = true)]
async fn a_request_survives_its_nodes_restart_and_an_approval_counts_for_the_same_call() {
    let mut hall = Hall::new(2).await;
    hall.set(0, vec![rule("*", Verdict::Ask)]).await;
    let id = hall.waits(0, &call(1, &json!({"command": "make"}))).await;
    settle().await;
    hall.again(0).await;
    assert_eq!(hall.list(0).await[0].state, State::Pending);
    settle().await;
    hall.decide(1, id, true, "ada").await.unwrap();
    hall.again(0).await;
    let changed = call(2, &json!({"command": "make install"}));
    assert!(matches!(hall.judge(0, &changed, None).await, Ok(Judged::Waits(_))));
    let same = call(3, &json!({"command": "make"}));
    assert_eq!(hall.judge(0, &same, None).await, Ok(Judged::May));
    hall.again(0).await;
    let once_more = call(4, &json!({"command": "make"}));
    assert!(matches!(hall.judge(0, &once_more, None).await, Ok(Judged::Waits(fresh)) if fresh != id));
}

#[tokio::test(start_paused = true)]
async fn an_approval_that_nobody_used_in_time_counts_no_longer() {
    let hall = Hall::new(1).await;
    hall.set(0, vec![rule("*", Verdict::Ask)]).await;
    let id = hall.waits(0, &call(1, &json!({}))).await;
    hall.decide(0, id, true, "ada").await.unwrap();
    tokio::time::sleep(Duration::from_millis(ANSWER_MS_MAX + 1)).await;
    assert!(matches!(hall.judge(0, &call(2, &json!({})), None).await, Ok(Judged::Waits(fresh)) if fresh != id));
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_node_is_gone_can_not_be_answered_and_is_over_in_time() {
    let mut hall = Hall::new(2).await;
    hall.set(0, vec![rule("*", Verdict::Ask)]).await;
    let id = hall.waits(0, &call(1, &json!({}))).await;
    settle().await;
    hall.0.kill(0).await;
    let answered = hall.decide(1, id, true, "ada").await;
    assert!(matches!(answered, Err(ApprovalError::OwnerAway(_))), "{answered:?}");
    tokio::time::sleep(Duration::from_millis(ANSWER_MS_MAX)).await;
    assert_eq!(hall.decide(1, id, true, "ada").await, Err(ApprovalError::Late(ANSWER_MS_MAX / 1000)));
    let now_ms = hall.0.context(1).env.now_ms();
    assert_eq!(hall.list(1).await[0].state_at(now_ms), State::TimedOut);
}

#[tokio::test(start_paused = true)]
async fn what_a_run_asked_for_is_withdrawn_when_it_ends() {
    let hall = Hall::new(1).await;
    hall.set(0, vec![rule("*", Verdict::Ask)]).await;
    let wanted = call(1, &json!({}));
    let id = hall.waits(0, &wanted).await;
    hall.ask(0, |port| Message::Withdraw(Wire(wanted.who.run), port)).await;
    assert_eq!(hall.decide(0, id, true, "ada").await, Err(ApprovalError::Withdrawn));
}

/// A9: an approval is for what is asked for, never for more; and whatever is not understood or written is a no.
#[tokio::test(start_paused = true)]
async fn what_can_not_be_judged_or_written_down_is_not_done() {
    let hall = Hall(Swarm::new(1).await);
    let (context, root) = (hall.0.context(0), hall.0.root(0));
    ledger::start(context, root.clone()).await.unwrap();
    start(context, root.clone()).await.unwrap();
    let wanted = call(1, &json!({}));
    let judged = hall.judge(0, &wanted, None).await;
    assert!(matches!(judged, Err(ApprovalError::Link(_))), "without an audit nothing is allowed: {judged:?}");

    audit::start(context, root).await.unwrap();
    assert_eq!(hall.judge(0, &wanted, None).await, Ok(Judged::May));
    // Of a later version.
    let strange: Collection<u8> = Collection::new(31, 2);
    context.ledger.put(vec![strange.write(b"policy", 0, Some(&7))]).await.unwrap();
    assert_eq!(hall.judge(0, &wanted, None).await, Err(ApprovalError::Unreadable));
    hall.set(0, vec![rule("*", Verdict::Ask)]).await;
    let large = call(2, &json!({"text": "x".repeat(40 << 10)}));
    let judged = hall.judge(0, &large, None).await.unwrap();
    assert!(matches!(&judged, Judged::MayNot(why) if why.contains("nobody could look at them")), "{judged:?}");
    assert!(hall.list(0).await.is_empty());
    let bad = Policy { rules: vec![rule("", Verdict::Ask), rule("", Verdict::Deny)], ..Policy::default() };
    let refused = hall.ask(0, |port| Message::SetPolicy(Wire(bad), port)).await;
    assert!(matches!(&refused, Err(ApprovalError::Invalid(mistakes)) if mistakes.len() == 2), "{refused:?}");
}

/// A9: other nodes' actors, and guests, may pass on an answer and nothing else.
#[tokio::test(start_paused = true)]
async fn another_node_can_not_ask_for_a_policy_or_a_judgement_here() {
    let hall = Hall::new(2).await;
    let there = hall.0.context(1).directory.at::<Message>(hall.0.id(0), NAME);
    let wanted = call(1, &json!({}));
    let short = Duration::from_secs(5);
    let refused = |error: skep_runtime::Error| assert!(matches!(error, skep_runtime::Error::Refused(_)), "{error}");
    refused(there.ask(short, |port| Message::Judge(Wire((wanted, None)), port)).await.unwrap_err());
    refused(there.ask(short, |port| Message::SetPolicy(Wire(Policy::default()), port)).await.unwrap_err());
    refused(there.ask(short, |port| Message::Withdraw(Wire(Uuid::nil()), port)).await.unwrap_err());
}

/// A9: any member may write any record, and that decides nothing.
#[tokio::test(start_paused = true)]
async fn what_another_member_writes_over_a_request_approves_nothing_and_is_put_right() {
    let mut hall = Hall::new(2).await;
    hall.set(0, vec![rule("*", Verdict::Ask)]).await;
    let wanted = call(1, &json!({"command": "make"}));
    let id = hall.waits(0, &wanted).await;
    settle().await;
    let asked = hall.list(1).await.remove(0);
    let write = async |hall: &Hall, term: u64, key: Uuid, request: &Request| {
        let write = REQUESTS.write(key.as_bytes(), term, Some(request));
        hall.0.context(1).ledger.put(vec![write]).await.unwrap();
        settle().await;
    };
    let forged = Request { state: State::Approved, until_ms: u64::MAX / 2, ..asked.clone() };
    write(&hall, 1, id, &forged).await;
    // Under another's name, and one that was never asked for.
    write(&hall, 1, Uuid::from_u128(99), &forged).await;
    write(&hall, 1, Uuid::from_u128(98), &Request { id: Uuid::from_u128(98), ..forged.clone() }).await;
    assert_eq!(hall.judge(0, &wanted, Some(id)).await, Ok(Judged::Waits(id)));
    assert_eq!(hall.known(1, id).await, asked, "it is shown as it is");
    hall.again(0).await;
    assert_eq!(hall.judge(0, &wanted, Some(id)).await, Ok(Judged::Waits(id)));
    settle().await;

    // The owner's word counts all the same, and once.
    hall.decide(1, id, true, "ada").await.unwrap();
    let approved = hall.known(0, id).await;
    assert_eq!(hall.judge(0, &wanted, Some(id)).await, Ok(Judged::May));
    settle().await;
    write(&hall, 7, id, &approved).await;
    assert!(hall.known(1, id).await.used.is_some());
    hall.again(0).await;
    let again = hall.judge(0, &call(2, &json!({"command": "make"})), Some(id)).await;
    assert!(matches!(again, Ok(Judged::Waits(fresh)) if fresh != id), "{again:?}");
    let began = hall.audit(0).await.iter().filter(|what| matches!(what, What::Began { .. })).count();
    assert_eq!(began, 1);
}

#[test]
fn an_approval_that_the_disk_forgot_to_be_used_is_used() {
    let me = NodeId::from_bytes([1; 32]);
    let mut core = Core::new(me);
    let wanted = call(1, &json!({}));
    core.put(core.ask(Uuid::from_u128(9), wanted.clone(), None, None, 0).unwrap());
    let yes = Decide { request: Uuid::from_u128(9), approve: true, by: "ada".into(), because: None, via: me };
    let approved = core.decide(&yes, 1).unwrap();
    // What others say approves nothing.
    core.heard(&approved);
    assert_eq!(core.stand(&wanted, None, 2), Stand::Waits(Uuid::from_u128(9)));
    core.put(approved.clone());
    core.heard(&Request { used: Some(Uuid::from_u128(1)), ..approved.clone() });
    core.heard(&approved);
    assert_eq!(core.stand(&wanted, None, 2), Stand::New);
}

#[tokio::test(start_paused = true)]
async fn what_one_sub_agent_may_do_the_one_beside_it_has_to_ask_about() {
    let hall = Hall::new(1).await;
    hall.set(0, vec![rule("*", Verdict::Ask)]).await;
    let of = |id: u128, child: u128| Call { scope: Uuid::from_u128(child), ..call(id, &json!({"path": "a.txt"})) };
    let id = hall.waits(0, &of(1, 11)).await;
    hall.decide(0, id, true, "ada").await.unwrap();
    let beside = hall.judge(0, &of(2, 12), None).await;
    assert!(matches!(beside, Ok(Judged::Waits(other)) if other != id), "{beside:?}");
    assert_eq!(hall.judge(0, &of(3, 11), None).await, Ok(Judged::May));
}

#[tokio::test(start_paused = true)]
async fn a_name_without_an_end_is_cut_in_the_audit() {
    let hall = Hall::new(1).await;
    let wanted = call(1, &json!({}));
    let who = Who { agent: "a".repeat(100 << 10), ..wanted.who.clone() };
    assert_eq!(hall.judge(0, &Call { who, ..wanted }, None).await, Ok(Judged::May));
    let audit = hall.audit(0).await;
    assert!(matches!(&audit[0], What::Judged { who, .. } if who.agent.len() < 1024), "{audit:?}");
}

/// A node that came into a swarm and has met nobody of it doesn't know the policy, which is not "everything is allowed"; one
/// that knew it once goes on without the others, who may never come back.
#[tokio::test(start_paused = true)]
async fn a_policy_that_was_never_read_allows_nothing_and_one_that_was_counts_when_the_others_are_gone() {
    let mut hall = Hall(Swarm::new(2).await);
    hall.0.part(0, 1);
    hall.begin(0).await;
    hall.begin(1).await;
    assert_eq!(hall.judge(0, &call(1, &json!({})), None).await, Err(ApprovalError::Unmet));
    hall.0.meet(0, 1);
    settle().await;
    hall.set(1, vec![rule("run_*", Verdict::Deny)]).await;
    assert!(matches!(hall.judge(0, &call(2, &json!({})), None).await, Ok(Judged::MayNot(_))));

    hall.0.kill(1).await;
    hall.0.kill(0).await;
    hall.0.restart(0).await;
    hall.begin(0).await;
    assert!(matches!(hall.judge(0, &call(3, &json!({})), None).await, Ok(Judged::MayNot(_))));
}

/// What may happen to a node's requests.
#[derive(Debug, Clone)]
enum Step {
    /// A call with these arguments is wanted, by a run that waits.
    Want(u8),
    /// Whoever waits for this request looks again.
    Look(prop::sample::Index),
    /// Somebody answers.
    Decide(prop::sample::Index, bool),
    /// A run ends.
    End(prop::sample::Index),
    /// Time passes.
    Pass(u64),
    /// The node starts again with what it has written.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3_u8).prop_map(Step::Want),
        4 => any::<prop::sample::Index>().prop_map(Step::Look),
        4 => (any::<prop::sample::Index>(), any::<bool>()).prop_map(|(which, yes)| Step::Decide(which, yes)),
        1 => any::<prop::sample::Index>().prop_map(Step::End),
        2 => (0..ANSWER_MS_MAX).prop_map(Step::Pass),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    /// No call is ever made without an approval for exactly its arguments, no approval is used twice or late, and the first
    /// answer stands.
    #[test]
    fn nothing_is_made_without_an_approval_of_its_own(steps in prop::collection::vec(step(), 1..60)) {
        let me = NodeId::from_bytes([1; 32]);
        let (mut core, mut disk) = (Core::new(me), BTreeMap::<Uuid, Request>::new());
        let (mut now_ms, mut fresh) = (1_000_000, 0_u128);
        let mut waiting: Vec<(Call, Uuid)> = Vec::new();
        // What was approved and not used: the digest of its arguments, and until when.
        let mut approved: BTreeMap<Uuid, (crate::digest::Digest, u64)> = BTreeMap::new();
        let mut decided: BTreeSet<Uuid> = BTreeSet::new();
        for step in steps {
            let (wanted, waited) = match step {
                Step::Want(args) => {
                    fresh += 1;
                    (call(fresh, &json!({"n": args})), None)
                }
                Step::Look(which) if !waiting.is_empty() => {
                    let (call, id) = which.get(&waiting).clone();
                    (call, Some(id))
                }
                Step::Decide(which, yes) if !waiting.is_empty() => {
                    let id = which.get(&waiting).1;
                    let answer = Decide { request: id, approve: yes, by: "ada".into(), because: None, via: me };
                    if let Ok(next) = core.decide(&answer, now_ms) {
                        prop_assert!(decided.insert(id), "a second answer counted");
                        if yes {
                            approved.insert(id, (next.call.args.digest(), now_ms + ANSWER_MS_MAX));
                        }
                        disk.insert(id, next.clone());
                        core.put(next);
                    }
                    continue;
                }
                Step::End(which) if !waiting.is_empty() => {
                    let run = which.get(&waiting).0.who.run;
                    for next in core.withdrawn(run) {
                        disk.insert(next.id, next.clone());
                        core.put(next);
                    }
                    continue;
                }
                Step::Pass(ms) => {
                    now_ms += ms;
                    for next in core.overdue(now_ms) {
                        prop_assert!(!decided.contains(&next.id));
                        disk.insert(next.id, next.clone());
                        core.put(next);
                    }
                    continue;
                }
                Step::Restart => {
                    core = Core::new(me);
                    disk.values().cloned().for_each(|request| core.put(request));
                    continue;
                }
                _ => continue,
            };
            match core.stand(&wanted, waited, now_ms) {
                Stand::Granted(next) => {
                    let right = approved.remove(&next.id);
                    let (args, until_ms) = right.ok_or_else(|| TestCaseError::fail("it was not approved, or is used up"))?;
                    prop_assert_eq!(args, wanted.args.digest());
                    prop_assert!(now_ms < until_ms, "it is too late");
                    disk.insert(next.id, (*next).clone());
                    core.put(*next);
                }
                Stand::Waits(id) => waiting.push((wanted, id)),
                Stand::New => {
                    fresh += 1;
                    if let Ok(request) = core.ask(Uuid::from_u128(fresh), wanted.clone(), None, None, now_ms) {
                        waiting.push((wanted, request.id));
                        disk.insert(request.id, request.clone());
                        core.put(request);
                    }
                }
                Stand::Refused(_) => {}
            }
        }
    }
}
