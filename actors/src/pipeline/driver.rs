//! The loop of a pipeline: orders and answers in, steps and chunks out. Decides by [`Rota`] and [`Answer`].
//!
//! It ends when a stage is lost, when it is told to, or when nobody has asked for a while; whatever then runs is
//! failed with the reason, and dropping the chain frees every shard.

use super::{
    GenerateError, Lexicon,
    answer::{Answer, Next},
    chain::Chain,
    messages::{Chunk, Finish, Session},
    outlet::Outlet,
    rota::Rota,
};
use crate::{
    Context,
    budget::{self, messages::Served},
    shard::{Step, gone},
};
use ractor::RpcReplyPort;
use skep_engine::Sampling;
use skep_runtime::{NodeId, Wire};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, mpsc},
    time::{Instant, sleep_until},
};
use uuid::Uuid;

/// How long one step may take through the whole chain: the slowest machine's largest chunk. Beyond it a stage is
/// taken for stuck.
const STEP_TIMEOUT: Duration = Duration::from_secs(300);
/// How long a pipeline stays without requests: loading again takes seconds, memory is others' meanwhile.
const IDLE_TIMEOUT: Duration = Duration::from_secs(600);

/// What the actor tells its driver.
pub(super) enum Order {
    /// A request that was accepted.
    Admit(Box<Request>),
    /// The figures of what runs.
    Sessions(RpcReplyPort<Wire<Vec<Session>>>),
    /// End.
    Stop,
}

/// An accepted request.
pub(super) struct Request {
    pub(super) id: Uuid,
    pub(super) prompt: Vec<u32>,
    pub(super) sampling: Sampling,
    /// The end of the prompt, for penalties.
    pub(super) history: Vec<u32>,
    /// Tokens of context that it may come to hold.
    pub(super) context_tokens: u32,
    pub(super) answer: Answer,
    pub(super) outlet: Outlet,
    /// Whose budget pays, and the node that has the text.
    pub(super) payer: Option<(Uuid, NodeId)>,
    pub(super) asked: Instant,
    pub(super) asked_ms: u64,
    /// Its place among those that run and wait.
    pub(super) _place: OwnedSemaphorePermit,
}

/// A request at work.
struct Running {
    id: Uuid,
    prompt_tokens: u64,
    /// Given to the chain when it begins.
    opening: Option<(Sampling, Vec<u32>)>,
    answer: Answer,
    outlet: Outlet,
    payer: Option<(Uuid, NodeId)>,
    asked: Instant,
    asked_ms: u64,
    first_token: Option<Instant>,
    _place: OwnedSemaphorePermit,
}

/// Why a driver ended.
pub(super) enum Ending {
    Told,
    Idle,
    Lost(GenerateError),
}

/// The loop's state.
pub(super) struct Driver {
    pub(super) context: Context,
    pub(super) model: String,
    pub(super) lexicon: Arc<Lexicon>,
    pub(super) chain: Chain,
    pub(super) rota: Rota<Instant>,
    pub(super) orders: mpsc::Receiver<Order>,
    /// Notified when an outlet has room again or was closed.
    pub(super) room: Arc<Notify>,
    running: BTreeMap<u64, Running>,
    sequences: u64,
    idle_since: Instant,
}

impl Driver {
    pub(super) fn new(
        context: Context,
        model: String,
        lexicon: Arc<Lexicon>,
        chain: Chain,
        rota: Rota<Instant>,
        orders: mpsc::Receiver<Order>,
        room: Arc<Notify>,
    ) -> Driver {
        let (running, idle_since) = (BTreeMap::new(), Instant::now());
        Driver { context, model, lexicon, chain, rota, orders, room, running, sequences: 0, idle_since }
    }

