//! Real mDNS between two network namespaces with one virtual cable: two machines find each other and, sharing a
//! swarm key, become one swarm. Needs root and iproute2; says so and passes where they are missing.

#![allow(clippy::unwrap_used, reason = "a test that can't go on ends")]

use skep_runtime::{
    Directory, Members,
    store::{Medium, Store},
};
use skep_transport::{Env, Identity, Transport, TransportConfig, join::Secret};
use std::{
    io::Write,
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};
use tokio::time::timeout;

/// Set for the processes that this test starts inside of the namespaces: which machine they are.
const ROLE: &str = "SKEP_TEST_MACHINE";
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn two_machines_on_one_network_find_each_other_and_become_one_swarm() {
    let Some(network) = Network::new() else {
        // Past the harness, which hides what a passing test prints.
        let _ = writeln!(std::io::stderr(), "NOT RUN: discovery: it needs root and iproute2 (`ip netns`)");
        let must = std::env::var("SKEP_MUST_RUN").unwrap_or_default();
        assert!(!must.split_whitespace().any(|name| name == "discovery"), "discovery must run here");
        return;
    };
    let mut machines = [network.machine(0), network.machine(1)];
    for machine in &mut machines {
        assert!(machine.wait().unwrap().success(), "a machine did not find the other");
    }
}

/// One of the two machines; nothing when it is not started by the test above.
#[tokio::test]
async fn a_machine_of_the_other_test() {
    let Ok(seed) = std::env::var(ROLE) else { return };
    let seed: u8 = seed.parse().unwrap();
    let mut config = TransportConfig::new(format!("machine{seed}"), SocketAddr::from(([0, 0, 0, 0], 0)));
    config.swarm_key = Some(Secret::new("the key of two test machines").unwrap());
    let identity = Arc::new(Identity::from_seed([seed + 1; 32]));
    let members = Members::new(identity.id());
    let store = Store::new(Arc::new(Medium::new().open().unwrap())).unwrap();
    let directory = Directory::new(identity.id());
    let transport =
        Transport::start(config, Env::machine(), identity, directory, members.clone(), store).await.unwrap();
    let mut changes = members.changes();
    timeout(PATIENCE, changes.wait_for(|picture| picture.len() == 2)).await.expect("the other machine").unwrap();
    transport.stop().await;
}

/// Two namespaces and the cable between them, gone with this value.
struct Network {
    names: [String; 2],
}

impl Network {
    fn new() -> Option<Network> {
        let names = ["a", "b"].map(|side| format!("skep-{}-{side}", std::process::id()));
        let network = Network { names };
        let [a, b] = &network.names;
        let ok = ip(&["netns", "add", a])
            && ip(&["netns", "add", b])
            && ip(&["-n", a, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", b]);
        let up = |name: &str, address: &str| {
            ip(&["-n", name, "addr", "add", address, "dev", "cable"])
                && ip(&["-n", name, "link", "set", "lo", "up"])
                && ip(&["-n", name, "link", "set", "cable", "up"])
        };
        (ok && up(a, "10.213.7.1/24") && up(b, "10.213.7.2/24")).then_some(network)
    }

    fn machine(&self, which: usize) -> Child {
        let test = std::env::current_exe().unwrap();
        Command::new("ip")
            .args(["netns", "exec", &self.names[which]])
            .arg(test)
            .args(["--exact", "a_machine_of_the_other_test"])
            .env(ROLE, which.to_string())
            .spawn()
            .unwrap()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in &self.names {
            ip(&["netns", "del", name]);
        }
    }
}

fn ip(args: &[&str]) -> bool {
    Command::new("ip")
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
