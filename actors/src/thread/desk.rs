//! Where the core lies, and the hands that do what it says: the ledger is read and written here, runs are started on nodes
//! that have room.
//!
//! The core is changed under one lock that is never held over an await. Whoever writes holds the pen, takes what changed as
//! it is at that moment, and notes it: so the order in the ledger is the order of decisions.

use super::{
    NAME,
    core::{Action, Core, Look, Ready},
    keep,
    messages::{
        Exchange, Grade, Message, NewThread, Note, Order, Page, Post, Posted, Role, Said, Thread, ThreadError, Turn,
        WantedSaid,
    },
    news,
    records::{SAID, THREADS, TURNS, answer_id, said_id, said_of},
};
use crate::{
    Context,
    agent::{self, Goal, Run},
    budget::{self, Limit},
    defaults::THREAD_TOKENS,
    event::What,
    ledger::{Entry, Key, Write},
    organism::{self, Agent, FieldKind, Standing},
    ownership::Presence,
};
use ractor::RpcReplyPort;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use skep_runtime::{Handle, NodeId, Wire, defaults::ASK_TIMEOUT, member, store, tasks::Spawner};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, timeout},
};
use uuid::Uuid;

/// Bytes of a message: pages of text. What is longer is a file.
pub(super) const SAID_BYTES_MAX: usize = 32 << 10;
/// Bytes of a title.
const TITLE_BYTES_MAX: usize = 256;
/// Bytes of a comment on a grade.
const COMMENT_BYTES_MAX: usize = 4096;
/// Bytes of the name of who says something, and of what kind of message it is: each record of a thread has some of them.
const NAME_BYTES_MAX: usize = 64;
const KIND_BYTES_MAX: usize = 256;
/// How long nothing is looked at while turns are open: nodes that are gone are found this soon.
pub(super) const LOOK_PERIOD: Duration = Duration::from_secs(1);
/// The same while there are none.
const IDLE_PERIOD: Duration = Duration::from_secs(30);
/// How long a turn may take in all: three attempts of a run, each as long as a run may take.
pub(super) const TURN_TIME_MAX: Duration = Duration::from_secs(45 * 60);
/// How long a thread's owner may take: another member's word is waited for 10 s, a budget for 5, two flushes are between. Less
/// than clients wait for.
const PASS_ON_TIMEOUT: Duration = Duration::from_secs(25);
/// How long ending a run may take: the calls under way say what they cost, the budget is settled.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(30);
/// The pause before a node is told again to end a run, and for how long it is: no run lasts longer.
const CANCEL_PAUSE: Duration = Duration::from_secs(5);
const CANCEL_TIME_MAX: Duration = Duration::from_secs(15 * 60);
/// Rows that are read for one page, at most: bytes of an answer are bounded by it and a message's size.
const PAGE_BYTES_MAX: usize = 512 << 10;

/// The state of a ThreadActor, shared by its handlers and their tasks.
pub(super) struct Desk {
    pub(super) context: Context,
    pub(super) tasks: Spawner,
    core: Mutex<Core>,
    /// Who holds it writes.
    pen: tokio::sync::Mutex<()>,
    /// Something is to be written.
    changed: Notify,
    /// Something may begin.
    woken: Notify,
    /// Counts ends of turns.
    ended: watch::Sender<u64>,
    start: Instant,
    /// The swarm of which it was waited for that what others did while this node was away is known.
    waited_for: Mutex<Option<[u8; 32]>>,
}

impl Desk {
    /// Reads what there is, and starts what goes on for as long as the node runs.
    ///
    /// # Errors
    /// The ledger could not be read.
    pub(super) fn open(context: &Context, tasks: Spawner) -> Result<Arc<Desk>, store::Error> {
        let ledger = &context.ledger;
        // From here on nothing that others write is missed: `learn` reads on where this ends.
        let _ = (ledger.feed(THREADS), ledger.feed(SAID), ledger.feed(TURNS));
        let mut core = Core::new(context.directory.id());
        ledger.visit(THREADS, |record| {
            // Nothing was known before, so nothing is lost by it.
            core.learn_thread(record.value.id, Some(record.value));
        })?;
        ledger.visit(SAID, |record| core.learn_said(&record.value))?;
        // Of this node's own threads too: as long as the core knows of none of their turns, the ledger's word counts.
        ledger.visit(TURNS, |record| core.learn_turn(record.value.id, Some(record.value)))?;
        let desk = Arc::new(Desk {
            context: context.clone(),
            tasks,
            core: Mutex::new(core),
            pen: tokio::sync::Mutex::new(()),
            changed: Notify::new(),
            woken: Notify::new(),
            ended: watch::Sender::new(0),
            start: Instant::now(),
            waited_for: Mutex::default(),
        });
        desk.tasks.spawn(desk.clone().learn());
        desk.tasks.spawn(desk.clone().write());
        desk.tasks.spawn(desk.clone().watch());
        desk.tasks.spawn(desk.clone().heed());
        Ok(desk)
    }

