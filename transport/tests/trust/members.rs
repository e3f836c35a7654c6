//! Life in a swarm: crashes, restarts, goodbyes, evictions, cards and load.

use crate::node::{Node, PATIENCE, swarm};
use skep_runtime::{Load, Swarm, member::State, swarm::Error};
use skep_transport::mesh;
use tokio::time::timeout;

#[tokio::test]
async fn a_crash_is_known_and_a_restart_leaves_no_second_entry() {
    let mut nodes = swarm(3).await;
    let (id, at) = (nodes[2].id, nodes[2].at());
    let dead = nodes.pop().unwrap().kill();
    for node in &nodes {
        node.sees_as(id, State::Down).await;
    }
    let back = dead.restart().await;
    assert_ne!(back.at(), at);
    for node in nodes.iter().chain([&back]) {
        node.sees_so_many(3).await;
    }
}

#[tokio::test]
async fn a_restart_before_anyone_noticed_is_no_crash() {
    let mut nodes = swarm(2).await;
    let back = nodes.pop().unwrap().kill().restart().await;
    back.sees_so_many(2).await;
    nodes[0].sees_so_many(2).await;
    nodes[0].sees_when(back.id, |m| m.addresses.first() == Some(&back.at())).await;
}

#[tokio::test]
async fn a_goodbye_is_no_crash_and_a_start_brings_it_back() {
    let mut nodes = swarm(3).await;
    let leaving = nodes.pop().unwrap();
    let id = leaving.id;
    let mut pictures: Vec<_> = nodes.iter().map(|node| node.members.changes()).collect();
    let gone = leaving.stop().await;
    for picture in &mut pictures {
        // From up to left, with nothing in between.
        let changed = picture.wait_for(|all| all[&id].state != State::Up);
        assert_eq!(timeout(PATIENCE, changed).await.unwrap().unwrap()[&id].state, State::Left);
    }
    let back = gone.restart().await;
    for node in nodes.iter().chain([&back]) {
        node.sees_so_many(3).await;
    }
}

#[tokio::test]
async fn who_leaves_for_good_is_a_swarm_of_one_and_may_be_invited_again() {
    let nodes = swarm(3).await;
    nodes[2].transport.leave(true).await.unwrap();
    nodes[2].sees_so_many(1).await;
    nodes[0].sees_so_many(2).await;
    nodes[1].sees_so_many(2).await;
    nodes[2].joins(&nodes[1]).await;
    for node in &nodes {
        node.sees_so_many(3).await;
    }
}

#[tokio::test]
async fn who_was_away_when_another_left_for_good_learns_it_from_that_one() {
    let mut nodes = swarm(2).await;
    let away = nodes.pop().unwrap();
    let id = away.id;
    let away = away.kill();
    nodes[0].sees_as(id, State::Down).await;
    nodes[0].transport.leave(true).await.unwrap();
    nodes[0].sees_so_many(1).await;
    let away = away.restart().await;
    away.sees_so_many(1).await;
    assert!(!away.members.now().contains_key(&nodes[0].id));
}

#[tokio::test]
async fn the_evicted_one_is_refused_everywhere_also_by_who_was_away() {
    let mut nodes = swarm(4).await;
    let away = nodes.pop().unwrap().stop().await;
    let evicted = nodes[2].id;
    nodes[0].transport.evict(evicted, false).await.unwrap();
    // It has heard of it, and is a swarm of one.
    nodes[2].sees_so_many(1).await;
    let away = away.restart().await;
    away.sees_as(nodes[0].id, State::Up).await;
    for node in [&nodes[0], &nodes[1], &away] {
        node.does_not_know(evicted).await;
        nodes[2].transport.mesh().learn(node.id, node.at());
        let refused = nodes[2].transport.mesh().connect(node.id).await;
        assert!(matches!(refused, Err(mesh::Error::NotMember(_))), "{refused:?}");
    }
    let invite = nodes[1].transport.invite().await.unwrap();
    let refused = nodes[2].transport.join(invite.line).await;
    assert!(refused.is_err(), "an evicted key came back");
}

