//! Each way into a swarm, and each way to be refused.

use crate::node::{Node, PATIENCE, swarm};
use skep_runtime::{Swarm, member::State, swarm::Error};
use skep_transport::{
    Identity,
    join::{Line, book::INVITES_MAX},
};
use std::time::Duration;
use tokio::time::timeout;

#[tokio::test]
async fn an_invite_line_makes_two_machines_one_swarm() {
    let (a, b) = (Node::start(1).await, Node::start(2).await);
    let invite = a.transport.invite().await.unwrap();
    b.transport.join(invite.line).await.unwrap();
    a.sees_as(b.id, State::Up).await;
    b.sees_as(a.id, State::Up).await;
    assert_eq!(a.members.now().len(), 2);
    assert_eq!(a.members.get(&b.id).unwrap().name, "node2");
    assert_eq!(b.members.get(&b.id).unwrap().state, State::Up);
}

#[tokio::test]
async fn a_short_code_and_an_address_do_the_same() {
    let (a, b) = (Node::start(1).await, Node::start(2).await);
    let code = a.transport.invite().await.unwrap().code;
    b.transport.join(format!("{}@{}", code.to_lowercase(), a.at())).await.unwrap();
    a.sees_so_many(2).await;
    b.sees_so_many(2).await;
}

#[tokio::test]
async fn an_invite_is_for_one_machine() {
    let (a, b, c) = (Node::start(1).await, Node::start(2).await, Node::start(3).await);
    let invite = a.transport.invite().await.unwrap();
    assert!(a.transport.opens(&invite.line) && !b.transport.opens(&invite.line));
    b.transport.join(invite.line.clone()).await.unwrap();
    assert!(!a.transport.opens(&invite.line));
    assert_eq!(c.transport.join(invite.line.clone()).await, Err(Error::Spent));
    assert_eq!(c.transport.join(format!("{}@{}", invite.code, a.at())).await, Err(Error::Spent));
    assert_eq!(b.transport.join(invite.line).await, Ok(()), "it is so already");
    let other = c.transport.invite().await.unwrap();
    assert_eq!(b.transport.join(other.line).await, Err(Error::AlreadyMember(2)));
    assert_eq!(a.members.now().len(), 2);
}

#[tokio::test]
async fn who_is_admitted_has_joined_even_if_nobody_is_seen_then() {
    let (a, b) = (Node::start(1).await, Node::start(2).await);
    let invite = a.transport.invite().await.unwrap();
    let mut changes = b.members.changes();
    let cut = async {
        // The roster of the new swarm is the last that it hears.
        changes.wait_for(|picture| picture.contains_key(&a.id)).await.unwrap();
        b.pull_cable();
    };
    let (joined, ()) = tokio::join!(b.transport.join(invite.line), cut);
    assert_eq!(joined, Ok(()));
    b.plug_in();
    b.sees_as(a.id, State::Up).await;
}

#[tokio::test]
async fn of_two_that_come_at_once_one_gets_in() {
    let (a, b, c) = (Node::start(1).await, Node::start(2).await, Node::start(3).await);
    let line = a.transport.invite().await.unwrap().line;
    let (first, second) = tokio::join!(b.transport.join(line.clone()), c.transport.join(line));
    assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
    assert_eq!(first.and(second), Err(Error::Spent));
}

#[tokio::test]
async fn an_invite_expires() {
    let a = Node::start_with(1, |config| config.invite_valid = Duration::ZERO).await;
    let b = Node::start(2).await;
    let invite = a.transport.invite().await.unwrap();
    assert_eq!(b.transport.join(invite.line).await, Err(Error::Spent));
    assert_eq!(b.transport.join(format!("{}@{}", invite.code, a.at())).await, Err(Error::Spent));
}

#[tokio::test]
async fn three_wrong_codes_are_all_that_a_machine_has_and_the_line_still_admits_it() {
    let (a, b) = (Node::start(1).await, Node::start(2).await);
    let invite = a.transport.invite().await.unwrap();
    // The first character names the invite, so it stays.
    let last = if invite.code.ends_with('A') { 'B' } else { 'A' };
    let wrong = format!("{}{last}@{}", &invite.code[..5], a.at());
    for tries_left in [2, 1, 0] {
        assert_eq!(b.transport.join(wrong.clone()).await, Err(Error::WrongCode { tries_left }));
    }
    assert_eq!(b.transport.join(format!("{}@{}", invite.code, a.at())).await, Err(Error::Spent));
    b.transport.join(invite.line).await.unwrap();
}

#[tokio::test]
async fn an_invite_does_not_follow_its_node_into_another_swarm() {
    let (home, office) = (swarm(2).await, Node::start(7).await);
    let invite = home[1].transport.invite().await.unwrap();
    home[1].transport.leave(true).await.unwrap();
    home[1].joins(&office).await;
    let friend = Node::start(8).await;
    assert_eq!(friend.transport.join(invite.line).await, Err(Error::Spent));
    assert_eq!(friend.transport.join(format!("{}@{}", invite.code, home[1].at())).await, Err(Error::Spent));
    office.sees_so_many(2).await;
}