    pub(super) fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.context.env.now_ms()
    }

    pub(super) fn uptime(&self) -> Duration {
        self.start.elapsed()
    }

    pub(super) fn budgets(&self) -> Handle<budget::Message> {
        self.context.directory.here(budget::NAME)
    }

    /// Follows what others do. Before it acts on anything of its own, it waits until it knows what they did while it was
    /// away.
    async fn learn(self: Arc<Self>) {
        let ledger = &self.context.ledger;
        let (threads, said, turns) = (ledger.feed(THREADS), ledger.feed(SAID), ledger.feed(TURNS));
        ledger.caught_up().await;
        threads.take().iter().for_each(|id| self.heard_of_thread(id));
        said.take().iter().for_each(|id| self.heard_of_said(id));
        turns.take().iter().for_each(|id| self.heard_of_turn(id));
        self.core().release();
        self.woken.notify_one();
        loop {
            tokio::select! {
                biased;
                ids = threads.next() => ids.iter().for_each(|id| self.heard_of_thread(id)),
                ids = said.next() => ids.iter().for_each(|id| self.heard_of_said(id)),
                ids = turns.next() => {
                    ids.iter().for_each(|id| self.heard_of_turn(id));
                    self.ended.send_modify(|count| *count += 1);
                }
            }
            self.woken.notify_one();
        }
    }

    fn heard_of_thread(self: &Arc<Self>, id: &[u8]) {
        let Ok(uuid) = Uuid::from_slice(id) else { return };
        match self.context.ledger.get(THREADS, id) {
            Ok(found) => {
                let action = self.core().learn_thread(uuid, found.map(|found| found.value));
                if action.is_some() {
                    // What became of its turns may have been heard before that it is another's.
                    let open = self.core().open_turns(uuid);
                    open.iter().for_each(|turn| self.heard_of_turn(turn.id.as_bytes()));
                }
                self.act(action);
            }
            Err(error) => tracing::warn!(thread = %uuid, %error, "a thread can't be read; other members have it"),
        }
    }

    fn heard_of_turn(&self, id: &[u8]) {
        let Ok(uuid) = Uuid::from_slice(id) else { return };
        match self.context.ledger.get(TURNS, id) {
            Ok(found) => self.core().learn_turn(uuid, found.map(|found| found.value)),
            Err(error) => tracing::warn!(turn = %uuid, %error, "a turn can't be read; other members have it"),
        }
    }

    fn heard_of_said(&self, id: &[u8]) {
        let Some((thread, message)) = said_of(id) else { return };
        match self.context.ledger.get(SAID, id) {
            Ok(Some(found)) => self.core().learn_said(&found.value),
            Ok(None) => self.core().forget_said(thread, message),
            Err(error) => tracing::warn!(%thread, %error, "a message can't be read; other members have it"),
        }
    }

    /// Looks again and again at what can begin and at who is gone.
    async fn watch(self: Arc<Self>) {
        loop {
            self.look();
            let pause = if self.core().busy() { LOOK_PERIOD } else { IDLE_PERIOD };
            tokio::select! {
                biased;
                () = self.woken.notified() => {}
                () = sleep(pause) => {}
            }
        }
    }

    pub(super) fn wake(&self) {
        self.woken.notify_one();
    }

    fn look(self: &Arc<Self>) {
        let picture = self.context.members.now();
        let peers: Vec<Presence> = picture.values().map(|member| Presence::from(&**member)).collect();
        let places: Vec<_> = self.context.members.up().iter().map(|member| (member.id, member.load)).collect();
        let ready = |name: &str| self.ready(name);
        let fresh = || self.context.env.id();
        let look = Look {
            now_ms: self.now_ms(),
            uptime: self.uptime(),
            peers: &peers,
            places: &places,
            ready: &ready,
            fresh: &fresh,
        };
        let actions = {
            let mut core = self.core();
            let mut actions = core.tick(&look);
            actions.extend(core.given_up());
            actions
        };
        self.changed();
        self.act(actions);
    }

    /// Something is to be written, and a turn may have ended.
    pub(super) fn changed(&self) {
        self.changed.notify_one();
        self.ended.send_modify(|count| *count += 1);
    }

    fn ready(&self, name: &str) -> Ready {
        if name == organism::GOAL {
            return Ready::Yes(u32::MAX);
        }
        let found = || {
            let known = self.agent(name)?.is_some();
            Ok::<_, store::Error>((
                known,
                organism::standing(&self.context.ledger, name)?,
                organism::frame(&self.context.ledger)?,
            ))
        };
        match found() {
            Ok((false, ..)) => Ready::Gone,
            Ok((true, Standing::Ready, frame)) => Ready::Yes(frame.at_once),
            Ok((true, ..)) => Ready::Paused,
            Err(error) => {
                tracing::warn!(agent = name, %error, "an agent's definition can't be read");
                Ready::Paused
            }
        }
    }

    pub(super) fn agent(&self, name: &str) -> Result<Option<Agent>, store::Error> {
        organism::agent(&self.context.ledger, name)
    }

    pub(super) fn act(self: &Arc<Self>, actions: impl IntoIterator<Item = Action>) {
        for action in actions {
            let desk = self.clone();
            match action {
                Action::Start(turn) => self.tasks.spawn(async move { desk.start(turn).await }),
                Action::Look(turn, run, node) => self.tasks.spawn(async move { desk.ask_after(turn, run, node).await }),
                Action::Cancel(run, node) => self.tasks.spawn(async move { desk.cancel(run, node).await }),
                Action::Inherit(thread) => self.tasks.spawn(async move { desk.inherit(thread).await }),
                Action::Follow(thread, owner) => self.tasks.spawn(async move {
                    let moved = Wire((thread, owner));
                    let told = desk.budgets().ask(ASK_TIMEOUT, |reply| budget::Message::Follow(moved, reply)).await;
                    tracing::debug!(%thread, ok = told.is_ok(), "a thread is another node's now");
                }),
            }
        }
    }

    async fn cancel(&self, run: Uuid, node: NodeId) {
        let agents = self.context.directory.at::<agent::Message>(node, agent::NAME);
        let told = async {
            while agents.ask(CANCEL_TIMEOUT, |reply| agent::Message::Cancel(Wire(run), reply)).await.is_err()
                && self.context.members.get(&node).is_some()
            {
                sleep(CANCEL_PAUSE).await;
            }
        };
        let ok = timeout(CANCEL_TIME_MAX, told).await.is_ok();
        tracing::debug!(%run, ok, "a run that nobody waits for is ended");
    }

    /// How a turn's run stands, as it says itself or was asked.
    pub(super) async fn moved(self: &Arc<Self>, run: Run) -> Result<(), ThreadError> {
        let thread = run.thread;
        if run.state.ended() {
            self.count(thread).await;
        }
        let (now_ms, uptime) = (self.now_ms(), self.uptime());
        let saved = {
            let cost = self.cost(&run);
            // A turn's end and its answer are written together, or an heir would find the one without the other.
            let _pen = self.pen.lock().await;
            let moved = {
                let mut core = self.core();
                let moved = core.moved(&run, now_ms, uptime);
                core.cost(&run, cost);
                moved
            };
            let Some(said) = moved else {
                let (stale, owned) = {
                    let core = self.core();
                    (core.stale(&run), core.owns(thread))
                };
                self.act(stale);
                // Whoever keeps it has to hear of it.
                return if owned { Ok(()) } else { Err(ThreadError::Moving(thread)) };
            };
            if let Some(said) = said.filter(|said| !self.is_answered(said)) {
                self.core().answered(said);
            }
            self.note_held(Vec::new()).await
        };
        let noted = saved.map(|entries| self.context.ledger.tell(entries));
        // The core has it until the disk takes it.
        if let Err(error) = &noted {
            tracing::warn!(%error, %thread, "how a turn goes can't be written; it is tried again");
        }
        if run.state.ended() {
            self.tell_of(thread);
        }
        self.changed();
        self.wake();
        noted
    }

    /// Whether a turn has its answer: of an owner that died before it could tell of the turn's end.
    fn is_answered(&self, answer: &Said) -> bool {
        // One that can't be read is none.
        matches!(self.said_at(answer.thread, answer.id), Ok(Some(_)))
    }

    /// What was said with a turn.
    pub(super) fn exchange(&self, id: Uuid) -> Result<Exchange, ThreadError> {
        let turn = self.turn(id)?;
        let unwritten = self.core().unwritten(id);
        let answered = match unwritten {
            Some(said) => Some(said),
            None => self.said_at(turn.thread, answer_id(id))?,
        };
        Ok(Exchange { asked: self.said_at(turn.thread, turn.message)?, answered })
    }

    /// Tells listeners how a thread stands.
    fn tell_of(&self, id: Uuid) {
        let known = self.core().thread(id).cloned();
        if let Ok(thread) = known {
            self.context.events.publish(|| What::ThreadUpdated(news::thread(&thread)));
        }
    }

    /// Writes what changes. Nobody waits for other members to have it.
    async fn write(self: Arc<Self>) {
        loop {
            self.changed.notified().await;
            if let Err(error) = self.save(Vec::new()).await {
                tracing::warn!(%error, "what threads came to could not be saved; it is tried again");
                sleep(LOOK_PERIOD).await;
                self.changed.notify_one();
            }
        }
    }

    /// Writes these and whatever has changed, as it is now, on this disk, and tells the others.
    async fn save(&self, writes: Vec<Write>) -> Result<(), ThreadError> {
        let entries = self.note(writes).await?;
        self.context.ledger.tell(entries);
        Ok(())
    }

    /// The same, and tells nobody yet.
    async fn note(&self, writes: Vec<Write>) -> Result<Vec<Entry>, ThreadError> {
        let _pen = self.pen.lock().await;
        self.note_held(writes).await
    }

    /// The same, for who holds the pen.
    async fn note_held(&self, mut writes: Vec<Write>) -> Result<Vec<Entry>, ThreadError> {
        let wanted: Vec<_> = writes.iter().map(|write| write.key.clone()).collect();
        let (threads, turns, said) = {
            let mut core = self.core();
            let (threads, turns, said) = core.unsaved();
            writes
                .extend(threads.iter().map(|thread| THREADS.write(thread.id.as_bytes(), thread.term.0, Some(thread))));
            writes.extend(turns.iter().map(|turn| TURNS.write(turn.id.as_bytes(), core.term(turn.thread), Some(turn))));
            writes.extend(said.iter().map(|said| said_in(core.term(said.thread), said)));
            (threads, turns, said)
        };
        match self.context.ledger.note(writes).await {
            Ok(written) => {
                let mut core = self.core();
                core.saved(&turns, &said);
                let theirs = |key: &Key| written.fenced.contains(key);
                let told = |said: &&Said| !theirs(&SAID.key(&said_id(said.thread, said.id)));
                for said in said.iter().filter(told) {
                    core.learn_said(said);
                    self.context.events.publish(|| What::Message(news::message(said)));
                }
                for thread in threads.iter().filter(|thread| theirs(&THREADS.key(thread.id.as_bytes()))) {
                    core.fenced(thread.id);
                }
                for turn in turns.iter().filter(|turn| theirs(&TURNS.key(turn.id.as_bytes()))) {
                    core.fenced(turn.thread);
                }
                drop(core);
                // A goal's thread is over with it.
                for turn in turns.iter().filter(|turn| turn.goal.is_some() && turn.state.ended()) {
                    self.tasks.spawn(keep::settle(self.budgets(), turn.thread));
                }
                self.ended.send_modify(|count| *count += 1);
                match wanted.iter().find(|key| theirs(key)).and_then(|key| said_of(&key.id)) {
                    Some((thread, _)) => Err(ThreadError::Moving(thread)),
                    None => Ok(written.entries),
                }
            }
            Err(error) => {
                self.core().save_again(&threads, &turns);
                Err(error.into())
            }
        }
    }

    /// Writes these and whatever has changed, here and on another member, if one answers.
    pub(super) async fn put(&self, writes: Vec<Write>) -> Result<(), ThreadError> {
        let entries = self.note(writes).await?;
        Ok(self.context.ledger.confirmed(entries).await?)
    }

    /// The same of what was decided about a thread, which another node may have taken over meanwhile.
    pub(super) async fn put_thread(&self, id: Uuid) -> Result<(), ThreadError> {
        self.put(Vec::new()).await?;
        if self.core().term(id) == 0 { Err(ThreadError::Moving(id)) } else { Ok(()) }
    }

    /// Waits until it is known what others did while this node was away: once for each swarm that it comes into, for those that
    /// know it may be away for long.
    async fn catch_up(&self) {
        let swarm = Some(self.context.swarm.swarm_id());
        let known = || self.waited_for.lock().unwrap_or_else(PoisonError::into_inner);
        if *known() != swarm {
            self.context.ledger.caught_up().await;
            *known() = swarm;
        }
    }

    /// Whose a thread is: `None` if it is this node's, which it becomes if its owner is gone.
    async fn owner(&self, id: Uuid, forwarded: bool) -> Result<Option<NodeId>, ThreadError> {
        self.catch_up().await;
        let (owner, me) = (self.core().thread(id)?.owner, self.context.directory.id());
        if owner == me {
            return Ok(None);
        }
        let up = self.context.members.get(&owner).is_some_and(|member| member.state == member::State::Up);
        match (up, forwarded) {
            (true, true) => Err(ThreadError::Moving(id)),
            (true, false) => Ok(Some(owner)),
            (false, _) => {
                // Not under the lock: who takes it over keeps its budget before anything is spent of it.
                let adopted = self.core().adopt(id);
                if adopted.is_some() {
                    self.inherit(id).await;
                }
                Ok(None)
            }
        }
    }

    /// Has a thread's owner do it.
    async fn pass_on<T, R>(
        &self,
        owner: NodeId,
        what: T,
        make: impl FnOnce(Wire<Order<T>>, RpcReplyPort<Wire<Result<R, ThreadError>>>) -> Message + Send,
    ) -> Result<R, ThreadError>
    where
        T: Serialize + DeserializeOwned + Send,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        let threads = self.context.directory.at::<Message>(owner, NAME);
        let order = Wire(Order { what, forwarded: true });
        threads.ask(PASS_ON_TIMEOUT, |reply| make(order, reply)).await?
    }

    /// Begins a thread here.
    pub(super) async fn begin(&self, new: NewThread) -> Result<Thread, ThreadError> {
        if self.agent(&new.agent)?.is_none() {
            return Err(ThreadError::NoSuchAgent(agent::bounded(&new.agent, 64)));
        }
        self.begin_as(self.context.env.id(), new).await
    }

    /// The same under this id, whoever answers in it.
    pub(super) async fn begin_as(&self, id: Uuid, new: NewThread) -> Result<Thread, ThreadError> {
        if let Some(title) = &new.title {
            check_title(title)?;
        }
        if new.model.as_ref().is_some_and(|model| model.is_empty() || model.len() > 256) {
            return invalid("model", "has 1 to 256 bytes");
        }
        if new.budget == Some(0) {
            return invalid("budget", "is at least 1 token");
        }
        self.make_room().await?;
        let frame = organism::frame(&self.context.ledger)?;
        let tokens = new.budget.or(frame.thread_tokens).unwrap_or(THREAD_TOKENS);
        let charged = self.fund(id, Limit { tokens, cost: new.budget_cost }).await?;
        let opened = self.core().open(id, new, (tokens, charged), self.now_ms());
        if let Ok(thread) = &opened {
            self.context.events.publish(|| What::ThreadCreated(news::thread(thread)));
        }
        if opened.is_err() {
            self.settle(id).await;
        }
        opened
    }

    /// The same, acknowledged.
    pub(super) async fn open_thread(&self, new: NewThread) -> Result<Thread, ThreadError> {
        let thread = self.begin(new).await?;
        if let Err(error) = self.put(Vec::new()).await {
            self.discard(thread.id).await;
            return Err(error);
        }
        Ok(thread)
    }

    /// Forgets the oldest thread that is over, if there are as many as may be.
    async fn make_room(&self) -> Result<(), ThreadError> {
        let entries = {
            // With the pen, so that nothing is posted in it meanwhile.
            let _pen = self.pen.lock().await;
            let oldest = self.core().to_forget(|owner| self.context.members.get(&owner).is_none());
            let Some(oldest) = oldest else { return Ok(()) };
            self.remove_held(oldest).await?
        };
        Ok(self.context.ledger.confirmed(entries).await?)
    }

    /// Forgets a thread that nobody was promised.
    pub(super) async fn discard(&self, id: Uuid) {
        self.settle(id).await;
        if let Err(error) = self.remove(id).await {
            tracing::warn!(thread = %id, %error, "a thread that nobody was promised could not be removed");
        }
    }

    /// Says something that is to be answered.
    pub(super) async fn post(&self, order: Order<Post>) -> Result<Posted, ThreadError> {
        let Order { what: post, forwarded } = order;
        let payload = check_payload(&post.payload)?;
        if post.from.len() > NAME_BYTES_MAX {
            return invalid("from", format!("has {NAME_BYTES_MAX} bytes at most"));
        }
        let begun = match post.thread {
            Some(id) => {
                if let Some(owner) = self.owner(id, forwarded).await? {
                    return self.pass_on(owner, post, Message::Post).await;
                }
                None
            }
            None => {
                let new = NewThread {
                    agent: post.to.clone().unwrap_or_else(|| organism::MAIN.into()),
                    origin: post.origin,
                    title: None,
                    model: None,
                    budget: post.budget,
                    budget_cost: None,
                };
                // Before a thread is begun for it.
                self.receiver(&new.agent, &payload)?;
                Some(self.begin(new).await?.id)
            }
        };
        let id = begun.or(post.thread).expect("one of the two is there");
        let posted = self.posted(id, post, payload).await;
        if let (Some(begun), Err(_)) = (begun, &posted) {
            self.discard(begun).await;
        }
        posted
    }

    async fn posted(&self, id: Uuid, post: Post, payload: Value) -> Result<Posted, ThreadError> {
        let name = post.to.unwrap_or(self.core().thread(id)?.agent.clone());
        let agent = self.receiver(&name, &payload)?;
        let (message, turn) = (self.context.env.id(), self.context.env.id());
        let kind = agent::bounded(&post.kind.unwrap_or(agent.payload), KIND_BYTES_MAX);
        let said = Said {
            id: message,
            thread: id,
            number: 0,
            from: post.from,
            to: name,
            role: Role::User,
            kind,
            payload: post.payload,
            turn: Some(turn),
            created_ms: self.now_ms(),
        };
        self.put_turn(said, turn, None, post.only_idle, None).await?;
        Ok(Posted { thread: id, message, turn })
    }

    /// Writes a message and its turn down, acknowledged; `only_idle`: if all turns of the thread have ended.
    pub(super) async fn put_turn(
        &self,
        said: Said,
        id: Uuid,
        within: Option<Uuid>,
        only_idle: bool,
        goal: Option<Box<Goal>>,
    ) -> Result<(), ThreadError> {
        let thread = said.thread;
        let turn = Turn { within, goal, ..Turn::of(&said, id) };
        let (noted, said, turn) = {
            // Together: a turn without its message could not be answered.
            let _pen = self.pen.lock().await;
            let (said, turn) = self.core().post(said, turn, only_idle)?;
            (self.note_held(vec![self.in_term(&said)]).await, said, turn)
        };
        let written = match noted {
            Ok(entries) => self.context.ledger.confirmed(entries).await.map_err(ThreadError::from),
            Err(error) => Err(error),
        };
        if written.is_err() {
            self.core().retract(thread, Some(turn.id));
            self.take_back(&said, Some(turn.id)).await;
        }
        written?;
        {
            let mut core = self.core();
            core.confirmed(turn.id);
            core.learn_said(&said);
        }
        self.context.events.publish(|| What::Message(news::message(&said)));
        self.tell_of(thread);
        self.wake();
        Ok(())
    }

    /// Nobody was promised it, so nobody shall find it.
    async fn take_back(&self, said: &Said, turn: Option<Uuid>) {
        let term = self.core().term(said.thread);
        let mut writes = vec![SAID.write(&said_id(said.thread, said.id), term, None)];
        writes.extend(turn.map(|turn| TURNS.write(turn.as_bytes(), term, None)));
        if let Err(error) = self.save(writes).await {
            tracing::warn!(thread = %said.thread, %error, "a message that nobody was promised could not be removed");
        }
    }

    pub(super) fn in_term(&self, said: &Said) -> Write {
        said_in(self.core().term(said.thread), said)
    }

    /// The agent of this name, if it takes this.
    pub(super) fn receiver(&self, name: &str, payload: &Value) -> Result<Agent, ThreadError> {
        let agent = self.agent(name)?.ok_or_else(|| ThreadError::NoSuchAgent(agent::bounded(name, 64)))?;
        if organism::standing(&self.context.ledger, name)? == Standing::Stopped {
            return Err(ThreadError::Stopped(name.to_owned()));
        }
        check_fields(&agent, payload)?;
        Ok(agent)
    }

    /// Writes something down that nobody is to answer.
    pub(super) async fn write_down(&self, order: Order<Note>) -> Result<Uuid, ThreadError> {
        let Order { what: note, forwarded } = order;
        check_words(&note.content)?;
        if let Some(owner) = self.owner(note.thread, forwarded).await? {
            return self.pass_on(owner, note, Message::Note).await;
        }
        let agent = self.core().thread(note.thread)?.agent.clone();
        let (from, to) = match note.role {
            Role::User | Role::System => ("user".to_owned(), agent),
            Role::Assistant => (agent, "user".to_owned()),
        };
        let payload = serde_json::json!({ "content": note.content }).to_string();
        let id = self.context.env.id();
        let said = Said {
            id,
            thread: note.thread,
            number: 0,
            from,
            to,
            role: note.role,
            kind: "Note".into(),
            payload,
            turn: None,
            created_ms: self.now_ms(),
        };
        let said = self.core().say(note.thread, said)?;
        let written = self.put(vec![self.in_term(&said)]).await;
        if written.is_err() {
            self.core().retract(note.thread, None);
            self.take_back(&said, None).await;
        }
        written?;
        self.core().learn_said(&said);
        Ok(id)
    }

    /// A turn, once it has ended.
    pub(super) async fn awaited(&self, id: Uuid) -> Result<Turn, ThreadError> {
        let mut ended = self.ended.subscribe();
        let over = async {
            loop {
                ended.borrow_and_update();
                let turn = self.turn(id)?;
                // Whoever hears of its end finds its answer.
                if turn.state.ended() && self.core().unwritten(id).is_none() {
                    return Ok(turn);
                }
                // The desk lives as long as this does.
                let _ = ended.changed().await;
            }
        };
        timeout(TURN_TIME_MAX, over).await.unwrap_or(Err(ThreadError::Link(skep_runtime::Error::Timeout)))
    }

    /// A turn, as this node knows it.
    pub(super) fn turn(&self, id: Uuid) -> Result<Turn, ThreadError> {
        if let Some(turn) = self.core().turn(id) {
            return Ok(turn.clone());
        }
        let found = self.context.ledger.get(TURNS, id.as_bytes())?;
        found.map(|found| found.value).ok_or(ThreadError::NoSuchTurn(id))
    }

    /// The turns of a thread, without their steps.
    pub(super) fn turns(&self, thread: Uuid) -> Result<Vec<Turn>, ThreadError> {
        let mut turns = Vec::new();
        for message in self.messages_of(thread)? {
            if let Some(Said { turn: Some(turn), role: Role::User, .. }) = self.said_at(thread, message)?
                && let Ok(turn) = self.turn(turn)
            {
                turns.push(Turn { steps: Vec::new(), ..turn });
            }
        }
        Ok(turns)
    }

    /// One message.
    pub(super) fn said_at(&self, thread: Uuid, message: Uuid) -> Result<Option<Said>, ThreadError> {
        Ok(self.context.ledger.get(SAID, &said_id(thread, message))?.map(|found| found.value))
    }

    /// The messages of a thread, in their order.
    fn messages_of(&self, thread: Uuid) -> Result<Vec<Uuid>, ThreadError> {
        let core = self.core();
        core.thread(thread)?;
        Ok(core.said(thread).into_iter().map(|(_, message)| message).collect())
    }

    /// Those of them that are from or to an agent: they are read, as few ask for one agent's.
    fn messages_with(&self, thread: Uuid, agent: &str) -> Result<Vec<Uuid>, ThreadError> {
        let mut of_it = Vec::new();
        for message in self.messages_of(thread)? {
            let said = self.said_at(thread, message)?;
            of_it.extend(said.filter(|said| said.from == agent || said.to == agent).map(|said| said.id));
        }
        Ok(of_it)
    }

    /// Messages, as this node knows them.
    pub(super) fn said(&self, wanted: &WantedSaid) -> Result<Page<Said>, ThreadError> {
        let (offset, limit) = (wanted.offset as usize, wanted.limit as usize);
        let (keys, total): (Vec<(Uuid, Uuid)>, u64) = match wanted.thread {
            None => self.core().recent(wanted.agent.as_deref(), offset, limit),
            Some(thread) => {
                let mut messages = match &wanted.agent {
                    Some(agent) => self.messages_with(thread, agent)?,
                    None => self.messages_of(thread)?,
                };
                if !wanted.oldest_first {
                    messages.reverse();
                }
                let total = messages.len() as u64;
                (messages.into_iter().skip(offset).take(limit).map(|message| (thread, message)).collect(), total)
            }
        };
        let (mut items, mut bytes) = (Vec::new(), 0);
        for (thread, message) in keys {
            if let Some(said) = self.said_at(thread, message)? {
                bytes += said.payload.len();
                if bytes > PAGE_BYTES_MAX {
                    break;
                }
                items.push(said);
            }
        }
        Ok(Page { items, total })
    }

    /// Grades a turn.
    pub(super) async fn grade(&self, order: Order<Grade>) -> Result<Turn, ThreadError> {
        let Order { what: grade, forwarded } = order;
        if !(1..=5).contains(&grade.grade) {
            return invalid("grade", "is from 1 to 5");
        }
        if grade.comment.as_ref().is_some_and(|comment| comment.len() > COMMENT_BYTES_MAX) {
            return invalid("comment", format!("has {COMMENT_BYTES_MAX} bytes at most"));
        }
        let turn = self.turn(grade.turn)?;
        if let Some(owner) = self.owner(turn.thread, forwarded).await? {
            return self.pass_on(owner, grade, Message::Grade).await;
        }
        if !turn.state.ended() {
            return Err(ThreadError::Busy(turn.thread));
        }
        let turn = Core::graded(turn, grade.grade, grade.comment, grade.again, self.now_ms())?;
        let term = self.core().term(turn.thread);
        self.put(vec![TURNS.write(turn.id.as_bytes(), term, Some(&turn))]).await?;
        Ok(turn)
    }

    /// Gives a thread another title.
    pub(super) async fn rename(&self, order: Order<(Uuid, String)>) -> Result<Thread, ThreadError> {
        let Order { what: (id, title), forwarded } = order;
        check_title(&title)?;
        if let Some(owner) = self.owner(id, forwarded).await? {
            return self.pass_on(owner, (id, title), Message::Rename).await;
        }
        self.core().rename(id, title);
        self.put_thread(id).await?;
        self.core().thread(id).cloned()
    }

    /// Ends a thread.
    pub(super) async fn kill(self: &Arc<Self>, order: Order<Uuid>) -> Result<Thread, ThreadError> {
        let Order { what: id, forwarded } = order;
        if let Some(owner) = self.owner(id, forwarded).await? {
            return self.pass_on(owner, id, Message::Kill).await;
        }
        let actions = self.core().kill(id, self.now_ms())?;
        // What runs is ended whether or not others hear of it.
        self.act(actions);
        let written = self.put_thread(id).await;
        self.settle(id).await;
        self.tell_of(id);
        self.changed();
        written?;
        self.core().thread(id).cloned()
    }

    /// Ends a thread and forgets all of it.
    pub(super) async fn forget(self: &Arc<Self>, order: Order<Uuid>) -> Result<(), ThreadError> {
        let Order { what: id, forwarded } = order;
        if let Some(owner) = self.owner(id, forwarded).await? {
            return self.pass_on(owner, id, Message::Forget).await;
        }
        self.kill(Order { what: id, forwarded: true }).await?;
        self.remove(id).await
    }

    /// Removes all records of a thread, in the last of all terms.
    async fn remove(&self, id: Uuid) -> Result<(), ThreadError> {
        let entries = {
            let _pen = self.pen.lock().await;
            self.remove_held(id).await?
        };
        Ok(self.context.ledger.confirmed(entries).await?)
    }

    /// The same on this disk, for who holds the pen. It is forgotten here once it is not on the disk any more.
    async fn remove_held(&self, id: Uuid) -> Result<Vec<Entry>, ThreadError> {
        let mut writes = vec![THREADS.write(id.as_bytes(), u64::MAX, None)];
        for message in self.messages_of(id)? {
            if let Some(said) = self.said_at(id, message)? {
                writes.extend(said.turn.map(|turn| TURNS.write(turn.as_bytes(), u64::MAX, None)));
                writes.push(SAID.write(&said_id(id, message), u64::MAX, None));
            }
        }
        // Or its record would be written beside its deletion.
        self.core().let_go(id);
        let noted = self.note_held(writes).await;
        match noted {
            Ok(_) => drop(self.core().learn_thread(id, None)),
            Err(_) => self.core().keep(id),
        }
        noted
    }
}

