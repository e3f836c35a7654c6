//! What a node is started with, checked as a whole before any port is bound: all mistakes are told together.

use skep_actors::{node::labels, runtime::store::Kind};
use skep_transport::join;
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use crate::home::Home;

/// Where the API listens: the documented address.
pub(crate) const API: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 4892);

/// Where other nodes reach this one. One port for everything; the same number as the API's, so that there is one
/// to remember and one to open.
pub(crate) const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 4892);

/// Characters of a node's name.
const NAME_CHARS_MAX: usize = 63;

/// How a node is started. Every field has a sane default; none is needed.
#[derive(Clone)]
pub struct Config {
    /// The node's folder.
    pub home: Home,
    /// Its name: 1 to 63 characters without control characters. The host's name by default.
    pub name: String,
    /// `HOST:PORT` of the API; port 0 takes any free one.
    pub api: SocketAddr,
    /// `HOST:PORT` of the QUIC endpoint; port 0 takes any free one.
    pub listen: SocketAddr,
    /// An invite to join a swarm by: a whole line, or `CODE@HOST:PORT`.
    pub join: Option<Secret>,
    /// Where to look for members when discovery hears nothing.
    pub peers: Vec<SocketAddr>,
    /// Whether to look for other nodes by mDNS.
    pub mdns: bool,
    /// Admits unattended machines: all that hold the same key form one swarm.
    pub swarm_key: Option<Secret>,
    /// Which store keeps the node's records.
    pub store: Kind,
    /// Where weights lie, if not in the node's folder.
    pub models: Option<PathBuf>,
    /// Where `ractor_cluster` programs of this machine may attach: a loopback address, port 0 takes any free one. `None`
    /// keeps the door shut.
    pub guests: Option<SocketAddr>,
    /// Host names, besides loopback, under which the API may be called.
    pub api_hosts: Vec<String>,
    /// Labels for placement.
    pub labels: Vec<(String, String)>,
}

/// A text that must not be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps it.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text, for where it is used.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl std::str::FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Secret, Self::Err> {
        Ok(Secret::new(text))
    }
}

/// Everything that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the configuration has {} mistake{}:\n{}", .0.len(), if .0.len() == 1 { "" } else { "s" }, .0.iter().map(|m| format!("  - {m}")).collect::<Vec<_>>().join("\n"))]
pub struct Mistakes(pub Vec<String>);

impl Default for Config {
    fn default() -> Config {
        Config {
            home: Home::of_user(),
            name: host_name(),
            api: API,
            listen: LISTEN,
            join: None,
            peers: Vec::new(),
            mdns: true,
            swarm_key: None,
            store: Kind::default(),
            models: None,
            guests: None,
            api_hosts: Vec::new(),
            labels: Vec::new(),
        }
    }
}

impl Config {
    /// Checks everything that can be known before a port is bound.
    pub fn check(&self) -> Result<(), Mistakes> {
        let mut mistakes = Vec::new();
        let mut expect = |ok: bool, mistake: &str| {
            if !ok {
                mistakes.push(mistake.to_string());
            }
        };
        let chars = self.name.chars().count();
        expect(
            (1..=NAME_CHARS_MAX).contains(&chars) && !self.name.chars().any(char::is_control),
            "--name: 1 to 63 characters without control characters",
        );
        if let Some(Err(why)) = self.swarm_key.as_ref().map(|key| join::Secret::new(key.reveal())) {
            expect(false, &format!("SKEP_SWARM_KEY: {why}"));
        }
        let invite = |text: &Secret| join::invite::Invitation::parse(text.reveal()).is_some();
        expect(
            self.join.as_ref().is_none_or(invite),
            "--join: neither the whole line that `skep invite` printed nor CODE@HOST:PORT",
        );
        let host =
            |name: &String| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || "-._:[]".contains(c));
        expect(self.api_hosts.iter().all(host), "--api-host: a name or an address, as in bee.lan");
        expect(self.peers.iter().all(|p| p.port() != 0), "--peer: a port is needed, as in 192.168.1.7:4892");
        expect(self.guests.is_none_or(|at| at.ip().is_loopback()), "--guests: a loopback address, as in 127.0.0.1:0");
        expect(self.peers.len() <= 64, "--peer: at most 64");
        expect(self.labels.len() <= labels::LABELS_MAX, &format!("--label: at most {} of them", labels::LABELS_MAX));
        for (key, value) in &self.labels {
            let sound = labels::check(key, value);
            expect(sound.is_ok(), &format!("--label: {}", sound.err().unwrap_or_default()));
        }
        if let Some(models) = &self.models {
            expect(!models.is_file(), "--models: names a file, a folder is needed");
        }
        expect(!self.home.path().is_file(), "--home: names a file, a folder is needed");
        if mistakes.is_empty() { Ok(()) } else { Err(Mistakes(mistakes)) }
    }
}

fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let name: String = name.chars().filter(|c| !c.is_control()).take(NAME_CHARS_MAX).collect();
    if name.is_empty() { "node".into() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_right_and_secrets_don_t_show() {
        let config = Config { swarm_key: Some(Secret::new("a very long secret key")), ..Config::default() };
        assert_eq!(config.check(), Ok(()));
        assert!(!format!("{:?}", config.swarm_key).contains("very"));
    }

    #[test]
    fn all_mistakes_are_told_together() {
        let config = Config {
            name: String::new(),
            swarm_key: Some(Secret::new("short")),
            peers: vec!["127.0.0.1:0".parse().unwrap()],
            join: Some(Secret::new("nonsense")),
            api_hosts: vec!["http://bee".into()],
            ..Config::default()
        };
        assert_eq!(config.check().unwrap_err().0.len(), 5);
    }
}