    /// Works until the pipeline has ended.
    pub(super) async fn run(mut self) -> Ending {
        let ending = self.work().await;
        let error = match &ending {
            Ending::Lost(error) => error.clone(),
            Ending::Told | Ending::Idle => GenerateError::Ended,
        };
        for running in std::mem::take(&mut self.running).into_values() {
            self.metered(&running);
            running.outlet.send(Chunk::Failed { error: error.clone(), completion_tokens: running.answer.tokens() });
        }
        // Those that were accepted and not yet taken: they are told too.
        self.orders.close();
        while let Some(order) = self.orders.recv().await {
            if let Order::Admit(request) = order {
                request.outlet.send(Chunk::Failed { error: error.clone(), completion_tokens: 0 });
            }
        }
        ending
    }

    async fn work(&mut self) -> Ending {
        let nodes = self.chain.nodes();
        let members = self.context.members.clone();
        let room = self.room.clone();
        loop {
            self.drop_closed();
            if !self.send_steps() {
                return Ending::Lost(self.chain.broken(&self.context).await);
            }
            let patience = match self.rota.oldest() {
                Some(since) => since + STEP_TIMEOUT,
                None => self.idle_since + IDLE_TIMEOUT,
            };
            let quiet = self.rota.is_idle() || self.rota.oldest().is_some();
            tokio::select! {
                answer = self.chain.answers.recv() => {
                    if !answer.is_some_and(|answer| self.take(answer)) {
                        return Ending::Lost(self.chain.broken(&self.context).await);
                    }
                }
                order = self.orders.recv() => match order {
                    Some(Order::Admit(request)) => self.admit(*request),
                    Some(Order::Sessions(reply)) => drop(reply.send(Wire(self.sessions()))),
                    Some(Order::Stop) | None => return Ending::Told,
                },
                () = room.notified() => {}
                node = gone(&members, &nodes) => return Ending::Lost(self.lost(node)),
                () = sleep_until(patience), if quiet => match self.rota.oldest() {
                    Some(_) => return Ending::Lost(self.chain.broken(&self.context).await),
                    None => return Ending::Idle,
                },
            }
        }
    }

    fn lost(&self, node: NodeId) -> GenerateError {
        let stage = self.chain.stages.iter().position(|(of, _)| *of == node).unwrap_or(0) as u16;
        GenerateError::StageLost { stage, node, reason: "its node is down".to_owned() }
    }

    fn admit(&mut self, request: Request) {
        self.sequences += 1;
        let sequence = self.sequences;
        let running = Running {
            id: request.id,
            prompt_tokens: request.prompt.len() as u64,
            opening: Some((request.sampling, request.history)),
            answer: request.answer,
            outlet: request.outlet,
            payer: request.payer,
            asked: request.asked,
            asked_ms: request.asked_ms,
            first_token: None,
            _place: request._place,
        };
        self.rota.admit(sequence, request.prompt, request.context_tokens);
        self.running.insert(sequence, running);
    }

    /// Begins what may begin and sends the steps that may go. `false` if the chain takes no more.
    fn send_steps(&mut self) -> bool {
        while let Some((sequence, tokens_max)) = self.rota.begin() {
            let opening = self.running.get_mut(&sequence).and_then(|running| running.opening.take());
            let (sampling, history) = opening.expect("a sequence begins once, and is known until it ends");
            if !self.send(Step::Open { sequence, tokens_max, sampling, history }, Vec::new()) {
                return false;
            }
        }
        let running = &self.running;
        let ready = |sequence: u64| running.get(&sequence).is_some_and(|running| running.outlet.has_room());
        let mut feeds = Vec::new();
        while let Some(feed) = self.rota.next(Instant::now(), ready) {
            feeds.push(feed);
        }
        feeds.into_iter().all(|feed| {
            let rows = feed.tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
            let (sequence, position, sample) = (feed.sequence, feed.position, feed.sample);
            self.send(Step::Rows { sequence, position, rows: feed.tokens.len() as u32, sample }, rows)
        })
    }

    fn send(&self, step: Step, rows: Vec<u8>) -> bool {
        self.chain.steps.try_send((step, rows)).is_ok()
    }

