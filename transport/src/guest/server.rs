//! `ractor_cluster`'s server with a host's eyes: it learns the port, counts guests, and hears of what they publish.
//!
//! It does nothing by itself that the server does: every message is passed on to it, connections through a screen.

use super::{
    Cookie,
    gateway::{self, Gateway},
    published::Published,
    screen::Screened,
};
use crate::defaults::{GUEST_FRAME_BYTES_MAX, GUEST_HANDSHAKE_TIMEOUT, GUESTS_MAX};
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent, rpc::CallResult};
use ractor_cluster::{
    NetworkStream, NodeEventSubscription, NodeServer, NodeServerMessage, NodeSessionMessage,
    node::{NodeConnectionMode, NodeServerSessionInformation, NodeServerState},
};
use skep_runtime::{Directory, Members, NodeId, defaults::ASK_TIMEOUT, tasks::Spawner};
use std::{collections::BTreeSet, net::SocketAddr};
use tokio::sync::{oneshot, watch};

/// The server of one door.
pub(super) struct Server(NodeServer);

/// What it needs of its node.
pub(super) struct Setup {
    pub(super) directory: Directory,
    pub(super) members: Members,
    pub(super) spawner: Spawner,
    pub(super) names: watch::Sender<BTreeSet<String>>,
    /// Where to say which port the system chose; not used when a port was asked for.
    pub(super) told: oneshot::Sender<u16>,
}

pub(super) struct State {
    inner: NodeServerState,
    told: Option<oneshot::Sender<u16>>,
    published: Published,
    /// The gateway's number, the only one that guests may call.
    gateway: u64,
    /// Children that are no guests: the listener and the gateway.
    own_children: usize,
}

impl Server {
    pub(super) fn new(cookie: &Cookie, id: NodeId, at: SocketAddr) -> Server {
        // The node's and the host's name must differ between two nodes: ractor takes equal ones for itself.
        let (name, isolated) = (id.to_string(), Some(NodeConnectionMode::Isolated));
        let server = NodeServer::new(at.port(), cookie.reveal().into(), name.clone(), name, None, isolated);
        Server(server.with_listen_addr(at.ip()).with_max_inbound_frame_size(GUEST_FRAME_BYTES_MAX))
    }
}

impl Actor for Server {
    type Msg = NodeServerMessage;
    type State = State;
    type Arguments = Setup;

    async fn pre_start(&self, me: ActorRef<NodeServerMessage>, setup: Setup) -> Result<State, ActorProcessingErr> {
        let Setup { directory, members, spawner, names, told } = setup;
        // Before the listener can send anything: no session opens unseen.
        let subscription = Box::new(Bouncer(spawner.clone()));
        me.cast(NodeServerMessage::SubscribeToEvents { id: "door".into(), subscription })?;
        let inner = self.0.pre_start(me.clone(), ()).await?;
        let gateway = gateway::Setup { directory: directory.clone(), members, spawner: spawner.clone() };
        let (gateway, _) = Actor::spawn_linked(None, Gateway, gateway, me.get_cell()).await?;
        let published = Published::watch(me.get_cell(), directory, spawner, names);
        let (gateway, own_children) = (gateway.get_id().pid(), me.get_cell().get_children().len());
        Ok(State { inner, told: Some(told), published, gateway, own_children })
    }

    async fn handle(
        &self,
        me: ActorRef<NodeServerMessage>,
        message: NodeServerMessage,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match &message {
            NodeServerMessage::PortChanged { port } => {
                // Nobody waits for it when the listener was started anew.
                let _ = state.told.take().map(|told| told.send(*port));
            }
            NodeServerMessage::ConnectionOpened { .. }
                if me.get_cell().get_children().len() >= state.own_children + GUESTS_MAX =>
            {
                tracing::warn!(max = GUESTS_MAX, "a guest was turned away: too many are attached");
                return Ok(());
            }
            _ => {}
        }
        self.0.handle(me, screened(message, state.gateway), &mut state.inner).await
    }

    async fn handle_supervisor_evt(
        &self,
        me: ActorRef<NodeServerMessage>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ProcessGroupChanged(change) => {
                state.published.changed(change).await;
                Ok(())
            }
            other => self.0.handle_supervisor_evt(me, other, &mut state.inner).await,
        }
    }
}

/// The same, but that a connection is looked through.
fn screened(message: NodeServerMessage, gateway: u64) -> NodeServerMessage {
    match message {
        NodeServerMessage::ConnectionOpened { stream, is_server } => match *stream {
            NetworkStream::Raw { peer_addr: peer, stream: guest, .. } => {
                let stream = Box::new(Screened { guest, peer, gateway });
                NodeServerMessage::ConnectionOpenedExternal { stream, is_server }
            }
            // The door listens on plain TCP alone.
            other => NodeServerMessage::ConnectionOpened { stream: Box::new(other), is_server },
        },
        other => other,
    }
}

/// Turns out whoever connects and doesn't show the cookie in time: the server itself would wait for ever.
struct Bouncer(Spawner);

impl NodeEventSubscription for Bouncer {
    fn node_session_opened(&self, session: NodeServerSessionInformation) {
        self.0.spawn(async move {
            tokio::time::sleep(GUEST_HANDSHAKE_TIMEOUT).await;
            let known = session.actor.call(NodeSessionMessage::GetAuthenticationState, Some(ASK_TIMEOUT)).await;
            if matches!(known, Ok(CallResult::Success(false))) {
                tracing::warn!(peer = session.peer_addr, "a guest did not show the cookie in time");
                session.actor.stop(Some("no cookie".into()));
            }
        });
    }

    fn node_session_disconnected(&self, session: NodeServerSessionInformation) {
        tracing::info!(guest = name_of(&session), "a guest left");
    }

    fn node_session_authenticated(&self, session: NodeServerSessionInformation) {
        tracing::info!(guest = name_of(&session), "a guest is attached");
    }
}

fn name_of(session: &NodeServerSessionInformation) -> &str {
    session.peer_name.as_ref().map_or("", |name| &name.name)
}
