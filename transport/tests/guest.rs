//! Guests in processes of their own: ractor's groups and pids are a process's globals, so a guest in the node's own
//! process would prove nothing. The guest is this very test program, started again with [`guest_program`] alone.
//!
//! Two nodes, linked by QUIC on loopback; the second has the door.

#![expect(clippy::unwrap_used, reason = "a test that meets a surprise ends there")]

#[path = "link/node.rs"]
#[expect(dead_code, reason = "shared with the link's tests, which use more of it")]
mod node;

use node::{Node, PATIENCE, pair};
use ractor::{
    Actor, ActorProcessingErr, ActorRef, Message as _, RpcReplyPort, message::SerializedMessage, pg, rpc::CallResult,
};
use ractor_cluster::{
    NodeEventSubscription, NodeServer, NodeServerMessage, RactorClusterMessage, node::NodeServerSessionInformation,
};
use skep_runtime::{Error, Members, NodeId, Reach, Wire, defaults::ASK_TIMEOUT_MAX, member};
use skep_transport::{
    Env,
    defaults::GUESTS_MAX,
    guest::{Answer, Cookie, Door, GATEWAY, Message, OpenError, scope_of},
};
use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf, process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    net::TcpStream,
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::{Mutex, MutexGuard, mpsc, oneshot},
    time::timeout,
};

/// Doors of one process share ractor's groups and number their guests alike: one test at a time.
static ALONE: Mutex<()> = Mutex::const_new(());

// ---- The actor that both sides know ----

#[derive(RactorClusterMessage)]
enum Calc {
    #[rpc]
    Add(u64, u64, RpcReplyPort<Wire<u64>>),
    #[rpc]
    Never(RpcReplyPort<Wire<u64>>),
}

/// Adds; `0` is what it adds on top, to tell one from another. Keeps the ports that it never answers.
struct Adder(u64);

impl Actor for Adder {
    type Msg = Calc;
    type State = Vec<RpcReplyPort<Wire<u64>>>;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Calc>, (): ()) -> Result<Self::State, ActorProcessingErr> {
        Ok(Vec::new())
    }

    async fn handle(&self, _: ActorRef<Calc>, m: Calc, kept: &mut Self::State) -> Result<(), ActorProcessingErr> {
        match m {
            Calc::Add(a, b, reply) => {
                let _ = reply.send(Wire(a + b + self.0));
            }
            Calc::Never(reply) => kept.push(reply),
        }
        Ok(())
    }
}

// ---- The guest: knows ractor_cluster, the gateway's message and the callee's ----

/// The other program. Does nothing in a run of the tests.
#[tokio::test]
async fn guest_program() {
    let Ok(door) = std::env::var("SKEP_TEST_DOOR") else { return };
    let cookie = std::fs::read_to_string(std::env::var("SKEP_TEST_COOKIE").unwrap()).unwrap();
    let name = format!("guest-{}", std::process::id());
    let server = NodeServer::new(0, cookie.trim().into(), name.clone(), name, None, None);
    let (server, _) = Actor::spawn(None, server.with_listen_addr([127, 0, 0, 1].into()), ()).await.unwrap();
    let (events, mut happened) = mpsc::unbounded_channel();
    let subscription = Box::new(Session(events));
    server.cast(NodeServerMessage::SubscribeToEvents { id: "guest".into(), subscription }).unwrap();
    ractor_cluster::client_connect(&server, door).await.unwrap();
    if happened.recv().await != Some(true) {
        println!("| refused");
        return;
    }
    let node = pg::which_scoped_groups(&GATEWAY.into()).pop().expect("the gateway is there when the session is ready");
    let gateway: ActorRef<Message> = pg::get_scoped_members(&GATEWAY.into(), &node).pop().unwrap().into();
    let scope = scope_of(node.parse().unwrap());
    let (calc, _) = Actor::spawn(None, Adder(0), ()).await.unwrap();
    for name in std::env::var("SKEP_TEST_NAMES").unwrap().split(' ') {
        pg::join_scoped(scope.clone(), name.into(), vec![calc.get_cell()]);
    }
    println!("| attached to {node}");
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    loop {
        tokio::select! {
            order = orders.next_line() => match order.unwrap().as_deref().map(|o| o.split(' ').collect::<Vec<_>>()).as_deref() {
                Some(["add", node, name, a, b]) => println!("| {}", add(&gateway, node, name, a, b).await),
                Some(["nodes"]) => match gateway.call(Message::Nodes, Some(PATIENCE)).await.unwrap() {
                    CallResult::Success(nodes) => println!("| {}", nodes.trim()),
                    _ => println!("| no answer"),
                },
                Some(["past"]) => past(&server).await,
                Some(["leave", name]) => pg::leave_scoped(scope.clone(), (*name).into(), vec![calc.get_cell()]),
                _ => return,
            },
            _ = happened.recv() => return println!("| turned out"),
        }
    }
}

