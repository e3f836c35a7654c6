//! The actors that the tests call.

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use ractor_cluster_derive::RactorClusterMessage;
use skep_runtime::{Directory, Handle, NodeId, Wire};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// What a [`Clerk`] can be told and asked.
#[derive(RactorClusterMessage)]
pub(crate) enum Order {
    #[rpc]
    Say(Wire<String>, RpcReplyPort<Wire<String>>),
    Note(Wire<u32>),
    #[rpc]
    Notes(RpcReplyPort<Wire<Vec<u32>>>),
    /// Keeps the port, and never answers.
    #[rpc]
    Never(RpcReplyPort<Wire<()>>),
    /// Drops the port.
    #[rpc]
    Ignore(RpcReplyPort<Wire<()>>),
    /// Answers with so many bytes.
    #[rpc]
    Fetch(Wire<u32>, RpcReplyPort<Wire<Vec<u8>>>),
    /// Takes any bytes.
    Take(Wire<Vec<u8>>),
    /// Ends with a panic.
    #[rpc]
    Fail(RpcReplyPort<Wire<()>>),
}

/// The same names with other contents: a node of another version.
#[derive(RactorClusterMessage)]
pub(crate) enum OtherVersion {
    #[rpc]
    Say(Wire<(u64, Vec<u64>)>, RpcReplyPort<Wire<String>>),
    #[rpc]
    Sing(Wire<String>, RpcReplyPort<Wire<String>>),
}

/// Writes down what it is told, as fast as its pace has permits.
pub(crate) struct Clerk;

pub(crate) struct State {
    notes: Vec<u32>,
    kept: Vec<RpcReplyPort<Wire<()>>>,
    pace: Option<Arc<Semaphore>>,
}

impl Actor for Clerk {
    type Msg = Order;
    type State = State;
    type Arguments = Option<Arc<Semaphore>>;

    async fn pre_start(&self, _: ActorRef<Order>, pace: Option<Arc<Semaphore>>) -> Result<State, ActorProcessingErr> {
        Ok(State { notes: Vec::new(), kept: Vec::new(), pace })
    }

    async fn handle(&self, _: ActorRef<Order>, order: Order, state: &mut State) -> Result<(), ActorProcessingErr> {
        match order {
            Order::Say(Wire(text), port) => {
                let _ = port.send(Wire(format!("{text}!")));
            }
            Order::Note(Wire(note)) => {
                if let Some(pace) = &state.pace {
                    pace.acquire().await?.forget();
                }
                state.notes.push(note);
            }
            Order::Notes(port) => {
                let _ = port.send(Wire(state.notes.clone()));
            }
            Order::Never(port) => state.kept.push(port),
            Order::Ignore(_) | Order::Take(_) => {}
            Order::Fetch(Wire(bytes), port) => {
                let _ = port.send(Wire(vec![7; bytes as usize]));
            }
            Order::Fail(_) => panic!("as it was told to"),
        }
        Ok(())
    }
}

/// Starts a clerk as `name`.
pub(crate) async fn clerk(directory: &Directory, name: &str) {
    directory.spawn(name, Clerk, None, None).await.unwrap();
}

/// Starts a clerk that handles as many notes as it is given permits.
pub(crate) async fn slow_clerk(directory: &Directory, name: &str) -> Arc<Semaphore> {
    let pace = Arc::new(Semaphore::new(0));
    directory.spawn(name, Clerk, Some(pace.clone()), None).await.unwrap();
    pace
}

/// Asks for an echo.
pub(crate) async fn say(clerk: &Handle<Order>, text: &str) -> Result<String, skep_runtime::Error> {
    clerk.ask(super::node::PATIENCE, |port| Order::Say(Wire(text.into()), port)).await
}

/// The clerk `name` on `node`, from `directory`'s point of view.
pub(crate) fn at(directory: &Directory, node: NodeId, name: &str) -> Handle<Order> {
    directory.at(node, name)
}
