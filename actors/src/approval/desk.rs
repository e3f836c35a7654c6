//! Where the core lies, and the hands that do what it says: the ledger and the audit are written here.
//!
//! Decisions about requests are made one at a time, under one pen that is held until they are on the disk: an answer counts
//! for everyone or for nobody. What this node decided is on its own disk. The ledger shows it to the others, and is believed
//! about their requests alone: any member may write any record there.

use super::{
    core::{ANSWER_MS_MAX, ARGS_BYTES_MAX, Core, KEPT_MS, SAID_BYTES_MAX, Stand, undecided},
    messages::{ApprovalError, Call, Decide, Judged, Message, Request, State},
    policy::{Mistake, Policy},
};
use crate::{
    Context,
    agent::bounded,
    audit::{
        self, Outcome, Verdict, What, Who,
        entry::{COPY_BYTES_MAX, TEXT_BYTES_MAX},
    },
    digest::Digest,
    event,
    ledger::{self, Collection, Entry, Record, Write},
};
use skep_runtime::{
    NodeId, Wire,
    defaults::ASK_TIMEOUT,
    store::{self, Batch, Table},
    tasks::Spawner,
    wire,
};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};
use uuid::Uuid;

/// Why somebody is asked about a call that the policy allows.
const DOUBT: &str = "the machine that it ran on went down before it ended: it may have been done";
/// The one policy.
const POLICY: Collection<Policy> = Collection::new(31, 1);
const POLICY_ID: &[u8] = b"policy";
/// Every request, by its id's bytes.
const REQUESTS: Collection<Request> = Collection::new(32, 2);
/// Those of this node.
const OWN: Table<Uuid, Request> = Table::new("approvals");
/// The swarm whose policy is on this disk, as it was once.
const KNOWN: Table<u8, [u8; 32]> = Table::new("approvals_known");
/// The one row of [`KNOWN`].
const KNOWN_KEY: u8 = 0;

/// How long whoever waits for a decision is kept waiting before it looks again.
const WAIT_MAX: Duration = Duration::from_secs(25);
/// How long the audit may take to write something down: without it nothing is decided.
const AUDIT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a decision's owner may take: its audit and its disk.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// The pause before it is tried again to write what a disk refused.
const RETRY_PAUSE: Duration = Duration::from_secs(5);
/// The least time between two looks at what is due.
const LOOK_PAUSE: Duration = Duration::from_millis(100);
/// Ids that are drawn at most until one is new: the first one is, on a real machine.
const IDS_MAX: usize = 1000;
/// How long a request is kept whose owner never came back to remove it.
const ORPHAN_MS: u64 = 7 * KEPT_MS;

/// The state of an ApprovalActor, shared by its handlers and their tasks.
pub(super) struct Desk {
    context: Context,
    core: Mutex<Core>,
    /// Whoever holds it decides.
    pen: tokio::sync::Mutex<()>,
    /// Something was decided: counts up.
    decided: watch::Sender<u64>,
    /// Something may be due sooner than was thought.
    woken: Notify,
    /// The swarm of which it is known what others did while this node was away.
    ready: Mutex<Option<[u8; 32]>>,
    /// The swarm whose policy was known here once, since this process began or before.
    known: Mutex<Option<[u8; 32]>>,
}

