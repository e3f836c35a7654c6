//! The composition root: a whole node from a configuration, and its orderly end.
//!
//! ```text
//! check config -> home, API's port, key, store -> transport -> actors -> api -> join -> node.json
//! stop: node.json, api (drained), actors (last first), goodbye, store
//! ```
//!
//! Nothing is decided here; only this file and `sim` choose an environment.

use crate::{
    Config, Mistakes,
    config::Secret,
    home::{self, Home, Note},
};
use ractor::{Actor, ActorRef};
use skep_actors::{
    Context,
    blob::{self, Blobs},
    event::Events,
    ledger::Ledger,
    ownership::Ownership,
    runtime::{
        Directory, Members, Metrics, NodeId, Swarm, Tasks, store,
        supervise::{self, Supervisor},
    },
    task::{Fences, kept::Keepers, scratch::Scratches},
    tree,
};
use skep_transport::{
    Env, Identity, Transport, TransportConfig,
    guest::{Cookie, CookieError, Door, OpenError},
    join,
};
use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};
use tokio::{net::TcpListener, sync::oneshot};
use tokio_util::sync::CancellationToken;

/// How long the parts of a stopping node may take together; then the process ends anyway. The API's drain has five of
/// these seconds, an actor ten.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// How often the store is exported beside itself: what is lost with an unreadable store is younger than this.
const EXPORT_PERIOD: Duration = Duration::from_secs(3600);

/// A running node. Dropping it stops it without a goodbye; [`Node::stop`] is the polite way.
pub struct Node {
    context: Context,
    listens: SocketAddr,
    leash: Leash,
    api: Option<Api>,
    door: Option<Door>,
    tasks: Tasks,
}

/// What doesn't end by being dropped, ended however the node ends: the actors, who hold all the rest, and the note.
struct Leash {
    supervisor: ActorRef<supervise::Message>,
    note: Option<Home>,
}

impl Leash {
    fn retract(&mut self) {
        if let Some(home) = self.note.take() {
            home.retract();
        }
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        self.retract();
        self.supervisor.stop(Some("the node was dropped".into()));
    }
}

/// The API while it serves.
struct Api {
    at: SocketAddr,
    stop: CancellationToken,
    ended: oneshot::Receiver<()>,
}

/// Builds a [`Node`]. Nothing is needed: a node without options is what `skep up` starts.
#[derive(Clone)]
pub struct Builder {
    config: Config,
    api: bool,
    program: Option<PathBuf>,
}

