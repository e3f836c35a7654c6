//! The actor around a [`Driver`]: checks and tokenizes requests, answers for what it serves.

use super::{
    Chain, Generate, GenerateError, Lexicon, Message, Turn,
    answer::Answer,
    driver::{Driver, Ending, Order, Request},
    lexicon::invalid,
    messages::Accepted,
    outlet::Outlet,
    rota::{RUNNING_MAX, Rota},
};
use crate::{
    Context,
    model::messages::Served,
    shard::{HISTORY_TOKENS_MAX, ROWS_MAX},
};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SpawnErr};
use skep_engine::{SampleError, Sampling, StopFilter};
use skep_runtime::{Tasks, Wire};
use std::sync::Arc;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc},
    time::Instant,
};
use uuid::Uuid;

/// Requests that wait behind those that run: a minute's worth at chat speed. More are told that it is busy.
const WAITING_MAX: usize = 32;
/// Orders on their way to the driver: every admitted request has one, questions come on top.
const ORDERS_MAX: usize = 2 * (RUNNING_MAX + WAITING_MAX);
/// Prompts that are counted at once: each may hold a message of 1 MiB, and they share the cores with the model.
const COUNTS_MAX: usize = 32;
/// Stop texts of one request, and bytes of each: the documented API's bounds.
const STOPS_MAX: usize = 8;
const STOP_BYTES_MAX: usize = 256;

/// What a pipeline starts with.
pub(crate) struct Arguments {
    pub(crate) context: Context,
    pub(crate) id: Uuid,
    pub(crate) served: Served,
    pub(crate) lexicon: Arc<Lexicon>,
    pub(crate) chain: Chain,
    /// Tokens of the longest sequence.
    pub(crate) context_tokens: u32,
    /// Tokens of context that every stage has room for, all sequences together.
    pub(crate) cache_tokens: u64,
}

/// Starts the pipeline and publishes it.
pub(crate) async fn start(arguments: Arguments, supervisor: ActorCell) -> Result<ActorCell, SpawnErr> {
    let (directory, name) = (arguments.context.directory.clone(), super::name(arguments.id));
    Ok(directory.spawn(&name, Pipeline, arguments, Some(supervisor)).await?.get_cell())
}

struct Pipeline;

struct State {
    desk: Desk,
    served: Served,
    places: Arc<Semaphore>,
    counts: Arc<Semaphore>,
    /// Dropped with the state: the driver ends with the actor.
    _tasks: Tasks,
}

/// What admitting a request takes. Cheap to clone.
#[derive(Clone)]
struct Desk {
    context: Context,
    lexicon: Arc<Lexicon>,
    orders: mpsc::Sender<Order>,
    room: Arc<Notify>,
    context_tokens: u32,
}

impl Actor for Pipeline {
    type Msg = Message;
    type State = State;
    type Arguments = Arguments;

    async fn pre_start(&self, me: ActorRef<Message>, arguments: Arguments) -> Result<State, ActorProcessingErr> {
        let Arguments { context, served, lexicon, chain, context_tokens, cache_tokens, .. } = arguments;
        let (orders, received) = mpsc::channel(ORDERS_MAX);
        let room = Arc::new(Notify::new());
        let rota = Rota::new(chain.stages.len(), cache_tokens, ROWS_MAX);
        let model = served.model.clone();
        let driver = Driver::new(context.clone(), model, lexicon.clone(), chain, rota, received, room.clone());
        let tasks = context.env.tasks();
        tasks.spawn(async move {
            let reason = match driver.run().await {
                Ending::Told => "it was stopped".to_owned(),
                Ending::Idle => "nobody asked for a while".to_owned(),
                Ending::Lost(error) => error.to_string(),
            };
            tracing::info!(%reason, "a pipeline has ended");
            me.stop(Some(reason));
        });
        let desk = Desk { context, lexicon, orders, room, context_tokens };
        let places = Arc::new(Semaphore::new(RUNNING_MAX + WAITING_MAX));
        let counts = Arc::new(Semaphore::new(COUNTS_MAX));
        Ok(State { desk, served, places, counts, _tasks: tasks })
    }