impl Desk {
    /// Reads what there is, and starts what goes on for as long as the actor lives.
    ///
    /// # Errors
    /// The store could not be read.
    pub(super) fn open(context: &Context, tasks: &Spawner) -> Result<Arc<Desk>, store::Error> {
        let _ = context.ledger.feed(REQUESTS);
        let mut core = Core::new(context.directory.id());
        context.store.visit(OWN, |_, request| core.put(request))?;
        let mut orphans = Vec::new();
        let now_ms = context.env.now_ms();
        context.ledger.visit(REQUESTS, |record| {
            let Some(request) = sound(record) else { return };
            match core.get(request.id) {
                Some(_) => core.heard(&request),
                None if request.until_ms.saturating_add(ORPHAN_MS) < now_ms => orphans.push(request.id),
                None => {}
            }
        })?;
        let known = match context.store.get(KNOWN, &KNOWN_KEY) {
            Err(error) if error.is_damage() => None,
            known => known?,
        };
        let desk = Arc::new(Desk {
            context: context.clone(),
            core: Mutex::new(core),
            pen: tokio::sync::Mutex::default(),
            decided: watch::Sender::new(0),
            woken: Notify::new(),
            ready: Mutex::default(),
            known: Mutex::new(known),
        });
        tasks.spawn(desk.clone().settle());
        tasks.spawn(desk.clone().watch(orphans));
        tasks.spawn(desk.clone().guard());
        Ok(desk)
    }

    /// What becomes of a call. A yes is in the audit before it is said.
    pub(super) async fn judge(&self, call: Call, waited: Option<Uuid>) -> Result<Judged, ApprovalError> {
        self.informed().await?;
        let policy = self.policy()?;
        let (verdict, rule) = policy.judge(&call);
        let (mut name, mut reason) = (rule.map(|rule| rule.name.clone()), rule.and_then(|rule| rule.reason.clone()));
        let verdict = match verdict {
            Verdict::Allow if call.doubtful => {
                (name, reason) = (None, Some(DOUBT.into()));
                Verdict::Ask
            }
            verdict => verdict,
        };
        self.context.metrics.counter("tool_calls_judged", "calls of tools that the policy was asked about").inc();
        match verdict {
            Verdict::Allow => {
                self.note(vec![judged(&call, verdict, name, reason, None), began(&call, None)]).await?;
                Ok(Judged::May)
            }
            Verdict::Deny => {
                let why = reason.clone().map(|why| format!(": {why}")).unwrap_or_default();
                let by = name.as_ref().map(|name| format!(" (rule \"{name}\")")).unwrap_or_default();
                self.note(vec![judged(&call, verdict, name, reason, None)]).await?;
                Ok(Judged::MayNot(format!("refused by the policy{by}{why}")))
            }
            Verdict::Ask => self.ask(call, waited, name, reason).await,
        }
    }

    async fn ask(
        &self,
        call: Call,
        waited: Option<Uuid>,
        rule: Option<String>,
        reason: Option<String>,
    ) -> Result<Judged, ApprovalError> {
        if call.args.text().len() > ARGS_BYTES_MAX {
            let why = format!(
                "it needs an approval, and its arguments have more than {ARGS_BYTES_MAX} bytes: nobody could look at them"
            );
            self.note(vec![judged(&call, Verdict::Deny, rule, Some(why.clone()), None)]).await?;
            return Ok(Judged::MayNot(format!("refused: {why}")));
        }
        let _pen = self.pen.lock().await;
        let now_ms = self.now_ms();
        // Who waited is in the audit already.
        let first = waited.is_none();
        let heading = |verdict, reason, request| first.then(|| judged(&call, verdict, rule.clone(), reason, request));
        let stand = self.core().stand(&call, waited, now_ms);
        match stand {
            Stand::Waits(id) => {
                self.note(heading(Verdict::Ask, reason, Some(id)).into_iter().collect()).await?;
                Ok(Judged::Waits(id))
            }
            Stand::Refused(why) => {
                self.note(heading(Verdict::Deny, Some(why.clone()), None).into_iter().collect()).await?;
                Ok(Judged::MayNot(why))
            }
            Stand::Granted(request) => {
                let id = request.id;
                // Used up first: lost between the two is a call that was not made.
                self.write(*request).await?;
                let heading = heading(Verdict::Ask, reason, Some(id));
                self.note(heading.into_iter().chain([began(&call, Some(id))]).collect()).await?;
                Ok(Judged::May)
            }
            Stand::New => {
                // A simulated node draws the same ids again after a restart.
                let fresh = std::iter::repeat_with(|| self.context.env.id());
                let id = fresh.take(IDS_MAX).find(|id| self.core().get(*id).is_none());
                let id = id.ok_or_else(|| ApprovalError::Disk("no new id could be drawn".into()))?;
                let request = self.core().ask(id, call.clone(), rule.clone(), reason.clone(), now_ms)?;
                self.note(vec![judged(&call, Verdict::Ask, rule, reason, Some(id))]).await?;
                let until_ms = request.until_ms;
                self.write(request).await?;
                self.context.events.publish(|| event::What::PendingApproval(told(id, &call, until_ms)));
                tracing::info!(request = %id, tool = call.tool, "an agent's call waits for an approval");
                self.woken.notify_one();
                Ok(Judged::Waits(id))
            }
        }
    }