#[tokio::test]
async fn thirty_machines_may_be_invited_at_once_and_one_more_is_told_why_not() {
    let a = Node::start(1).await;
    let mut invites = Vec::new();
    for _ in 0..INVITES_MAX {
        invites.push(a.transport.invite().await.unwrap());
    }
    assert!(matches!(a.transport.invite().await, Err(Error::Refused(why)) if why.contains("30 invites")));
    let b = Node::start(2).await;
    b.transport.join(invites[0].line.clone()).await.unwrap();
    assert!(a.transport.invite().await.is_ok(), "the one that was used gives way");
}

#[tokio::test]
async fn what_is_no_invite_is_refused_before_anyone_is_called() {
    let b = Node::start(2).await;
    for text in ["", "hello", "skep1abc", "ABC234@"] {
        assert_eq!(b.transport.join(text.into()).await, Err(Error::BadInvite));
    }
}

#[tokio::test]
async fn a_line_with_another_machines_address_meets_the_wrong_key() {
    let (a, b, c) = (Node::start(1).await, Node::start(2).await, Node::start(3).await);
    let line = Line::parse(&a.transport.invite().await.unwrap().line).unwrap();
    let misled = Line { addresses: vec![c.at()], ..line.clone() };
    assert_eq!(b.transport.join(misled.text()).await, Err(Error::WrongPeer));
    let guessed = Line { secret: [0; 16], ..line };
    assert_eq!(b.transport.join(guessed.text()).await, Err(Error::Spent));
    let nobody = Line {
        inviter: Identity::from_seed([9; 32]).id(),
        addresses: vec!["127.0.0.1:9".parse().unwrap()],
        secret: [0; 16],
    };
    assert!(matches!(b.transport.join(nobody.text()).await, Err(Error::Unreachable(_))));
}

#[tokio::test]
async fn a_stranger_can_speak_nothing_but_the_join_protocol() {
    let (a, b) = (Node::start(1).await, Node::start(2).await);
    // It knows the address and the key, and even believes that it is a member.
    b.transport.mesh().learn(a.id, a.at());
    assert!(b.transport.mesh().connect(a.id).await.is_err());
    let (who, _) = b.transport.mesh().join(a.at(), Some(a.id)).await.unwrap();
    assert_eq!(who, a.id);
    assert_eq!(a.members.now().len(), 1);
}

#[tokio::test]
async fn a_newcomer_is_known_to_everyone_at_once() {
    let nodes = swarm(4).await;
    assert!(nodes.iter().all(|n| n.members.up().len() == 4));
}

/// The code that both screens show.
async fn shown(a: &Node, b: &Node) -> String {
    let both = async {
        loop {
            let (here, there) = (a.transport.waiting(), b.transport.waiting());
            if let ([here], [there]) = (here.as_slice(), there.as_slice()) {
                assert_eq!((here.id, there.id), (b.id, a.id));
                assert_eq!(here.code, there.code);
                return here.code.clone();
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, both).await.unwrap()
}

#[tokio::test]
async fn two_machines_that_see_each_other_show_one_code_and_both_owners_approve() {
    let (a, b) = (Node::start(1).await, Node::start(2).await);
    a.sees(&b);
    b.sees(&a);
    let code = shown(&a, &b).await;
    assert_eq!(a.transport.approve(code.clone()).await, Ok(b.id));
    assert_eq!(a.members.now().len(), 1, "the other owner hasn't approved");
    assert_eq!(b.transport.approve(code).await, Ok(a.id));
    a.sees_so_many(2).await;
    b.sees_so_many(2).await;
    assert!(a.transport.waiting().is_empty() && b.transport.waiting().is_empty());
}

#[tokio::test]
async fn a_machine_alone_knocks_at_the_swarm_that_it_sees() {
    let nodes = swarm(2).await;
    let c = Node::start_with(3, |config| config.knock_is_consent = true).await;
    c.sees(&nodes[1]);
    let code = shown(&nodes[1], &c).await;
    assert!(matches!(nodes[1].transport.approve("000000".into()).await, Err(Error::NoSuchNode(_))) || code == "000000");
    assert_eq!(nodes[1].transport.approve(code).await, Ok(c.id));
    c.sees_so_many(3).await;
    nodes[0].sees_as(c.id, State::Up).await;
}

#[tokio::test]
async fn a_static_peer_is_a_place_to_knock() {
    let a = Node::start(1).await;
    let at = a.at();
    let b = Node::start_with(2, |config| config.peers = vec![at]).await;
    // It is younger, so it is the one that knocks.
    let code = shown(&a, &b).await;
    b.transport.approve(code.clone()).await.unwrap();
    a.transport.approve(code).await.unwrap();
    b.sees_so_many(2).await;
}
