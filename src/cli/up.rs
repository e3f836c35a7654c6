//! `skep up`: this machine's node, in the foreground.

use super::{Here, screen};
use crate::{Config, Home, Mistakes, Node, Secret, runtime::NodeId};
use clap::Args;
use owo_colors::OwoColorize;
use std::{
    env::VarError,
    net::{SocketAddr, ToSocketAddrs},
    path::PathBuf,
};
use tokio::{
    io::AsyncReadExt,
    signal::unix::{SignalKind, signal},
};

/// Everything is text here and parsed by `config`, so that all mistakes are told together.
#[derive(Args)]
pub(crate) struct Up {
    /// The node's name [default: the host's name].
    #[arg(long, env = "SKEP_NAME")]
    name: Option<String>,

    /// Where the API listens; port 0 takes any free one.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:4892", env = "SKEP_API")]
    api: String,

    /// Where other nodes reach this one, over UDP; port 0 takes any free one.
    #[arg(long, value_name = "HOST:PORT", default_value = "0.0.0.0:4892", env = "SKEP_LISTEN")]
    listen: String,

    /// Join a swarm: the line of `skep invite`, or CODE@HOST:PORT. Prefer SKEP_JOIN: other users see arguments.
    #[arg(long, value_name = "INVITE", env = "SKEP_JOIN", hide_env_values = true)]
    join: Option<String>,

    /// Where to look for members when discovery hears nothing; may be given several times.
    #[arg(long = "peer", value_name = "HOST:PORT")]
    peers: Vec<String>,

    /// Don't look for other nodes by mDNS.
    #[arg(long)]
    no_mdns: bool,

    /// What keeps the node's records: redb, or sled (see the documentation for what it can't promise).
    #[arg(long, default_value = "redb")]
    store: String,

    /// A folder of models that several nodes of this machine share.
    #[arg(long, value_name = "DIR", env = "SKEP_MODELS")]
    models: Option<PathBuf>,

    /// A label for placement; may be given several times.
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,

    /// A host name, besides loopback, under which the API may be called.
    #[arg(long = "api-host", value_name = "NAME")]
    api_hosts: Vec<String>,

    /// Let ractor_cluster programs of this machine attach, with the cookie in the file `guest`; port 0 takes any free one.
    #[arg(long, value_name = "HOST:PORT")]
    guests: Option<String>,

    /// Stop when standard input closes: for a program that starts nodes and must not leave one behind.
    #[arg(long, hide = true)]
    until_stdin_closes: bool,
}

impl Up {
    pub(crate) async fn run(self, here: &Here) -> anyhow::Result<()> {
        let until_stdin_closes = self.until_stdin_closes;
        let config = self.config(&here.home)?;
        let (name, home) = (config.name.clone(), here.home.path().display().to_string());
        let node = Node::builder().config(config).program(std::env::current_exe()?).start().await?;
        if here.json {
            screen::json(&serde_json::to_value(here.home.note()?)?);
        } else {
            greet(&node, &name, &home);
        }
        let mut terminate = signal(SignalKind::terminate())?;
        let failed = tokio::select! {
            _ = tokio::signal::ctrl_c() => false,
            _ = terminate.recv() => false,
            () = node.asked_to_stop() => false,
            () = stdin_closed(), if until_stdin_closes => false,
            () = node.failed() => true,
        };
        screen::note!("stopping ...");
        node.stop().await;
        anyhow::ensure!(!failed, "an actor of this node kept failing: see the log for why");
        Ok(())
    }

    fn config(self, home: &Home) -> Result<Config, Mistakes> {
        let mut mistakes = Vec::new();
        let mut config = Config {
            home: home.clone(),
            join: self.join.map(Secret::new),
            mdns: !self.no_mdns,
            // From the environment only: a flag would show in the list of processes.
            swarm_key: match std::env::var("SKEP_SWARM_KEY") {
                Ok(key) => Some(Secret::new(key)),
                Err(VarError::NotPresent) => None,
                Err(VarError::NotUnicode(_)) => {
                    mistakes.push("SKEP_SWARM_KEY: is not UTF-8".into());
                    None
                }
            },
            models: self.models,
            api_hosts: self.api_hosts,
            ..Config::default()
        };
        if let Some(name) = self.name {
            config.name = name;
        }
        let mut address = |flag: &str, text: &str, into: &mut SocketAddr| match resolve(text) {
            Ok(found) => *into = found,
            Err(why) => mistakes.push(format!("{flag} {text}: {why}")),
        };
        address("--api", &self.api, &mut config.api);
        address("--listen", &self.listen, &mut config.listen);
        if let Some(guests) = &self.guests {
            address("--guests", guests, config.guests.insert(config.listen));
        }
        for peer in &self.peers {
            let mut at = config.listen;
            address("--peer", peer, &mut at);
            config.peers.push(at);
        }
        match self.store.parse() {
            Ok(kind) => config.store = kind,
            Err(why) => mistakes.push(format!("--store {}: {why}", self.store)),
        }
        for label in &self.labels {
            match label.split_once('=') {
                Some((key, value)) => config.labels.push((key.into(), value.into())),
                None => mistakes.push(format!("--label {label}: KEY=VALUE is expected")),
            }
        }
        if let Err(Mistakes(more)) = config.check() {
            mistakes.extend(more);
        }
        if mistakes.is_empty() { Ok(config) } else { Err(Mistakes(mistakes)) }
    }
}

fn resolve(text: &str) -> Result<SocketAddr, String> {
    let mut found = text.to_socket_addrs().map_err(|e| format!("HOST:PORT is expected ({e})"))?;
    found.next().ok_or_else(|| "that name has no address".into())
}

async fn stdin_closed() {
    let mut stdin = tokio::io::stdin();
    let mut buffer = [0; 64];
    while matches!(stdin.read(&mut buffer).await, Ok(n) if n > 0) {}
}

fn greet(node: &Node, name: &str, home: &str) {
    let id: NodeId = node.id();
    screen::note!("{} {name} ({}) is up", "✓".green(), id.short());
    if let Some(api) = node.api_addr() {
        screen::note!("  api    http://{api}   (token: `skep token`, documentation: http://{api}/docs)");
    }
    screen::note!("  quic   {}", node.quic_addr());
    screen::note!("  home   {home}");
    screen::note!("\nAnother machine joins with the line that `skep invite` prints. Ctrl-C stops this node.");
}