    /// Waits until a request is decided, or long enough.
    pub(super) async fn wait(&self, id: Uuid) {
        let mut decided = self.decided.subscribe();
        let now_ms = self.now_ms();
        let open = || self.core().get(id).is_some_and(|request| request.state_at(now_ms) == State::Pending);
        let over = async { while open() && decided.changed().await.is_ok() {} };
        // In time, it is looked at again.
        let _ = timeout(WAIT_MAX, over).await;
    }

    /// A run has ended: what it asked for is nobody's business any more.
    pub(super) async fn withdraw(&self, run: Uuid) {
        let _pen = self.pen.lock().await;
        let withdrawn = self.core().withdrawn(run);
        for request in withdrawn {
            let outcome = (Outcome::Withdrawn, "skep", Some("the run has ended".to_owned()));
            if let Err(error) = self.end(request, outcome).await {
                // Its time will be over.
                tracing::warn!(%run, %error, "a request that nobody waits for any more could not be withdrawn");
            }
        }
    }

    /// The owner's answer, wherever the request is.
    pub(super) async fn decide(&self, answer: Decide) -> Result<Request, ApprovalError> {
        check(&answer)?;
        let id = answer.request;
        let owner = self.known(id)?;
        if owner.owner == self.me() {
            return self.answer(answer).await;
        }
        // What was decided is final; what was not is its owner's to say.
        undecided(&owner, self.now_ms())?;
        if !self.context.members.is_up(&owner.owner) {
            return Err(ApprovalError::OwnerAway(owner.owner.short()));
        }
        let there = self.context.directory.at::<Message>(owner.owner, super::NAME);
        let answered = there.ask(ANSWER_TIMEOUT, |port| Message::Answer(Wire(answer), port)).await;
        answered.map_err(|_| ApprovalError::OwnerAway(owner.owner.short()))?
    }

    /// An answer to a request of this node. It is written down before it counts.
    pub(super) async fn answer(&self, answer: Decide) -> Result<Request, ApprovalError> {
        check(&answer)?;
        let _pen = self.pen.lock().await;
        let next = self.core().decide(&answer, self.now_ms())?;
        let outcome = if answer.approve { Outcome::Approved } else { Outcome::Denied };
        self.end(next.clone(), (outcome, &answer.by, answer.because.clone())).await?;
        tracing::info!(request = %next.id, ?outcome, "a call was decided about");
        Ok(next)
    }

    /// A request came to its end: in the audit, on the disk, for whoever waits.
    async fn end(
        &self,
        next: Request,
        (outcome, by, reason): (Outcome, &str, Option<String>),
    ) -> Result<(), ApprovalError> {
        let decided = What::Decided {
            request: next.id,
            turn: next.call.who.turn,
            tool: bounded(&next.call.tool, TEXT_BYTES_MAX),
            args: next.call.args.digest(),
            outcome,
            by: bounded(by, SAID_BYTES_MAX),
            via: next.decision.as_ref().map_or(self.me(), |decision| decision.via),
            reason: reason.map(|reason| bounded(&reason, SAID_BYTES_MAX)),
        };
        self.note(vec![decided]).await?;
        self.write(next).await
    }