/// `true` when the session is ready, `false` when it is gone.
struct Session(mpsc::UnboundedSender<bool>);

impl NodeEventSubscription for Session {
    fn node_session_opened(&self, _: NodeServerSessionInformation) {}
    fn node_session_authenticated(&self, _: NodeServerSessionInformation) {}
    fn node_session_ready(&self, _: NodeServerSessionInformation) {
        let _ = self.0.send(true);
    }
    fn node_session_disconnected(&self, _: NodeServerSessionInformation) {
        let _ = self.0.send(false);
    }
}

async fn add(gateway: &ActorRef<Message>, node: &str, name: &str, a: &str, b: &str) -> String {
    let (port, sum) = oneshot::channel();
    let call = Calc::Add(a.parse().unwrap(), b.parse().unwrap(), port.into());
    let Ok(SerializedMessage::Call { variant, args, reply: back, .. }) = call.serialize() else { unreachable!() };
    let ask =
        |reply| Message::Ask { node: node.into(), name: name.into(), variant, args, deadline_ms: u64::MAX, reply };
    match gateway.call(ask, Some(PATIENCE)).await.unwrap() {
        CallResult::Success(Answer(Ok(bytes))) => {
            back.send(bytes).unwrap();
            sum.await.unwrap().0.to_string()
        }
        CallResult::Success(Answer(Err((code, why)))) => format!("error {code}: {why}"),
        _ => "no answer".into(),
    }
}

/// Asks every actor of the node's process that `ractor_cluster` tells of, by its number: past the gateway.
async fn past(server: &ActorRef<NodeServerMessage>) {
    let CallResult::Success(sessions) = server.call(NodeServerMessage::GetSessions, Some(PATIENCE)).await.unwrap()
    else {
        unreachable!("the server is there")
    };
    for actor in sessions.into_values().flat_map(|session| session.actor.get_children()) {
        if !actor.get_id().is_local() {
            let (port, _) = oneshot::channel();
            let _ = ActorRef::<Calc>::from(actor).cast(Calc::Never(port.into()));
        }
    }
}

// ---- The house ----

struct House {
    alder: Node,
    birch: Node,
    door: Door,
    folder: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl House {
    async fn open() -> House {
        let alone = ALONE.lock().await;
        let (alder, birch) = pair();
        let folder = tempfile::tempdir().unwrap();
        let cookie = Cookie::load_or_create(&folder.path().join("guest"), &Env::machine().base).unwrap();
        let members = Members::new(birch.id);
        members.show([(alder.id, Some(up(alder.id)))]);
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let door = Door::open(birch.directory.clone(), members, cookie, any).await.unwrap();
        House { alder, birch, door, folder, _alone: alone }
    }

    fn cookie(&self) -> PathBuf {
        self.folder.path().join("guest")
    }

    /// A guest that publishes `names`, attached.
    async fn guest(&self, names: &str) -> Guest {
        let mut guest = Guest::start(self.door.addr(), self.cookie(), names);
        assert_eq!(guest.line().await, format!("attached to {}", self.birch.id));
        guest
    }

    /// Waits until exactly these names are published.
    async fn published(&self, names: &[&str]) {
        let names: BTreeSet<String> = names.iter().map(|n| n.to_string()).collect();
        let mut published = self.door.published();
        timeout(PATIENCE, published.wait_for(|now| *now == names)).await.expect("published in time").unwrap();
    }

    /// Asks the guest's actor from the other node.
    async fn add(&self, name: &str, a: u64, b: u64) -> Result<u64, Error> {
        self.alder.directory.at::<Calc>(self.birch.id, name).ask(PATIENCE, |to| Calc::Add(a, b, to)).await
    }
}

fn up(id: NodeId) -> member::Member {
    member::Member {
        id,
        name: "alder".into(),
        state: member::State::Up,
        addresses: Vec::new(),
        joined_ms: 0,
        seen_ms: 0,
        load: member::Load::default(),
        card: Default::default(),
    }
}

struct Guest {
    child: Child,
    orders: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Guest {
    fn start(door: SocketAddr, cookie: PathBuf, names: &str) -> Guest {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["guest_program", "--exact", "--nocapture"])
            .env("SKEP_TEST_DOOR", door.to_string())
            .env("SKEP_TEST_COOKIE", cookie)
            .env("SKEP_TEST_NAMES", names)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (orders, out) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Guest { child, orders, lines: BufReader::new(out).lines() }
    }