/// Why a node could not start. What was opened before is closed again.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is wrong; nothing was opened.
    #[error(transparent)]
    Config(#[from] Mistakes),
    /// The node's folder can't be used.
    #[error(transparent)]
    Home(#[from] home::Error),
    /// The identity key can't be used.
    #[error(transparent)]
    Identity(#[from] skep_transport::identity::Error),
    /// The store can't be opened.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The store was unreadable and nothing of it is left: this machine no longer knows its swarm.
    #[error(
        "{0}. This machine no longer knows its swarm, its budgets and its tasks. Started again, it begins anew as a \
         swarm of one; `skep join` with an invite of its swarm then brings it back under the same id"
    )]
    Lost(String),
    /// The network can't be used.
    #[error(transparent)]
    Transport(#[from] skep_transport::swarm::StartError),
    /// An actor didn't start.
    #[error("the node's actors did not start: {0}")]
    Actors(#[from] ractor::SpawnErr),
    /// The API's address can't be used.
    #[error("the API can't listen on {0}: {1}. Is a node running here already? `--api HOST:0` takes any free port")]
    Api(SocketAddr, std::io::Error),
    /// The guests' cookie can't be used.
    #[error(transparent)]
    Cookie(#[from] CookieError),
    /// The guests' door can't be opened.
    #[error(transparent)]
    Door(#[from] OpenError),
    /// The swarm could not be joined. The node did not stay up.
    #[error("could not join: {0}")]
    Join(#[from] skep_actors::runtime::swarm::Error),
}

impl Node {
    /// A node with the defaults of `skep up`.
    pub fn builder() -> Builder {
        Builder { config: Config::default(), api: true, program: None }
    }

    /// Who it is.
    pub fn id(&self) -> NodeId {
        self.context.directory.id()
    }

    /// Where other nodes reach it.
    pub fn quic_addr(&self) -> SocketAddr {
        self.listens
    }

    /// Where its API listens, if it has one.
    pub fn api_addr(&self) -> Option<SocketAddr> {
        self.api.as_ref().map(|api| api.at)
    }

    /// The door where `ractor_cluster` programs of this machine attach, if it is open.
    pub fn door(&self) -> Option<&Door> {
        self.door.as_ref()
    }

    /// The way to every actor, here or elsewhere; publish your own with [`Directory::spawn`].
    pub fn directory(&self) -> &Directory {
        &self.context.directory
    }

    /// Who is in the swarm.
    pub fn members(&self) -> &Members {
        &self.context.members
    }

    /// Membership and trust: invite, join, approve, evict.
    pub fn swarm(&self) -> &dyn Swarm {
        &*self.context.swarm
    }

    /// All that its own actors are given.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Resolves when its owner asked it to end, by its API: stop it.
    pub async fn asked_to_stop(&self) {
        self.context.stop.cancelled().await;
    }

    /// Resolves if the node's actors have failed for good. The node is of no use then: stop it.
    pub async fn failed(&self) {
        let _ = self.leash.supervisor.wait(None).await;
    }

    /// Drains, says goodbye and closes everything, within [`STOP_TIMEOUT`].
    pub async fn stop(self) {
        let Node { mut leash, tasks, context, door, api, .. } = self;
        leash.retract();
        let orderly = async {
            // First who asks, while all that could answer still works; then who answers.
            if let Some(Api { stop, ended, .. }) = api {
                stop.cancel();
                let _ = ended.await;
            }
            drop(door);
            let _ = leash.supervisor.call(supervise::Message::Stop, None).await;
            close(&context, tasks).await;
        };
        if tokio::time::timeout(STOP_TIMEOUT, orderly).await.is_err() {
            tracing::warn!("not everything stopped in time");
        }
    }

    /// What is opened when the actors are there. On an error the caller stops the node.
    async fn open(
        &mut self,
        config: Config,
        home: &Home,
        api: Option<(TcpListener, String)>,
    ) -> Result<(), StartError> {
        if let Some(at) = config.guests {
            let cookie = Cookie::load_or_create(&home.cookie(), &self.context.env)?;
            self.door = Some(Door::open(self.directory().clone(), self.members().clone(), cookie, at).await?);
        }
        if let Some((listener, token)) = api {
            self.api = Some(serve(self, &config, listener, token)?);
        }
        if let Some(invite) = &config.join {
            self.swarm().join(invite.reveal().into()).await?;
        }
        self.leash.note = Some(home.clone());
        home.announce(&Note {
            node_id: self.id(),
            name: config.name,
            pid: std::process::id(),
            api: self.api_addr().map(|a| a.to_string()).unwrap_or_default(),
            quic: self.quic_addr().to_string(),
            token_path: home.token_path(),
            guests: self.door.as_ref().map(|door| door.addr().to_string()),
        })?;
        Ok(())
    }
}

/// The last of a node, when its actors have ended or never began: the goodbye, its tasks, its store.
async fn close(context: &Context, tasks: Tasks) {
    let _ = context.swarm.leave(false).await;
    tasks.stop().await;
    export(&context.store).await;
    if let Err(error) = context.store.close().await {
        tracing::warn!(%error, "the store did not close well");
    }
}

impl Builder {
    /// Takes over a whole configuration.
    pub fn config(mut self, config: Config) -> Builder {
        self.config = config;
        self
    }

    /// The node's folder.
    pub fn home(mut self, path: impl Into<PathBuf>) -> Builder {
        self.config.home = Home::at(path);
        self
    }

    /// Its name.
    pub fn name(mut self, name: impl Into<String>) -> Builder {
        self.config.name = name.into();
        self
    }

    /// Where other nodes reach it; port 0 takes any free one.
    pub fn listen(mut self, at: SocketAddr) -> Builder {
        self.config.listen = at;
        self
    }

    /// Where its API listens; port 0 takes any free one.
    pub fn api(mut self, at: SocketAddr) -> Builder {
        self.config.api = at;
        self.api = true;
        self
    }

    /// No API: for programs that speak to the node's actors directly.
    pub fn no_api(mut self) -> Builder {
        self.api = false;
        self
    }

    /// Opens a door for `ractor_cluster` programs of this machine; the cookie is in the file `guest` of the node's folder.
    pub fn guests(mut self, at: SocketAddr) -> Builder {
        self.config.guests = Some(at);
        self
    }

    /// Whether to look for other nodes by mDNS.
    pub fn mdns(mut self, on: bool) -> Builder {
        self.config.mdns = on;
        self
    }

    /// An invite to join by when it is up.
    pub fn join(mut self, invite: impl Into<String>) -> Builder {
        self.config.join = Some(Secret::new(invite));
        self
    }

    /// The program that answers to the hidden subcommands of `skep`: with it, graphics processors are looked for in a
    /// child process, and commands die with the node even if it is killed.
    pub fn program(mut self, exe: impl Into<PathBuf>) -> Builder {
        self.program = Some(exe.into());
        self
    }

    /// Starts it. Ready when its API answers and, with an invite, when it is a member.
    pub async fn start(self) -> Result<Node, StartError> {
        let Builder { config, api, program } = self;
        config.check()?;
        crate::install_crypto();
        let home = config.home.clone();
        home.create()?;
        // Before anyone else can notice that a node starts here: it may not, if one is running already.
        let listener = match api {
            true => Some(listen(&config).await?),
            false => None,
        };
        let env = Env::machine();
        let identity = Arc::new(Identity::load_or_create(&home.key(), &env)?);
        let opened = store::open(&store::Config::new(config.store, home.store()))?;
        if let Some(loss) = opened.store.loss() {
            // To found a new swarm without a word would leave this one's ghost in the old one.
            if opened.refilled.is_none() {
                return Err(StartError::Lost(loss.into()));
            }
            tracing::error!(%loss, "this node goes on with what is left");
        }
        let token = home.token(&env.base)?;
        let id = identity.id();
        let (directory, members, metrics, tasks) =
            (Directory::new(id), Members::new(id), Metrics::default(), Tasks::default());

        let network = TransportConfig {
            peers: config.peers.clone(),
            mdns: config.mdns,
            swarm_key: config.swarm_key.as_ref().and_then(|key| join::Secret::new(key.reveal()).ok()),
            ..TransportConfig::new(config.name.clone(), config.listen)
        };
        let (shared, store) = ((directory.clone(), members.clone()), opened.store);
        let transport = Transport::start(network, env.clone(), identity, shared.0, shared.1, store.clone()).await?;
        let listens = transport.local_addr();

        let models = config.models.clone().unwrap_or_else(|| home.models());
        let swarm: Arc<dyn Swarm> = Arc::new(transport);
        let ledger = Ledger::open(&env.base, &store, &directory, &members, &swarm, tasks.spawner())?;
        let ownership = Ownership::open(&env.base, &store, &directory, &members, &ledger)?;
        let known = ledger.clone();
        let blobs = Blobs::within(home.path(), &env.base, move || blob::needed(&known));
        let events = Events::new(id, &env.base);
        let context = Context {
            name: config.name.clone(),
            env: env.base.clone(),
            directory,
            members,
            swarm,
            store,
            ledger,
            blobs,
            events,
            ownership,
            metrics,
            tasks: tasks.spawner(),
            home: home.path().into(),
            scratches: Scratches::within(home.path()),
            models,
            exe: program,
            keepers: Keepers::default(),
            stop: Default::default(),
            fences: Fences::default(),
            labels: config.labels.iter().cloned().collect(),
        };
        let supervisor = match Actor::spawn(None, Supervisor, tree::children(&context)).await {
            Ok((supervisor, _)) => supervisor,
            Err(error) => {
                close(&context, tasks).await;
                return Err(error.into());
            }
        };
        let exported = context.store.clone();
        tasks.spawn(async move {
            loop {
                tokio::time::sleep(EXPORT_PERIOD).await;
                export(&exported).await;
            }
        });
        let leash = Leash { supervisor, note: None };
        let mut node = Node { context, listens, leash, api: None, door: None, tasks };
        match node.open(config, &home, listener.map(|listener| (listener, token))).await {
            Ok(()) => Ok(node),
            Err(error) => {
                node.stop().await;
                Err(error)
            }
        }
    }
}

/// Writes what the store holds beside it, if it is one with files.
async fn export(store: &store::Store) {
    match store.export().await {
        Ok(exported) => tracing::debug!(records = exported.records, bytes = exported.bytes, "the store was exported"),
        Err(store::Error::NoExport) => {}
        Err(error) => tracing::warn!(%error, "the store could not be exported; the export before it stays"),
    }
}

async fn listen(config: &Config) -> Result<TcpListener, StartError> {
    TcpListener::bind(config.api).await.map_err(|error| StartError::Api(config.api, error))
}

fn serve(node: &Node, config: &Config, listener: TcpListener, token: String) -> Result<Api, StartError> {
    let at = listener.local_addr().map_err(|error| StartError::Api(config.api, error))?;
    let api = skep_api::Config {
        bind: at,
        token: skep_api::Token::new(token).expect("a token that was read has its length"),
        allowed_hosts: config.api_hosts.clone(),
    };
    let server = skep_api::Server::new(node.context.clone(), api);
    let (stop, (end, ended)) = (CancellationToken::new(), oneshot::channel());
    let stopping = stop.clone().cancelled_owned();
    node.tasks.spawn(async move {
        if let Err(error) = server.serve(listener, stopping).await {
            tracing::error!(%error, "the API ended");
        }
        drop(end);
    });
    Ok(Api { at, stop, ended })
}
