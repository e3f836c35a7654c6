//! What `skep doctor` looks at between this node and its peers. It changes nothing.

use super::{exchange, ground::Ground, visit};
use crate::{defaults::EXCHANGE_TIMEOUT, discovery};
use futures::future::join_all;
use skep_runtime::{NodeId, swarm::Finding};
use std::net::SocketAddr;
use tokio::time::{Instant, timeout};

/// Everything that was looked at, in order.
pub(super) async fn diagnose(ground: &Ground) -> Vec<Finding> {
    let simulated = ground.env.base.simulated();
    let mut findings = vec![version()];
    let bound = ground.mesh().ok().map(crate::Mesh::local_addr);
    findings.push(port(bound));
    if !simulated {
        findings.push(interfaces(&discovery::interfaces().await));
        findings.push(multicast(ground.config.mdns, discovery::multicast()));
    }
    findings.push(roster(ground));
    findings.extend(members(ground).await);
    findings.extend(static_peers(ground).await);
    findings
}

fn finding(check: &str, ok: bool, detail: impl Into<String>) -> Finding {
    Finding { check: check.to_owned(), ok, detail: detail.into() }
}

fn version() -> Finding {
    let join = crate::join::protocol::VERSION;
    finding("version", true, format!("skep {}, join protocol {join}", env!("CARGO_PKG_VERSION")))
}

fn port(bound: Option<SocketAddr>) -> Finding {
    match bound {
        Some(addr) if addr.ip().is_loopback() => finding(
            "port",
            false,
            format!(
                "UDP {addr} is loopback: no other machine can reach it; start with --listen 0.0.0.0:{}",
                addr.port()
            ),
        ),
        Some(addr) => {
            finding("port", true, format!("UDP {addr} is open here; other machines' firewalls must let it through too"))
        }
        None => finding("port", false, "no UDP port is open: the node is still starting"),
    }
}

fn interfaces(found: &[std::net::IpAddr]) -> Finding {
    let shown: Vec<String> = found.iter().map(ToString::to_string).collect();
    match found {
        [] => finding("interfaces", false, "no network address but loopback: connect this machine to a network"),
        _ => finding("interfaces", true, shown.join(", ")),
    }
}

fn multicast(wanted: bool, works: Result<(), String>) -> Finding {
    match (wanted, works) {
        (false, _) => finding("multicast", true, "mDNS is off: machines are found by --peer and by invites"),
        (true, Ok(())) => finding(
            "multicast",
            true,
            "this machine can send to 224.0.0.251; whether the network passes it on shows in `skep nodes`",
        ),
        (true, Err(why)) => finding(
            "multicast",
            false,
            format!("{why}: machines will not find each other by themselves; use --peer HOST:PORT"),
        ),
    }
}

fn roster(ground: &Ground) -> Finding {
    let (of, up) = (ground.keeper.now().members().len(), ground.members.up().len());
    let detail = match of {
        1 => "a swarm of one: `skep invite` here and `skep join` on another machine makes it two".to_owned(),
        _ => format!("{up} of {of} members answer"),
    };
    // A swarm with a minority of its members can't change its roster.
    finding("roster", up * 2 > of, detail)
}

async fn members(ground: &Ground) -> Vec<Finding> {
    let roster = ground.keeper.now();
    let others: Vec<(NodeId, String)> =
        roster.members().iter().filter(|(id, _)| **id != ground.me()).map(|(id, m)| (*id, m.name.clone())).collect();
    let asks = others.into_iter().map(|(id, name)| async move {
        let start = Instant::now();
        let answer = timeout(EXCHANGE_TIMEOUT, exchange::offer(ground, id, Vec::new())).await;
        let check = format!("member {name} ({})", id.short());
        match answer {
            Ok(Ok(theirs)) => {
                let same = theirs.version == env!("CARGO_PKG_VERSION");
                let hint = if same { "" } else { ": another version than this one; update the older" };
                finding(
                    &check,
                    same,
                    format!("answers in {} ms, skep {}{hint}", start.elapsed().as_millis(), theirs.version),
                )
            }
            Ok(Err(error)) => finding(
                &check,
                false,
                format!("{error}; is `skep up` running there? Has its address changed? Then use --peer HOST:PORT"),
            ),
            Err(_) => {
                finding(&check, false, "no answer; is `skep up` running there, and is UDP open between the machines?")
            }
        }
    });
    join_all(asks).await
}

async fn static_peers(ground: &Ground) -> Vec<Finding> {
    let asks = ground.config.peers.iter().map(|addr| async move {
        let check = format!("peer {addr}");
        match visit::open(ground, *addr, None).await {
            Ok(at) if ground.keeper.now().contains(&at.door) => {
                finding(&check, true, format!("member {}", at.door.short()))
            }
            Ok(at) => finding(
                &check,
                false,
                format!("{} answers, which is no member: `skep join` one to the other", at.door.short()),
            ),
            Err(error) => finding(&check, false, error.to_string()),
        }
    });
    join_all(asks).await
}