#[tokio::test]
async fn who_was_evicted_while_away_learns_it_from_the_first_that_refuses_it() {
    let mut nodes = swarm(4).await;
    let away = nodes.pop().unwrap();
    let id = away.id;
    let away = away.kill();
    nodes[0].sees_as(id, State::Down).await;
    // It has never heard of the one that evicts it.
    let evictor = Node::start(9).await;
    evictor.joins(&nodes[0]).await;
    evictor.sees_as(nodes[1].id, State::Up).await;
    evictor.sees_as(nodes[2].id, State::Up).await;
    evictor.transport.evict(id, false).await.unwrap();
    nodes[0].does_not_know(id).await;
    let away = away.restart().await;
    away.sees_so_many(1).await;
    // It is free to go elsewhere.
    let other = Node::start(10).await;
    away.joins(&other).await;
    other.sees_so_many(2).await;
}

#[tokio::test]
async fn who_was_evicted_behind_a_pulled_cable_learns_it_when_it_is_back() {
    let nodes = swarm(3).await;
    nodes[2].pull_cable();
    nodes[0].sees_as(nodes[2].id, State::Down).await;
    nodes[0].transport.evict(nodes[2].id, false).await.unwrap();
    nodes[2].plug_in();
    nodes[2].sees_so_many(1).await;
    nodes[0].sees_so_many(2).await;
}

#[tokio::test]
async fn an_eviction_needs_more_than_half_or_force() {
    let mut nodes = swarm(3).await;
    let (one, other) = (nodes[1].id, nodes[2].id);
    let _dead = (nodes.pop().unwrap().kill(), nodes.pop().unwrap().kill());
    nodes[0].sees_as(one, State::Down).await;
    nodes[0].sees_as(other, State::Down).await;
    assert_eq!(nodes[0].transport.evict(one, false).await, Err(Error::NoMajority { up: 1, of: 3 }));
    nodes[0].transport.evict(one, true).await.unwrap();
    nodes[0].does_not_know(one).await;
    assert_eq!(nodes[0].transport.evict(nodes[0].id, true).await, Err(Error::Oneself));
    assert!(matches!(nodes[0].transport.evict(one, true).await, Err(Error::NoSuchNode(_))));
}

#[tokio::test]
async fn cards_and_load_travel_and_change() {
    let nodes = swarm(3).await;
    nodes[0].transport.announce(b"first".to_vec());
    for node in &nodes {
        node.sees_when(nodes[0].id, |m| m.card.as_slice() == b"first").await;
    }
    nodes[0].transport.announce(vec![7; 60_000]);
    nodes[2].sees_when(nodes[0].id, |m| m.card.len() == 60_000).await;
    let load = Load { cpu_permille: 700, running: 3, draining: true, ..Load::default() };
    nodes[0].transport.report(load);
    for node in &nodes {
        node.sees_when(nodes[0].id, |m| m.load == load).await;
    }
}

#[tokio::test]
async fn a_newcomer_gets_cards_that_were_there_before_it() {
    let mut nodes = swarm(2).await;
    nodes[0].transport.announce(b"old news".to_vec());
    let newcomer = Node::start(9).await;
    newcomer.joins(&nodes[1]).await;
    newcomer.sees_when(nodes[0].id, |m| m.card.as_slice() == b"old news").await;
    nodes.push(newcomer);
}

#[tokio::test]
async fn a_pulled_cable_heals_by_itself() {
    let nodes = swarm(3).await;
    nodes[2].pull_cable();
    nodes[0].sees_as(nodes[2].id, State::Down).await;
    nodes[2].sees_as(nodes[0].id, State::Down).await;
    nodes[2].plug_in();
    for node in &nodes {
        node.sees_so_many(3).await;
    }
}

#[tokio::test]
async fn when_all_addresses_have_changed_a_static_peer_brings_them_together() {
    let mut nodes = swarm(2).await;
    let (b, a) = (nodes.pop().unwrap().kill(), nodes.pop().unwrap().kill());
    let a = a.restart().await;
    let at = a.at();
    let b = b.restart_with(|config| config.peers = vec![at]).await;
    a.sees_so_many(2).await;
    b.sees_so_many(2).await;
}

#[tokio::test]
async fn the_doctor_says_who_answers() {
    let mut nodes = swarm(3).await;
    let dead = nodes.pop().unwrap();
    let id = dead.id;
    let _dead = dead.kill();
    nodes[0].sees_as(id, State::Down).await;
    let findings = timeout(PATIENCE, nodes[0].transport.diagnose()).await.unwrap();
    let of = |check: &str| {
        findings.iter().find(|f| f.check.starts_with(check)).unwrap_or_else(|| panic!("{findings:#?}")).clone()
    };
    assert!(of("roster").ok && of("roster").detail.contains("2 of 3"));
    assert!(of("member node2").ok && !of("member node3").ok);
    assert!(of("version").ok && !of("port").ok);
}