    /// Writes a request, and lets it count.
    async fn write(&self, request: Request) -> Result<(), ApprovalError> {
        self.show(&request).await?;
        let mut batch = Batch::new();
        batch.put(OWN, &request.id, &request).map_err(ledger::Error::from)?;
        self.context.store.commit(batch).await.map_err(ledger::Error::from)?;
        self.core().put(request);
        self.decided.send_modify(|count| *count += 1);
        self.woken.notify_one();
        Ok(())
    }

    /// Shows a request of this node to the swarm, as it is here.
    async fn show(&self, request: &Request) -> Result<(), ApprovalError> {
        let entries = self.put(self.change(request.id, Some(request))).await?;
        self.context.ledger.tell(entries);
        Ok(())
    }

    fn change(&self, id: Uuid, value: Option<&Request>) -> Write {
        let term = self.context.ledger.term_of(&REQUESTS.key(id.as_bytes()));
        REQUESTS.write(id.as_bytes(), term, value)
    }

    /// Writes a record of the ledger. One that somebody has just written in a later term is not written, which is no success.
    async fn put(&self, write: Write) -> Result<Vec<Entry>, ApprovalError> {
        let written = self.context.ledger.note(vec![write]).await?;
        match written.fenced.is_empty() {
            true => Ok(written.entries),
            false => Err(ledger::Error::Fenced.into()),
        }
    }

    /// All requests, the oldest first.
    pub(super) fn list(&self) -> Result<Vec<Request>, ApprovalError> {
        let me = self.me();
        let mut requests: Vec<Request> = self.core().all().cloned().collect();
        let others = |request: &Request| request.owner != me;
        let listed = self.context.ledger.visit(REQUESTS, |record| requests.extend(sound(record).filter(others)));
        listed.map_err(|error| ApprovalError::Disk(error.to_string()))?;
        requests.sort_by_key(|request| (request.created_ms, request.id));
        Ok(requests)
    }

    /// One request, whosever it is.
    pub(super) fn known(&self, id: Uuid) -> Result<Request, ApprovalError> {
        let own = self.core().get(id).cloned();
        if let Some(own) = own {
            return Ok(own);
        }
        let known = self.context.ledger.get(REQUESTS, id.as_bytes()).map_err(|e| ApprovalError::Disk(e.to_string()))?;
        let theirs = known.and_then(sound).filter(|request| request.owner != self.me());
        theirs.ok_or(ApprovalError::NoSuchRequest(id))
    }

    /// Returns when the swarm's policy is known here: an earlier one is none. If nobody answers, the one on this disk counts as
    /// long as it was the swarm's once: the others may never come back.
    async fn informed(&self) -> Result<(), ApprovalError> {
        // It may be in another one since.
        let swarm = Some(self.context.swarm.swarm_id());
        let ready = *locked(&self.ready) == swarm;
        if ready {
            return Ok(());
        }
        let caught_up = self.context.ledger.caught_up().await;
        let known = *locked(&self.known) == swarm;
        if !caught_up && !known {
            return Err(ApprovalError::Unmet);
        }
        *locked(&self.ready) = swarm;
        Ok(())
    }