    /// The next line that is the guest's own, not the test harness's.
    async fn line(&mut self) -> String {
        loop {
            let line = timeout(PATIENCE, self.lines.next_line()).await.expect("a line in time").unwrap();
            // The harness ends its line only after the test, so the guest's first stands behind it.
            if let Some((_, said)) = line.expect("the guest is there").split_once("| ") {
                return said.into();
            }
        }
    }

    async fn order(&mut self, order: &str) -> String {
        self.send(order).await;
        self.line().await
    }

    async fn send(&mut self, order: &str) {
        self.orders.write_all(format!("{order}\n").as_bytes()).await.unwrap();
    }
}

// ---- What a door does ----

#[tokio::test]
async fn a_guests_actor_is_called_from_another_node() {
    let house = House::open().await;
    let _guest = house.guest("calc").await;
    house.published(&["calc"]).await;
    assert_eq!(house.add("calc", 2, 3).await, Ok(5));
    assert_eq!(house.add("clac", 2, 3).await, Err(Error::NoSuchActor("clac".into())));
}

#[tokio::test]
async fn a_guest_calls_an_actor_on_another_node() {
    let house = House::open().await;
    house.alder.directory.spawn_within(Reach::Guests, "adder", Adder(1000), (), None).await.unwrap();
    let mut guest = house.guest("calc").await;
    let (alder, birch) = (house.alder.id, house.birch.id);
    assert_eq!(guest.order(&format!("add {alder} adder 2 3")).await, "1005");
    assert_eq!(guest.order(&format!("add {alder} nobody 2 3")).await, "error 1: no actor named nobody on that node");
    assert!(guest.order(&format!("add {} adder 2 3", NodeId::from_bytes([9; 32]))).await.starts_with("error "));
    assert!(guest.order("add nowhere adder 2 3").await.starts_with("error 7: "));
    assert_eq!(guest.order("nodes").await, format!("{alder} alder"));
    // A guest's own actor, and another guest's, by the same way.
    house.published(&["calc"]).await;
    assert_eq!(guest.order(&format!("add {birch} calc 2 3")).await, "5");
    let mut other = house.guest("second").await;
    assert_eq!(other.order(&format!("add {birch} calc 3 4")).await, "7");
}

/// A9: a program that has the guests' cookie and no token of the owner's answers approvals, or writes the ledger.
#[tokio::test]
async fn a_guest_asks_nothing_of_a_nodes_own_actors_here_or_elsewhere() {
    const OWN: [&str; 5] = ["approvals", "agents", "ledger", "threads", "budget"];
    let house = House::open().await;
    for node in [&house.alder, &house.birch] {
        for name in OWN {
            node.directory.spawn(name, Adder(1000), (), None).await.unwrap();
        }
    }
    let mut guest = house.guest("calc").await;
    for node in [house.alder.id, house.birch.id] {
        for name in OWN {
            let said = guest.order(&format!("add {node} {name} 2 3")).await;
            assert!(said.starts_with("error 7: ") && said.contains("guests may not ask"), "{name}: {said}");
        }
    }
    assert_eq!(house.add("ledger", 2, 3).await, Ok(1005), "members may");
}

/// The same by what `ractor_cluster` gives every peer: the numbers of all actors of the process.
#[tokio::test]
async fn a_guest_that_calls_an_actor_by_its_number_is_turned_out() {
    let house = House::open().await;
    house.birch.directory.spawn("approvals", Adder(1000), (), None).await.unwrap();
    let mut guest = house.guest("calc").await;
    assert_eq!(guest.order("past").await, "turned out");
    assert_eq!(house.add("approvals", 2, 3).await, Ok(1005));
}

#[tokio::test]
async fn a_killed_guest_fails_its_calls_at_once_and_may_come_back_under_its_name() {
    let house = House::open().await;
    let mut guest = house.guest("calc").await;
    house.published(&["calc"]).await;
    let calc = house.alder.directory.at::<Calc>(house.birch.id, "calc");
    // Its deadline is far away: it fails when the guest does, or the test does before.
    let never = calc.ask(ASK_TIMEOUT_MAX, Calc::Never);
    // The second question is answered after the first was taken: it is in flight when the guest is killed.
    let kill = async {
        assert_eq!(house.add("calc", 1, 1).await, Ok(2));
        guest.child.kill().await.unwrap();
    };
    let (never, ()) = timeout(PATIENCE, async { tokio::join!(never, kill) }).await.unwrap();
    assert_eq!(never, Err(Error::NoReply));
    house.published(&[]).await;
    assert_eq!(house.add("calc", 2, 3).await, Err(Error::NoSuchActor("calc".into())));

    let _again = house.guest("calc").await;
    house.published(&["calc"]).await;
    assert_eq!(house.add("calc", 2, 3).await, Ok(5));
}

#[tokio::test]
async fn a_guest_without_the_cookie_gets_nothing() {
    let house = House::open().await;
    let wrong = house.folder.path().join("wrong");
    Cookie::load_or_create(&wrong, &Env::machine().base).unwrap();
    let mut guest = Guest::start(house.door.addr(), wrong, "calc");
    assert_eq!(guest.line().await, "refused");
    assert!(house.door.published().borrow().is_empty());
    assert_eq!(house.add("calc", 2, 3).await, Err(Error::NoSuchActor("calc".into())));
}

#[tokio::test]
async fn a_guest_takes_no_name_over_and_gives_its_own_back() {
    let house = House::open().await;
    house.birch.directory.spawn("node", Adder(1000), (), None).await.unwrap();
    let mut guest = house.guest("node calc spare").await;
    house.published(&["calc", "spare"]).await;
    assert_eq!(house.add("node", 2, 3).await, Ok(1005));
    // A second guest waits for the name until the first gives it back; the first's other names stay.
    let _second = house.guest("calc late").await;
    house.published(&["calc", "late", "spare"]).await;
    // The door hears of both in this order: without `spare`, `calc` has changed hands.
    guest.send("leave calc").await;
    guest.send("leave spare").await;
    house.published(&["calc", "late"]).await;
    assert_eq!(house.add("spare", 2, 3).await, Err(Error::NoSuchActor("spare".into())));
    guest.child.kill().await.unwrap();
    assert_eq!(house.add("calc", 2, 3).await, Ok(5));
}

#[tokio::test]
async fn more_calls_than_a_mailbox_holds_get_through() {
    let house = House::open().await;
    let _guest = house.guest("calc").await;
    house.published(&["calc"]).await;
    let calls = (0..3000).map(|i| {
        let house = &house;
        async move { assert_eq!(house.add("calc", i, 1).await, Ok(i + 1)) }
    });
    timeout(PATIENCE, futures::future::join_all(calls)).await.expect("every credit comes back");
}

#[tokio::test]
async fn a_dropped_door_turns_everyone_out() {
    let house = House::open().await;
    let mut guest = house.guest("calc").await;
    house.published(&["calc"]).await;
    let House { alder, birch, door, _alone, .. } = house;
    let addr = door.addr();
    drop(door);
    assert_eq!(guest.line().await, "turned out");
    let closed = async {
        while TcpStream::connect(addr).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, closed).await.expect("the port is closed");
    let calc = alder.directory.at::<Calc>(birch.id, "calc");
    assert!(calc.ask(PATIENCE, |to| Calc::Add(2, 3, to)).await.is_err());
}

#[tokio::test]
async fn whoever_says_nothing_is_turned_out() {
    let house = House::open().await;
    let mut silent = TcpStream::connect(house.door.addr()).await.unwrap();
    let read = timeout(PATIENCE, silent.read(&mut [0; 64])).await.expect("closed in time");
    assert!(matches!(read, Ok(0) | Err(_)));
}

#[tokio::test]
async fn one_guest_too_many_is_turned_away_and_the_others_stay() {
    let house = House::open().await;
    let mut guests = Vec::new();
    for _ in 0..=GUESTS_MAX {
        guests.push(TcpStream::connect(house.door.addr()).await.unwrap());
    }
    let read = timeout(PATIENCE, guests[GUESTS_MAX].read(&mut [0; 64])).await.expect("closed in time");
    assert!(matches!(read, Ok(0) | Err(_)));
    let stays = timeout(Duration::ZERO, guests[GUESTS_MAX - 1].read(&mut [0; 64])).await;
    assert!(stays.is_err(), "it has time to show the cookie");
}

#[tokio::test]
async fn a_door_opens_on_loopback_alone() {
    let id = NodeId::from_bytes([1; 32]);
    let folder = tempfile::tempdir().unwrap();
    let cookie = Cookie::load_or_create(&folder.path().join("guest"), &Env::machine().base).unwrap();
    let open = Door::open(skep_runtime::Directory::new(id), Members::new(id), cookie, ([0, 0, 0, 0], 0).into()).await;
    assert!(matches!(open, Err(OpenError::NotLoopback(_))));
}