    async fn handle(
        &self,
        me: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Generate(Wire(request), reply) => match state.places.clone().try_acquire_owned() {
                Ok(place) => {
                    let desk = state.desk.clone();
                    state.desk.context.tasks.spawn(async move { desk.generate(request, place, reply).await });
                }
                Err(_) => drop(reply.send(Wire(Err(GenerateError::Busy(WAITING_MAX))))),
            },
            Message::Count(Wire(turns), reply) => match state.counts.clone().try_acquire_owned() {
                Ok(place) => {
                    let desk = state.desk.clone();
                    state.desk.context.tasks.spawn(async move {
                        let counted = desk.prompt(turns).await.map(|tokens| tokens.len() as u64);
                        drop(place);
                        let _ = reply.send(Wire(counted));
                    });
                }
                Err(_) => drop(reply.send(Wire(Err(GenerateError::Busy(COUNTS_MAX))))),
            },
            Message::Context(reply) => drop(reply.send(Wire(u64::from(state.desk.context_tokens)))),
            Message::Sessions(reply) => drop(state.desk.orders.try_send(Order::Sessions(reply))),
            // Once the driver has ended nothing is served any more: whoever looks for a pipeline looks on.
            Message::Describe(_) if state.desk.orders.is_closed() => {}
            Message::Describe(reply) => drop(reply.send(Wire(state.served.clone()))),
            Message::Stop(reply) => {
                // The driver tells those who wait, then stops this actor.
                if state.desk.orders.try_send(Order::Stop).is_err() {
                    me.stop(Some("it was stopped".into()));
                }
                let _ = reply.send(Wire(()));
            }
        }
        Ok(())
    }
}

impl Desk {
    /// Admits a request: answers the caller, opens its stream, hands it to the driver.
    async fn generate(
        self,
        request: Generate,
        place: OwnedSemaphorePermit,
        reply: RpcReplyPort<Wire<Result<Accepted, GenerateError>>>,
    ) {
        let (asked, asked_ms) = (Instant::now(), self.context.env.now_ms());
        let (to, ticket, payer) = (request.to, request.ticket, request.thread.map(|thread| (thread, request.to)));
        let (prompt, sampling, filter, tokens_max) = match self.check(request).await {
            Ok(checked) => checked,
            Err(error) => return drop(reply.send(Wire(Err(error)))),
        };
        let id = self.context.env.id();
        if reply.send(Wire(Ok(Accepted { id, prompt_tokens: prompt.len() as u64 }))).is_err() {
            return;
        }
        // Nobody expects it any more: nothing has begun.
        let Ok(stream) = self.context.directory.open(to, ticket).await else { return };
        let outlet = Outlet::open(&self.context.tasks, stream, self.room.clone());
        let history = prompt[prompt.len().saturating_sub(HISTORY_TOKENS_MAX)..].to_vec();
        let request = Request {
            id,
            history,
            sampling,
            // The last token of the answer is never fed, so the sum is an upper bound.
            context_tokens: prompt.len() as u32 + tokens_max,
            prompt,
            answer: Answer::new(filter, u64::from(tokens_max)),
            outlet: outlet.clone(),
            payer,
            asked,
            asked_ms,
            _place: place,
        };
        if self.orders.send(Order::Admit(Box::new(request))).await.is_err() {
            outlet.send(super::Chunk::Failed { error: GenerateError::Ended, completion_tokens: 0 });
        }
    }

    /// Everything that can be wrong with a request, found before anything is spent.
    async fn check(&self, request: Generate) -> Result<(Vec<u32>, Sampling, StopFilter, u32), GenerateError> {
        if request.max_tokens == 0 {
            return Err(invalid("max_tokens", "at least 1"));
        }
        let long = |stop: &String| stop.is_empty() || stop.len() > STOP_BYTES_MAX;
        if request.stop.len() > STOPS_MAX || request.stop.iter().any(long) {
            return Err(invalid("stop", &format!("at most {STOPS_MAX} texts of 1 to {STOP_BYTES_MAX} bytes")));
        }
        let filter = StopFilter::new(request.stop).map_err(|e| invalid("stop", &e.to_string()))?;
        let sampling = Sampling {
            temperature: request.sampling.temperature,
            top_k: request.sampling.top_k,
            top_p: request.sampling.top_p,
            repetition_penalty: request.sampling.repeat_penalty,
            seed: request.sampling.seed,
            ..Sampling::default()
        };
        sampling.check().map_err(|e| match &e {
            SampleError::Parameter { name, .. } => invalid(name, &e.to_string()),
            _ => invalid("sampling", &e.to_string()),
        })?;
        let prompt = self.prompt(request.turns).await?;
        let context = u64::from(self.context_tokens);
        let room = context.checked_sub(prompt.len() as u64).filter(|room| *room > 0);
        let room = room.ok_or(GenerateError::TooLong { prompt: prompt.len() as u64, context })?;
        Ok((prompt, sampling, filter, u64::from(request.max_tokens).min(room) as u32))
    }

    async fn prompt(&self, turns: Vec<Turn>) -> Result<Vec<u32>, GenerateError> {
        let lexicon = self.lexicon.clone();
        let work = self.context.tasks.compute(move || lexicon.prompt(&turns));
        work.await.unwrap_or_else(|panicked| Err(GenerateError::Engine(panicked.to_string())))
    }
}