    /// Takes one answer of the chain. `false` if it is none that was due.
    fn take(&mut self, answer: Step) -> bool {
        match answer {
            Step::Token { sequence, token } if self.rota.answered(sequence) => {
                self.token(sequence, token);
                true
            }
            Step::Done { sequence } => self.rota.answered(sequence),
            Step::Failed { sequence, stage, reason } if self.rota.answered(sequence) => {
                if let Some(running) = self.end(sequence) {
                    let error = GenerateError::Engine(format!("stage {stage}: {reason}"));
                    running.outlet.send(Chunk::Failed { error, completion_tokens: running.answer.tokens() });
                }
                true
            }
            _ => false,
        }
    }

    fn token(&mut self, sequence: u64, token: u32) {
        // Unknown: it was cancelled while this token was on its way.
        let Some(running) = self.running.get_mut(&sequence) else { return };
        running.first_token.get_or_insert_with(Instant::now);
        let next = running.answer.push(&self.lexicon, token);
        let (text, ended) = match next {
            Next::More(text) => (text, None),
            Next::End(text, reason) => (text, Some(reason)),
        };
        if !text.is_empty() {
            running.outlet.send(Chunk::Text(text));
        }
        match ended {
            None => self.rota.feed(sequence, token),
            Some(reason) => self.finish(sequence, reason),
        }
    }

    fn finish(&mut self, sequence: u64, reason: Finish) {
        let Some(running) = self.end(sequence) else { return };
        let completion_tokens = running.answer.tokens();
        let tokens = self.context.metrics.counter("tokens_generated", "tokens that pipelines on this node generated");
        tokens.inc_by(completion_tokens);
        running.outlet.send(Chunk::End { reason, prompt_tokens: running.prompt_tokens, completion_tokens });
    }

    /// Cancels what nobody reads any more, and what its reader gave up: that one is told what it cost.
    fn drop_closed(&mut self) {
        let given_up = |running: &Running| running.outlet.is_closed() || running.outlet.is_given_up();
        let ended: Vec<u64> = self.running.iter().filter(|(_, r)| given_up(r)).map(|(s, _)| *s).collect();
        for sequence in ended {
            self.finish(sequence, Finish::Cancelled);
        }
    }

    /// Takes a sequence out everywhere: here, and on every stage.
    fn end(&mut self, sequence: u64) -> Option<Running> {
        if self.rota.end(sequence) {
            // If the chain takes no more, the next step finds that out.
            let _ = self.send(Step::Close { sequence }, Vec::new());
        }
        let running = self.running.remove(&sequence);
        if self.rota.is_idle() {
            self.idle_since = Instant::now();
        }
        running.inspect(|running| self.metered(running))
    }

    /// Tells this node's budgets what another node had of a thread: if the thread is kept here, its lease can't cost less.
    fn metered(&self, running: &Running) {
        let Some((thread, holder)) = running.payer.filter(|(_, to)| *to != self.context.directory.id()) else { return };
        // A request that had not begun has cost nothing.
        let prompt = if running.opening.is_none() { running.prompt_tokens } else { 0 };
        let served = Served { thread, holder, model: self.model.clone(), prompt, completion: running.answer.tokens() };
        let budgets = self.context.directory.here::<budget::Message>(budget::NAME);
        self.context.tasks.spawn(async move {
            let told = budgets.tell(budget::Message::Served(Wire(served))).await;
            tracing::trace!(?told, "told the budgets what was served");
        });
    }

    fn sessions(&self) -> Vec<Session> {
        let now = Instant::now();
        let session = |running: &Running| {
            let tokens = running.answer.tokens();
            // The first token is the prompt's work: the rate is that of those behind it.
            let rate = |first: Instant| tokens.saturating_sub(1) as f64 / (now - first).as_secs_f64().max(1e-3);
            Session {
                id: running.id,
                model: self.model.clone(),
                nodes: self.chain.nodes(),
                prompt_tokens: running.prompt_tokens,
                completion_tokens: tokens,
                tokens_per_second: running.first_token.map_or(0.0, rate),
                first_token_ms: running.first_token.map_or(0, |first| (first - running.asked).as_millis() as u64),
                started_ms: running.asked_ms,
            }
        };
        self.running.values().map(session).collect()
    }
}