    /// Notes on the disk whose policy is on it.
    async fn settle(self: Arc<Self>) {
        let mut changes = self.context.members.changes();
        loop {
            let swarm = self.context.ledger.informed().await;
            let noted = *locked(&self.known) == Some(swarm);
            if !noted && let Err(error) = self.settled(swarm).await {
                tracing::warn!(%error, "that the swarm's policy is known here could not be written; it is tried again");
                sleep(RETRY_PAUSE).await;
                continue;
            }
            // Another swarm has other members.
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    async fn settled(&self, swarm: [u8; 32]) -> Result<(), store::Error> {
        let mut batch = Batch::new();
        batch.put(KNOWN, &KNOWN_KEY, &swarm)?;
        self.context.store.commit(batch).await?;
        *locked(&self.known) = Some(swarm);
        Ok(())
    }

    /// The swarm's policy.
    pub(super) fn policy(&self) -> Result<Policy, ApprovalError> {
        let ledger = &self.context.ledger;
        // Looked at first: what comes between the two is there, and not "deleted".
        let deleted = ledger.latest(&POLICY.key(POLICY_ID)).is_none_or(|(_, deleted)| deleted);
        let found = ledger.get(POLICY, POLICY_ID).map_err(|error| match error.is_damage() {
            true => ApprovalError::Unreadable,
            false => ApprovalError::Disk(error.to_string()),
        })?;
        match found {
            Some(found) => Ok(found.value),
            None if deleted => Ok(Policy::default()),
            // One that is there and says nothing here is not "no policy".
            None => Err(ApprovalError::Unreadable),
        }
    }

    /// The owner's new policy.
    pub(super) async fn set_policy(&self, policy: Policy) -> Result<Policy, ApprovalError> {
        let by = bounded(&policy.changed_by, SAID_BYTES_MAX);
        let policy = Policy { changed_ms: self.now_ms(), changed_by: by.clone(), ..policy };
        policy.check().map_err(ApprovalError::Invalid)?;
        let digest = Digest::of(&wire::encode(&policy));
        self.note(vec![What::Policy { digest, rules: policy.rules.len() as u32, by }]).await?;
        let term = self.context.ledger.term_of(&POLICY.key(POLICY_ID));
        let entries = self.put(POLICY.write(POLICY_ID, term, Some(&policy))).await?;
        self.context.ledger.confirmed(entries).await?;
        Ok(policy)
    }

    /// Puts these into the audit; returns when they are on the disk.
    async fn note(&self, whats: Vec<What>) -> Result<(), ApprovalError> {
        if whats.is_empty() {
            return Ok(());
        }
        let audit = self.context.directory.here::<audit::Message>(audit::NAME);
        audit.ask(AUDIT_TIMEOUT, |port| audit::Message::Append(Wire(whats), port)).await??;
        Ok(())
    }

    /// Ends what nobody answers in time, and removes what is kept for nobody.
    async fn watch(self: Arc<Self>, orphans: Vec<Uuid>) {
        for id in orphans {
            self.forget(id).await;
        }
        loop {
            let due_ms = self.core().wake_ms();
            let pause = due_ms.map(|due| Duration::from_millis(due.saturating_sub(self.now_ms())).max(LOOK_PAUSE));
            tokio::select! {
                () = self.woken.notified() => continue,
                () = async { match pause {
                    Some(pause) => sleep(pause).await,
                    None => std::future::pending().await,
                } } => {}
            }
            if !self.look().await {
                sleep(RETRY_PAUSE).await;
            }
        }
    }

    /// `false`: the disk did not take it.
    async fn look(&self) -> bool {
        let _pen = self.pen.lock().await;
        let overdue = self.core().overdue(self.now_ms());
        for request in overdue {
            let id = request.id;
            let why = format!("nobody answered within {} s", ANSWER_MS_MAX / 1000);
            if let Err(error) = self.end(request, (Outcome::TimedOut, "skep", Some(why))).await {
                tracing::warn!(request = %id, %error, "that nobody answered in time could not be written; it is tried again");
                return false;
            }
        }
        let forgettable = self.core().forgettable(self.now_ms());
        for id in forgettable {
            if !self.forget(id).await {
                return false;
            }
        }
        true
    }

    async fn forget(&self, id: Uuid) -> bool {
        let removed = self.remove(id).await;
        if let Err(error) = &removed {
            tracing::warn!(request = %id, %error, "a request that has ended could not be removed");
        }
        removed.is_ok()
    }

    async fn remove(&self, id: Uuid) -> Result<(), ApprovalError> {
        let entries = self.put(self.change(id, None)).await?;
        self.context.ledger.tell(entries);
        let mut batch = Batch::new();
        batch.delete(OWN, &id).map_err(ledger::Error::from)?;
        self.context.store.commit(batch).await.map_err(ledger::Error::from)?;
        self.core().forget(id);
        Ok(())
    }

    /// Keeps what the swarm is shown of this node's requests as they are here.
    async fn guard(self: Arc<Self>) {
        let feed = self.context.ledger.feed(REQUESTS);
        let mut ids: Vec<Uuid> = self.core().all().map(|request| request.id).collect();
        loop {
            for id in ids {
                let _pen = self.pen.lock().await;
                self.correct(id).await;
            }
            self.woken.notify_one();
            ids = feed.next().await.iter().filter_map(|id| Uuid::from_slice(id).ok()).collect();
        }
    }

    async fn correct(&self, id: Uuid) {
        let shown = self.context.ledger.get(REQUESTS, id.as_bytes()).ok().flatten().and_then(sound);
        if let Some(shown) = &shown {
            self.core().heard(shown);
        }
        let own = self.core().get(id).cloned();
        let Some(own) = own.filter(|own| shown.as_ref() != Some(own)) else { return };
        tracing::warn!(request = %id, "a request of this node was shown otherwise than it is: it is put right");
        if let Err(error) = self.show(&own).await {
            tracing::warn!(request = %id, %error, "it could not be put right");
        }
    }

    fn me(&self) -> NodeId {
        self.context.directory.id()
    }

    fn now_ms(&self) -> u64 {
        self.context.env.now_ms()
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        locked(&self.core)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a record says, if it lies where it belongs: nobody speaks of one request under another one's name.
fn sound(record: Record<Request>) -> Option<Request> {
    (record.id == record.value.id.as_bytes()).then_some(record.value)
}

/// How long an answer to `Judge` may take: what it waits for, and a disk that is slow with the rest.
pub(super) const JUDGE_TIMEOUT: Duration = Duration::from_secs(60);
/// The same of `Wait`.
pub(super) const WAIT_TIMEOUT: Duration = WAIT_MAX.saturating_add(ASK_TIMEOUT);

fn check(answer: &Decide) -> Result<(), ApprovalError> {
    let long = |text: &str| text.len() > SAID_BYTES_MAX;
    let mut mistakes = Vec::new();
    for (field, bad) in [("decided_by", long(&answer.by)), ("because", answer.because.as_deref().is_some_and(long))] {
        if bad {
            mistakes.push(Mistake { field: field.into(), reason: format!("may have {SAID_BYTES_MAX} bytes") });
        }
    }
    if mistakes.is_empty() { Ok(()) } else { Err(ApprovalError::Invalid(mistakes)) }
}

/// A call that waits, as listeners are told of it.
fn told(id: Uuid, call: &Call, until_ms: u64) -> event::what::Approval {
    event::what::Approval {
        id: id.to_string().into(),
        tool: call.tool.as_str().into(),
        agent_id: Some(call.who.agent.as_str()).filter(|name| !name.is_empty()).map(Into::into),
        thread_id: Some(call.who.thread.to_string().into()),
        arguments: call.args.text().into(),
        expires_ms: Some(until_ms),
        error: None,
    }
}

/// What the policy says about a call, as the audit has it.
pub(super) fn judged(
    call: &Call,
    verdict: Verdict,
    rule: Option<String>,
    reason: Option<String>,
    request: Option<Uuid>,
) -> What {
    What::Judged {
        call: call.id,
        who: Who { agent: bounded(&call.who.agent, TEXT_BYTES_MAX), ..call.who.clone() },
        tool: bounded(&call.tool, TEXT_BYTES_MAX),
        args: call.args.digest(),
        input: bounded(call.args.text(), COPY_BYTES_MAX),
        verdict,
        rule,
        reason: reason.map(|reason| bounded(&reason, TEXT_BYTES_MAX)),
        request,
    }
}

fn began(call: &Call, request: Option<Uuid>) -> What {
    What::Began {
        call: call.id,
        turn: call.who.turn,
        tool: bounded(&call.tool, TEXT_BYTES_MAX),
        args: call.args.digest(),
        request,
    }
}