/// A message as it is written in an owner's term.
fn said_in(term: u64, said: &Said) -> Write {
    SAID.write(&said_id(said.thread, said.id), term, Some(said))
}

fn invalid<T>(field: &str, reason: impl Into<String>) -> Result<T, ThreadError> {
    Err(ThreadError::Invalid { field: field.into(), reason: reason.into() })
}

fn check_title(title: &str) -> Result<(), ThreadError> {
    match title.trim().is_empty() || title.len() > TITLE_BYTES_MAX || title.chars().any(char::is_control) {
        true => invalid("title", format!("is one line of 1 to {TITLE_BYTES_MAX} bytes")),
        false => Ok(()),
    }
}

fn check_words(words: &str) -> Result<(), ThreadError> {
    if words.len() > SAID_BYTES_MAX {
        return Err(ThreadError::TooLarge { bytes: words.len(), max: SAID_BYTES_MAX });
    }
    if words.trim().is_empty() { invalid("content", "is empty") } else { Ok(()) }
}

/// A message's payload: a JSON object that says something.
fn check_payload(text: &str) -> Result<Value, ThreadError> {
    if text.len() > SAID_BYTES_MAX {
        return Err(ThreadError::TooLarge { bytes: text.len(), max: SAID_BYTES_MAX });
    }
    match serde_json::from_str::<Value>(text) {
        Ok(value @ Value::Object(_)) => {
            if let Some(content) = value.get("content").and_then(Value::as_str) {
                check_words(content)?;
            }
            Ok(value)
        }
        _ => invalid("payload", "is a JSON object"),
    }
}

/// Whether a payload has what its agent's definition says, at its top or under the one name of its kind.
fn check_fields(agent: &Agent, payload: &Value) -> Result<(), ThreadError> {
    if agent.fields.is_empty() || payload.get("content").is_some() {
        // Words in place of fields: a person's or another agent's.
        return Ok(());
    }
    let fields = payload.get(&agent.payload).filter(|inner| inner.is_object()).unwrap_or(payload);
    for field in &agent.fields {
        let name = format!("payload.{}", field.name);
        let fits = match (fields.get(&field.name).filter(|value| !value.is_null()), field.kind) {
            (None, _) if field.optional => true,
            (None, _) => return invalid(&name, format!("is missing: {} takes it", agent.name)),
            (Some(value), FieldKind::Text) => value.is_string(),
            (Some(value), FieldKind::Number) => value.is_number(),
            (Some(value), FieldKind::Boolean) => value.is_boolean(),
        };
        if !fits {
            return invalid(&name, format!("is a {}", field.kind.word()));
        }
    }
    Ok(())
}
