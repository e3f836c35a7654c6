//! The node's supervisor: starts its children in order, restarts one that fails, stops them in reverse.
//!
//! One for one, with back-off; a child that fails too often in a window takes the supervisor down with it, so
//! that the node ends with a reason instead of limping. Children are found by name in the [`Directory`]
//! afterwards, so nobody holds a reference to the dead one.
//!
//! [`Directory`]: crate::Directory

use futures::future::BoxFuture;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};
use std::{collections::VecDeque, time::Duration};
use tokio::time::Instant;

/// Failures of one child within [`RESTART_WINDOW`] before the supervisor gives up: more is a bug, not bad luck.
const RESTARTS_MAX: usize = 5;
/// The window in which failures are counted.
const RESTART_WINDOW: Duration = Duration::from_secs(60);
/// The pause before the first restart; it doubles with each further failure in the window.
const RESTART_PAUSE: Duration = Duration::from_millis(100);
/// How long a child may take to stop: it may have to flush.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Starts a child under the given supervisor; called again for each restart.
pub type Start = Box<dyn Fn(ActorCell) -> BoxFuture<'static, Result<ActorCell, SpawnErr>> + Send + Sync>;

/// The children to keep alive, in the order to start them.
pub type Children = Vec<(&'static str, Start)>;

/// Keeps a node's actors alive.
pub struct Supervisor;

/// What a supervisor can be told.
pub enum Message {
    /// Start this child again: its pause is over.
    Restart(usize),
    /// Stop all children, last started first, then itself.
    Stop(ractor::RpcReplyPort<()>),
}

impl ractor::Message for Message {}

/// The supervisor's children and their history.
pub struct State {
    children: Vec<Child>,
}

struct Child {
    name: &'static str,
    start: Start,
    cell: Option<ActorCell>,
    failures: VecDeque<Instant>,
}

impl Actor for Supervisor {
    type Msg = Message;
    type State = State;
    type Arguments = Children;

    async fn pre_start(&self, me: ActorRef<Message>, children: Children) -> Result<State, ActorProcessingErr> {
        let mut state = State { children: Vec::with_capacity(children.len()) };
        for (name, start) in children {
            let cell = start(me.get_cell()).await.map_err(|e| format!("{name} could not start: {e}"))?;
            state.children.push(Child { name, start, cell: Some(cell), failures: VecDeque::new() });
        }
        Ok(state)
    }

    async fn handle(
        &self,
        me: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Restart(i) => match (state.children[i].start)(me.get_cell()).await {
                Ok(cell) => state.children[i].cell = Some(cell),
                Err(e) => self.failed(&me, state, i, &e.to_string())?,
            },
            Message::Stop(done) => {
                // In order and one by one: ractor's own order of stopping children is a hash map's.
                for child in state.children.iter_mut().rev() {
                    if let Some(cell) = child.cell.take() {
                        let stopped = cell.stop_and_wait(Some("shutdown".into()), Some(STOP_TIMEOUT)).await;
                        if stopped.is_err() {
                            tracing::warn!(child = child.name, "did not stop in time and was killed");
                            cell.kill();
                        }
                    }
                }
                me.stop(Some("shutdown".into()));
                let _ = done.send(());
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        me: ActorRef<Message>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let (cell, why) = match event {
            SupervisionEvent::ActorFailed(cell, why) => (cell, why.to_string()),
            SupervisionEvent::ActorTerminated(cell, _, why) => (cell, why.unwrap_or_else(|| "it ended".into())),
            _ => return Ok(()),
        };
        let id = cell.get_id();
        let dead = |c: &Child| c.cell.as_ref().is_some_and(|cell| cell.get_id() == id);
        match state.children.iter().position(dead) {
            Some(i) => self.failed(&me, state, i, &why),
            None => Ok(()),
        }
    }
}

impl Supervisor {
    fn failed(&self, me: &ActorRef<Message>, state: &mut State, i: usize, why: &str) -> Result<(), ActorProcessingErr> {
        let child = &mut state.children[i];
        child.cell = None;
        let now = Instant::now();
        child.failures.retain(|at| now - *at < RESTART_WINDOW);
        child.failures.push_back(now);
        tracing::error!(child = child.name, why, failures = child.failures.len(), "an actor failed");
        if child.failures.len() > RESTARTS_MAX {
            return Err(format!("{} failed {} times within a minute: {why}", child.name, child.failures.len()).into());
        }
        let pause = RESTART_PAUSE * 2u32.pow(child.failures.len() as u32 - 1);
        me.send_after(pause, move || Message::Restart(i));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Directory, NodeId};

    /// Fails when told to.
    struct Fragile;
    enum Order {
        Fail,
        Ping(ractor::RpcReplyPort<()>),
    }
    impl ractor::Message for Order {}
    impl Actor for Fragile {
        type Msg = Order;
        type State = ();
        type Arguments = ();
        async fn pre_start(&self, _: ActorRef<Order>, (): ()) -> Result<(), ActorProcessingErr> {
            Ok(())
        }
        async fn handle(&self, _: ActorRef<Order>, order: Order, (): &mut ()) -> Result<(), ActorProcessingErr> {
            match order {
                Order::Fail => Err("told to".into()),
                Order::Ping(port) => port.send(()).map_err(Into::into),
            }
        }
    }

    fn fragile(directory: &Directory) -> Children {
        let directory = directory.clone();
        let start: Start = Box::new(move |parent| {
            let directory = directory.clone();
            Box::pin(async move { directory.spawn("fragile", Fragile, (), Some(parent)).await.map(|a| a.get_cell()) })
        });
        vec![("fragile", start)]
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_child_comes_back_under_its_name() {
        let directory = Directory::new(NodeId::from_bytes([1; 32]));
        let (supervisor, _) = Actor::spawn(None, Supervisor, fragile(&directory)).await.unwrap();
        let (first, _) = directory.local::<Order>("fragile").unwrap().unwrap();
        first.cast(Order::Fail).unwrap();
        first.wait(None).await.unwrap();
        tokio::time::sleep(RESTART_PAUSE * 2).await;
        let (second, _) = directory.local::<Order>("fragile").unwrap().unwrap();
        assert_ne!(first.get_id(), second.get_id());
        second.call(Order::Ping, None).await.unwrap();
        supervisor.call(Message::Stop, None).await.unwrap();
        assert!(directory.local::<Order>("fragile").is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_child_that_keeps_failing_takes_the_supervisor_down() {
        let directory = Directory::new(NodeId::from_bytes([1; 32]));
        let (supervisor, _) = Actor::spawn(None, Supervisor, fragile(&directory)).await.unwrap();
        for _ in 0..=RESTARTS_MAX {
            let (child, _) = directory.local::<Order>("fragile").unwrap().unwrap();
            child.cast(Order::Fail).unwrap();
            child.wait(None).await.unwrap();
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
        assert!(supervisor.get_status() == ractor::ActorStatus::Stopped);
    }
}
