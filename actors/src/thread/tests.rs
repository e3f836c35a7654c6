//! Threads over several nodes, from the outside: real agents, budgets and ledgers, a scripted model.

use super::{
    Message, NAME, Order, Origin, Post, Posted, Role, State, Status, ThreadError, Turn,
    core::{Action, Core, THREADS_MAX},
    messages::{Ask, Exchange, Grade, Page, Said, Thread, Wanted, WantedSaid},
};
use crate::{
    agent::{
        self, AgentError, Goal, Run, RunState, Step, Strategy,
        stage::{Stage, goal},
    },
    budget, ledger,
    organism::{self, OrganismError, Standing},
    pipeline::Generate,
};
use futures::{FutureExt, future::BoxFuture};
use ractor::RpcReplyPort;
use serde::{Serialize, de::DeserializeOwned};
use skep_runtime::Wire;
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};
use uuid::Uuid;

const AGENTS: &str = r#"
[[agents]]
name = "lead"
description = "leads"
instructions = "You lead."
tools = ["list_cluster_nodes"]
peers = ["clerk"]

[[agents]]
name = "clerk"
description = "knows figures"
instructions = "You know figures."

[[agents]]
name = "typed"
description = "wants fields"
payload_class = "Question"
payload = { question = "text", urgency = "number?" }
"#;

/// A swarm whose threads work.
struct Play {
    stage: Stage,
}

impl Play {
    async fn new(n: usize, script: impl Fn(&Generate) -> BoxFuture<'static, String> + Send + Sync + 'static) -> Play {
        let play = Play { stage: Stage::new(n, script).await };
        for i in 0..n {
            play.start(i).await;
        }
        let load = |reply| organism::Message::Load(Wire(AGENTS.into()), reply);
        play.organism(load).await.unwrap();
        play.until("all know the agents", async |play: &Play| {
            (0..n).all(|i| organism::agent(&play.stage.swarm.context(i).ledger, "typed").unwrap().is_some())
        })
        .await;
        play
    }

    async fn start(&self, i: usize) {
        let (context, root) = (self.stage.swarm.context(i), self.stage.swarm.root(i));
        organism::start(context, root.clone()).await.unwrap();
        super::start(context, root).await.unwrap();
    }

    async fn organism<T>(&self, make: impl FnOnce(RpcReplyPort<Wire<T>>) -> organism::Message) -> T
    where
        T: Serialize + DeserializeOwned + Send + 'static,
    {
        let organism = self.stage.swarm.context(0).directory.here::<organism::Message>(organism::NAME);
        organism.ask(Duration::from_secs(20), make).await.unwrap()
    }

    async fn ask<T>(&self, i: usize, make: impl FnOnce(RpcReplyPort<Wire<T>>) -> Message) -> T
    where
        T: Serialize + DeserializeOwned + Send + 'static,
    {
        let threads = self.stage.swarm.context(i).directory.here::<Message>(NAME);
        threads.ask(Duration::from_secs(290), make).await.unwrap()
    }

    async fn post(&self, i: usize, post: Post) -> Result<Posted, ThreadError> {
        self.ask(i, |reply| Message::Post(Wire(Order::new(post)), reply)).await
    }

    async fn say(&self, to: &str, text: &str) -> Posted {
        self.post(0, post(to, text)).await.unwrap()
    }

    async fn ended(&self, i: usize, turn: Uuid) -> Turn {
        self.ask(i, |reply| Message::Await(Wire(turn), reply)).await.unwrap()
    }

    async fn thread(&self, i: usize, id: Uuid) -> Thread {
        self.ask(i, |reply| Message::Get(Wire(id), reply)).await.unwrap()
    }

    async fn said(&self, i: usize, thread: Uuid) -> Vec<Said> {
        let wanted = WantedSaid { thread: Some(thread), agent: None, oldest_first: true, offset: 0, limit: 100 };
        let page: Page<Said> = self.ask(i, |reply| Message::Said(Wire(wanted), reply)).await.unwrap();
        page.items
    }

    async fn words(&self, thread: Uuid) -> Vec<(String, String)> {
        self.said(0, thread).await.into_iter().map(|said| (said.from.clone(), said.content())).collect()
    }

    async fn until(&self, what: &str, so: impl AsyncFn(&Play) -> bool) {
        let seen = async {
            while !so(self).await {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(Duration::from_secs(120), seen).await.unwrap_or_else(|_| panic!("not seen: {what}"));
    }

    async fn running(&self, i: usize, turn: Uuid) -> Turn {
        loop {
            let known: Result<Turn, ThreadError> = self.ask(i, |reply| Message::Turn(Wire(turn), reply)).await;
            match known {
                Ok(turn) if turn.state == State::Running && !turn.steps.is_empty() => return turn,
                _ => sleep(Duration::from_millis(50)).await,
            }
        }
    }
}

fn post(to: &str, text: &str) -> Post {
    Post {
        thread: None,
        to: Some(to.into()),
        from: "user".into(),
        kind: None,
        payload: serde_json::json!({ "content": text }).to_string(),
        origin: Origin::Message,
        budget: None,
        only_idle: false,
    }
}

fn say(text: impl Into<String>) -> BoxFuture<'static, String> {
    let text = text.into();
    async move { text }.boxed()
}

fn last(request: &Generate) -> &str {
    &request.turns.last().unwrap().content
}

#[tokio::test(start_paused = true)]
async fn a_message_is_answered_and_both_are_known_everywhere() {
    let play = Play::new(2, |request| say(format!("you said {}", last(request)))).await;
    let posted = play.say("clerk", "two").await;
    let turn = play.ended(0, posted.turn).await;
    assert_eq!((turn.state, turn.attempt, turn.agent.as_str()), (State::Completed, 1, "clerk"), "{turn:?}");
    assert!(turn.prompt > 0 && turn.completion == 3 && turn.model.as_deref() == Some("m"), "{turn:?}");
    let thread = play.thread(0, posted.thread).await;
    assert_eq!(
        (thread.status, thread.last, thread.participants),
        (Status::Completed, 2, vec!["user".into(), "clerk".into()])
    );
    assert_eq!(thread.prompt + thread.completion, play.stage.generated());
    let there = play.ended(1, posted.turn).await;
    assert_eq!((there.state, there.model), (State::Completed, turn.model));
    play.until("the other node has both messages", async |play: &Play| play.said(1, posted.thread).await.len() == 2)
        .await;
    assert_eq!(play.words(posted.thread).await[1], ("clerk".into(), "you said two".into()));
}

#[tokio::test(start_paused = true)]
async fn an_agent_is_told_who_it_is_and_what_was_said_before() {
    let play = Play::new(1, |request| {
        let told: Vec<&str> = request.turns.iter().map(|turn| turn.role.as_str()).collect();
        say(format!("{} {}", told.join(","), request.turns[0].content.starts_with("You know figures.")))
    })
    .await;
    let posted = play.say("clerk", "one").await;
    play.ended(0, posted.turn).await;
    let again = play.post(0, Post { thread: Some(posted.thread), ..post("clerk", "two") }).await.unwrap();
    let turn = play.ended(0, again.turn).await;
    let words = play.words(posted.thread).await;
    assert_eq!((words[1].1.as_str(), words[3].1.as_str()), ("system,user true", "system,user,assistant,user true"));
    assert_eq!(turn.context.unwrap().depth, 2);
}

#[tokio::test(start_paused = true)]
async fn an_agent_asks_its_peer_in_the_same_thread_and_no_one_else() {
    let play = Play::new(2, |request| match request.turns[0].content.starts_with("You lead.") {
        true if last(request).contains("forty-two") => say("{\"answer\": \"it is 42\"}"),
        true if last(request).contains("none of its peers") => {
            say("{\"tool\": \"ask_agent\", \"args\": {\"agent\": \"clerk\", \"message\": \"how many?\"}}")
        }
        true => say("{\"tool\": \"ask_agent\", \"args\": {\"agent\": \"typed\", \"message\": \"how many?\"}}"),
        false => say(if last(request).contains("The agent lead asks you") { "forty-two" } else { "who?" }),
    })
    .await;
    let posted = play.say("lead", "find out").await;
    let turn = play.ended(0, posted.turn).await;
    assert_eq!(turn.state, State::Completed, "{turn:?}");
    let words = play.words(posted.thread).await;
    let words: Vec<(&str, &str)> = words.iter().map(|(from, text)| (from.as_str(), text.as_str())).collect();
    assert_eq!(words, [("user", "find out"), ("lead", "how many?"), ("clerk", "forty-two"), ("lead", "it is 42")]);
    let thread = play.thread(0, posted.thread).await;
    assert_eq!((thread.status, thread.turns), (Status::Completed, 2));
    assert_eq!(thread.prompt + thread.completion, play.stage.generated(), "one budget for both");
}

#[tokio::test(start_paused = true)]
async fn a_turn_whose_node_dies_goes_on_elsewhere_from_its_last_step() {
    let (calls, stuck) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let (seen, wait) = (calls.clone(), stuck.clone());
    let mut play = Play::new(3, move |request| {
        if request.turns.len() == 2 {
            seen.fetch_add(1, Ordering::SeqCst);
            return say("{\"tool\": \"list_cluster_nodes\", \"args\": {}}");
        }
        let wait = wait.clone();
        async move {
            wait.notified().await;
            "{\"answer\": \"listed\"}".to_owned()
        }
        .boxed()
    })
    .await;
    // The model lives on node 0, which is to live; the thread's owner is node 0, too.
    play.stage.swarm.show(0, |member| member.load.running = 50);
    play.stage.swarm.show(2, |member| member.load.running = 9);
    let posted = play.say("lead", "list them").await;
    let turn = play.running(0, posted.turn).await;
    assert_eq!(turn.node, Some(play.stage.swarm.id(1)));
    play.until("the tool was called, and what came of it thought about", async |play: &Play| {
        let known: Result<Turn, ThreadError> = play.ask(0, |reply| Message::Turn(Wire(posted.turn), reply)).await;
        known.is_ok_and(|turn| turn.steps.len() >= 3)
    })
    .await;
    sleep(Duration::from_secs(1)).await;
    play.stage.swarm.kill(1).await;
    sleep(Duration::from_secs(10)).await;
    stuck.notify_waiters();
    stuck.notify_one();
    let turn = play.ended(0, posted.turn).await;
    assert_eq!((turn.state, turn.attempt), (State::Completed, 2), "{turn:?}");
    assert_eq!(calls.load(Ordering::SeqCst), 1, "what was thought is not thought again");
    assert_eq!(turn.steps.iter().filter(|step| step.tool == "list_cluster_nodes").count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_thread_whose_owner_dies_is_answered_by_its_heir_within_its_budget() {
    let stuck = Arc::new(Notify::new());
    let wait = stuck.clone();
    let mut play = Play::new(3, move |_| {
        let wait = wait.clone();
        async move {
            wait.notified().await;
            "done".to_owned()
        }
        .boxed()
    })
    .await;
    play.stage.swarm.show(0, |member| member.load.running = 50);
    let posted = play.post(1, Post { budget: Some(5000), ..post("clerk", "work") }).await.unwrap();
    play.running(1, posted.turn).await;
    sleep(Duration::from_secs(1)).await;
    play.stage.swarm.kill(1).await;
    sleep(Duration::from_secs(20)).await;
    for _ in 0..8 {
        stuck.notify_one();
        sleep(Duration::from_secs(5)).await;
    }
    let turn = play.ended(0, posted.turn).await;
    assert_eq!(turn.state, State::Completed, "{turn:?}");
    let thread = play.thread(0, posted.thread).await;
    assert_ne!(thread.owner, play.stage.swarm.id(1));
    assert!(thread.prompt + thread.completion <= 5000, "{thread:?}");
}

#[tokio::test(start_paused = true)]
async fn what_an_owner_that_dies_may_have_spent_is_on_record_and_its_run_elsewhere_goes_on() {
    let rounds = Arc::new(AtomicUsize::new(0));
    let count = rounds.clone();
    let mut play = Play::new(3, move |_| {
        let count = count.clone();
        async move {
            sleep(Duration::from_secs(2)).await;
            match count.fetch_add(1, Ordering::SeqCst) {
                0..12 => r#"{"tool":"list_cluster_nodes","args":{}}"#.to_owned(),
                _ => "done".to_owned(),
            }
        }
        .boxed()
    })
    .await;
    // It is worked on elsewhere than it is kept.
    play.stage.swarm.show(1, |member| member.load.running = 50);
    play.stage.swarm.show(0, |member| member.load.running = 50);
    let posted = play.post(1, Post { budget: Some(60_000), ..post("lead", "work") }).await.unwrap();
    let begun = play.running(0, posted.turn).await;
    assert_eq!(begun.node, Some(play.stage.swarm.id(2)));
    sleep(Duration::from_secs(5)).await;
    play.stage.swarm.kill(1).await;
    let turn = play.ended(0, posted.turn).await;
    assert_eq!((turn.state, turn.attempt, turn.run), (State::Completed, 1, begun.run), "the same run: {turn:?}");
    let thread = play.thread(0, posted.thread).await;
    assert_ne!(thread.owner, play.stage.swarm.id(1));
    let spent = play.stage.generated();
    assert!(spent <= thread.charged.tokens && thread.charged.tokens <= 60_000, "{spent}: {thread:?}");
}

#[tokio::test(start_paused = true)]
async fn a_thread_is_told_once_at_each_threshold_of_its_budget() {
    let play = Play::new(2, |_| say("yes")).await;
    let posted = play.post(0, Post { budget: Some(2000), ..post("clerk", "one") }).await.unwrap();
    play.ended(0, posted.turn).await;
    // Until one is refused, for an answer might take more than is left.
    for _ in 0..100 {
        let more = Post { thread: Some(posted.thread), ..post("clerk", "one") };
        let turn = play.post(1, more).await.unwrap().turn;
        if play.ended(1, turn).await.state == State::Failed {
            break;
        }
    }
    play.until("it was told", async |play: &Play| {
        play.said(1, posted.thread).await.iter().any(|said| said.role == Role::System)
    })
    .await;
    let told = play.said(0, posted.thread).await;
    let told: Vec<&Said> = told.iter().filter(|said| said.role == Role::System).collect();
    assert!((1..=3).contains(&told.len()), "{told:?}");
    assert!(
        told.iter().all(|said| said.from == "budget" && said.content().contains("of this thread's budget is used"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_goal_goes_on_elsewhere_with_what_its_sub_agents_had_done_and_is_found_by_the_same_id() {
    let mapped = Arc::new(AtomicUsize::new(0));
    let count = mapped.clone();
    let mut play = Play::new(3, move |request: &Generate| {
        let (map, count) = (last(request).contains("one part"), count.clone());
        async move {
            if map {
                count.fetch_add(1, Ordering::SeqCst);
                sleep(Duration::from_secs(1)).await;
                return "a part".into();
            }
            // Putting it together takes long: the first one who does dies.
            sleep(Duration::from_secs(8)).await;
            "the whole".to_owned()
        }
        .boxed()
    })
    .await;
    let documents = (0..6).map(|n| (format!("page {n}"), format!("The {n}th bee went out. "))).collect();
    let goal = Goal {
        goal: "What happened?".into(),
        strategy: Strategy::MapReduce,
        budget: 20_000,
        documents,
        ..Goal::default()
    };
    let given = play.stage.ask(1, |r| agent::Message::Give(Wire(goal), r)).await.unwrap();
    assert_eq!((given.state, given.thread), (RunState::Pending, given.id));
    play.until("it puts together", async |play: &Play| {
        let run = play.stage.get(0, given.id).await;
        run.is_ok_and(|run| run.steps.iter().any(|step| step.tool == "reduce"))
    })
    .await;
    sleep(Duration::from_secs(3)).await;
    let before = mapped.load(Ordering::SeqCst);
    play.stage.swarm.kill(1).await;
    play.ended(0, given.id).await;
    for i in [0, 2] {
        let run = play.stage.get(i, given.id).await.unwrap();
        assert_eq!((run.state, run.given(), run.output.as_deref()), (RunState::Completed, given.id, Some("the whole")));
        assert_eq!(run.steps.iter().filter(|step| step.tool == "map").count(), 6, "{run:?}");
    }
    assert_eq!((before, mapped.load(Ordering::SeqCst)), (6, 6), "no part was done again");
    let listed = play.stage.ask(2, |r| agent::Message::List(Wire(10), r)).await;
    assert_eq!(listed.iter().filter(|run| run.given() == given.id).count(), 1);
    let thread = play.thread(0, given.id).await;
    assert!(play.stage.generated() <= thread.charged.tokens && thread.charged.tokens <= 20_000, "{thread:?}");
}

#[tokio::test(start_paused = true)]
async fn a_goal_is_followed_from_before_it_begins_to_its_end() {
    let play = Play::new(2, |_| say("seven")).await;
    let goal = Goal { goal: "Count.".into(), budget: 5000, ..Goal::default() };
    let given = play.stage.ask(0, |r| agent::Message::Give(Wire(goal), r)).await.unwrap();
    // From the other node, at once.
    play.until("it is heard of", async |play: &Play| play.stage.get(1, given.id).await.is_ok()).await;
    let events = play.stage.follow(1, given.id, |_| false).await;
    assert_eq!(events.last(), Some(&agent::Event::End));
    let runs = || events.iter().filter_map(|event| if let agent::Event::Run(run) = event { Some(run) } else { None });
    assert!(runs().all(|run| run.given() == given.id));
    assert_eq!(
        runs().next_back().map(|run| (run.state, run.output.clone())),
        Some((RunState::Completed, Some("seven".into())))
    );
    let budget = play.stage.swarm.context(0).directory.here::<budget::Message>(budget::NAME);
    play.until("its budget is over", async |_: &Play| {
        let tried =
            budget.ask(Duration::from_secs(5), |r| budget::Message::Reserve(Wire((given.id, 1.into())), r)).await;
        matches!(tried.unwrap(), Err(budget::BudgetError::Ended(_)))
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_goal_that_is_ended_from_any_node_stays_ended() {
    let play = Play::new(3, |_| std::future::pending().boxed()).await;
    for by in [0, 2] {
        let goal = Goal { goal: "Count.".into(), budget: 5000, ..Goal::default() };
        let given = play.stage.ask(1, |r| agent::Message::Give(Wire(goal), r)).await.unwrap();
        if by == 2 {
            play.until("it is worked on", async |play: &Play| play.stage.busy(1)).await;
        }
        play.until("it is heard of", async |play: &Play| play.stage.get(by, given.id).await.is_ok()).await;
        // One before it begins, perhaps, one while it is worked on.
        let ended = play.stage.ask(by, |r| agent::Message::Cancel(Wire(given.id), r)).await.unwrap();
        assert_eq!(ended.state, RunState::Cancelled, "{ended:?}");
        play.until("nobody works on it", async |play: &Play| (0..3).all(|i| !play.stage.busy(i))).await;
        sleep(Duration::from_secs(60)).await;
        for i in 0..3 {
            let run = play.stage.get(i, given.id).await.unwrap();
            assert_eq!((run.state, play.stage.busy(i)), (RunState::Cancelled, false), "{run:?}");
        }
        let again = play.stage.ask(by, |r| agent::Message::Cancel(Wire(given.id), r)).await;
        assert_eq!(again.map(|run| run.state), Ok(RunState::Cancelled));
    }
}

#[tokio::test(start_paused = true)]
async fn a_killed_thread_thinks_no_more_and_takes_no_more() {
    let play = Play::new(2, |_| std::future::pending().boxed()).await;
    let posted = play.say("clerk", "work").await;
    play.running(0, posted.turn).await;
    // From the node that doesn't own it.
    let killed: Thread = play.ask(1, |r| Message::Kill(Wire(Order::new(posted.thread)), r)).await.unwrap();
    assert_eq!(killed.status, Status::Killed);
    let turn = play.ended(0, posted.turn).await;
    assert_eq!(turn.state, State::Cancelled);
    play.until("nobody thinks", async |play: &Play| !play.stage.busy(0) && !play.stage.busy(1)).await;
    let more = play.post(0, Post { thread: Some(posted.thread), ..post("clerk", "more") }).await;
    assert_eq!(more, Err(ThreadError::Killed(posted.thread)));
    let budget = play.stage.swarm.context(0).directory.here::<budget::Message>(budget::NAME);
    let tried =
        budget.ask(Duration::from_secs(5), |r| budget::Message::Reserve(Wire((posted.thread, 1.into())), r)).await;
    assert!(matches!(tried.unwrap(), Err(budget::BudgetError::Ended(_))));
}

#[tokio::test(start_paused = true)]
async fn what_a_paused_agent_is_told_waits_and_a_stopped_one_takes_nothing() {
    let play = Play::new(1, |_| say("yes")).await;
    let set = |standing| move |r| organism::Message::Set(Wire(("clerk".to_owned(), standing)), r);
    play.organism(set(Standing::Paused)).await.unwrap();
    let posted = play.say("clerk", "work").await;
    sleep(Duration::from_secs(30)).await;
    let waits: Turn = play.ask(0, |r| Message::Turn(Wire(posted.turn), r)).await.unwrap();
    assert_eq!((waits.state, waits.attempt), (State::Waiting, 0));
    play.organism(set(Standing::Stopped)).await.unwrap();
    assert_eq!(play.post(0, post("clerk", "more")).await, Err(ThreadError::Stopped("clerk".into())));
    play.organism(set(Standing::Ready)).await.unwrap();
    assert_eq!(play.ended(0, posted.turn).await.state, State::Completed);
}

#[tokio::test(start_paused = true)]
async fn what_makes_no_sense_is_told_and_nothing_is_kept_of_it() {
    let play = Play::new(1, |_| say("yes")).await;
    let field = |error| match error {
        Err(ThreadError::Invalid { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    let with = |payload: &str| Post { payload: payload.into(), ..post("typed", "") };
    assert_eq!(field(play.post(0, with("[]")).await), "payload");
    assert_eq!(field(play.post(0, with("{}")).await), "payload.question");
    assert_eq!(field(play.post(0, with("{\"question\": 3}")).await), "payload.question");
    assert_eq!(
        field(play.post(0, with("{\"Question\": {\"question\": \"q\", \"urgency\": \"high\"}}")).await),
        "payload.urgency"
    );
    assert_eq!(field(play.post(0, post("clerk", " ")).await), "content");
    let long = play.post(0, post("clerk", &"x".repeat(40 << 10))).await;
    assert!(matches!(long, Err(ThreadError::TooLarge { .. })), "{long:?}");
    assert_eq!(play.post(0, post("ghost", "x")).await, Err(ThreadError::NoSuchAgent("ghost".into())));
    let nowhere = Uuid::from_u128(7);
    let unknown = play.post(0, Post { thread: Some(nowhere), ..post("clerk", "x") }).await;
    assert_eq!(unknown, Err(ThreadError::NoSuchThread(nowhere)));
    let all: Page<Thread> = play.ask(0, |r| Message::List(Wire(Wanted { limit: 100, ..Wanted::default() }), r)).await;
    assert_eq!(all.total, 0);
    let good = play.post(0, with("{\"Question\": {\"question\": \"q\"}}")).await.unwrap();
    assert_eq!(play.ended(0, good.turn).await.state, State::Completed);
}

#[tokio::test(start_paused = true)]
async fn a_thread_whose_budget_is_spent_is_told_before_anything_is_burnt() {
    let play = Play::new(1, |_| say("a b c d e f")).await;
    let posted = play.post(0, Post { budget: Some(20), ..post("clerk", "work") }).await.unwrap();
    let turn = play.ended(0, posted.turn).await;
    assert_eq!(turn.state, State::Failed);
    assert!(turn.error.unwrap().contains("budget is exhausted"));
    assert_eq!(play.stage.generated(), 0);
    assert_eq!(play.thread(0, posted.thread).await.status, Status::Error);
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_graded_once_and_may_be_graded_otherwise() {
    let play = Play::new(2, |_| say("yes")).await;
    let posted = play.say("clerk", "work").await;
    play.ended(0, posted.turn).await;
    let grade = |grade, again| Grade { turn: posted.turn, grade, comment: Some("good".into()), again };
    let give = |i, given: Grade| play.ask(i, move |r| Message::Grade(Wire(Order::new(given)), r));
    let told: Result<Turn, ThreadError> = give(0, grade(4, true)).await;
    assert_eq!(told.unwrap_err(), ThreadError::NoFeedback(posted.turn));
    assert!(matches!(give(0, grade(9, false)).await, Err(ThreadError::Invalid { .. })));
    assert_eq!(give(1, grade(4, false)).await.unwrap().feedback.unwrap().grade, 4);
    assert_eq!(give(0, grade(5, false)).await.unwrap_err(), ThreadError::Graded(posted.turn));
    assert_eq!(give(0, grade(5, true)).await.unwrap().feedback.unwrap().grade, 5);
}

#[tokio::test(start_paused = true)]
async fn turns_of_one_agent_in_one_thread_come_one_after_the_other() {
    let order = Arc::new(Mutex::new(Vec::new()));
    let seen = order.clone();
    let play = Play::new(1, move |request| {
        seen.lock().unwrap().push(last(request).to_owned());
        async {
            sleep(Duration::from_secs(3)).await;
            "yes".to_owned()
        }
        .boxed()
    })
    .await;
    let first = play.say("clerk", "1").await;
    for n in 2..5 {
        play.post(0, Post { thread: Some(first.thread), ..post("clerk", &n.to_string()) }).await.unwrap();
    }
    let busy = play.post(0, Post { thread: Some(first.thread), only_idle: true, ..post("clerk", "5") }).await;
    assert_eq!(busy, Err(ThreadError::Busy(first.thread)));
    play.until("all are answered", async |play: &Play| {
        let thread = play.thread(0, first.thread).await;
        thread.status == Status::Completed && thread.last == 8
    })
    .await;
    assert_eq!(*order.lock().unwrap(), ["1", "2", "3", "4"]);
    let roles: Vec<Role> = play.said(0, first.thread).await.iter().map(|said| said.role).collect();
    assert_eq!(roles.iter().filter(|role| **role == Role::Assistant).count(), 4);
}

#[tokio::test(start_paused = true)]
async fn what_was_said_outlives_the_machine_and_is_answered_when_it_is_back() {
    let mut play = Play::new(2, |_| say("yes")).await;
    let set = |standing| move |r| organism::Message::Set(Wire(("clerk".to_owned(), standing)), r);
    play.organism(set(Standing::Paused)).await.unwrap();
    let posted = play.post(1, post("clerk", "work")).await.unwrap();
    play.stage.swarm.kill(1).await;
    play.stage.swarm.restart(1).await;
    play.stage.start(1).await;
    play.start(1).await;
    play.organism(set(Standing::Ready)).await.unwrap();
    let turn = play.ended(0, posted.turn).await;
    assert_eq!(turn.state, State::Completed, "{turn:?}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_too_large_is_cut_and_stops_nothing_else() {
    let play = Play::new(1, |request| match last(request) {
        "hang" => std::future::pending().boxed(),
        _ => say("yes"),
    })
    .await;
    let posted = play.say("clerk", "hang").await;
    let run: Run = play.stage.get(0, play.running(0, posted.turn).await.run).await.unwrap();
    // Each of these characters takes six bytes in JSON.
    let step = Step { args: "\u{1}".repeat(5 << 10), tool: "x".repeat(5 << 10), ..run.steps[0].clone() };
    let forged =
        Run { state: RunState::Completed, output: Some("\u{1}".repeat(300 << 10)), steps: vec![step; 64], ..run };
    play.ask(0, |reply| Message::Moved(Wire(forged), reply)).await.unwrap();
    let turn = play.ended(0, posted.turn).await;
    assert_eq!(turn.state, State::Completed, "{:?}", turn.error);
    play.until("its end and its answer are on the disk", async |play: &Play| {
        play.said(0, posted.thread).await.len() == 2
    })
    .await;
    assert!(play.said(0, posted.thread).await[1].content().contains("bytes left out"));
    let more = play.say("clerk", "and you?").await;
    assert_eq!(play.ended(0, more.turn).await.state, State::Completed);
    assert_eq!(play.words(more.thread).await[1].1, "yes");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_whose_turn_is_begun_elsewhere_is_ended_if_its_node_was_only_away() {
    let play = Play::new(3, |_| std::future::pending().boxed()).await;
    // The model lives on node 0, and so does the thread's owner.
    play.stage.swarm.show(0, |member| member.load.running = 50);
    play.stage.swarm.show(2, |member| member.load.running = 9);
    let posted = play.say("clerk", "work").await;
    let first = play.running(0, posted.turn).await;
    assert_eq!(first.node, Some(play.stage.swarm.id(1)));
    // Others don't see it any more, though it is there and sees them.
    play.stage.swarm.show(1, |member| member.state = skep_runtime::member::State::Down);
    play.until("it is begun elsewhere", async |play: &Play| {
        let known: Turn = play.ask(0, |reply| Message::Turn(Wire(posted.turn), reply)).await.unwrap();
        known.attempt == 2 && known.node == Some(play.stage.swarm.id(2))
    })
    .await;
    play.until("the first attempt is ended", async |play: &Play| !play.stage.busy(1)).await;
    let turn: Turn = play.ask(0, |reply| Message::Turn(Wire(posted.turn), reply)).await.unwrap();
    assert_eq!((turn.state, turn.attempt), (State::Running, 2));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_its_turn_does_not_wait_for_is_ended_when_it_reports() {
    let play = Play::new(1, |_| std::future::pending().boxed()).await;
    let posted = play.say("clerk", "work").await;
    let run = play.stage.get(0, play.running(0, posted.turn).await.run).await.unwrap();
    // As if it had been started for a turn that ended while it was.
    let mut goal = run.goal.clone();
    let seat = goal.seat.as_mut().unwrap();
    (seat.run, seat.turn) = (Uuid::from_u128(7), Uuid::from_u128(8));
    let stray = play.stage.run(goal).await;
    play.until("it is ended", async |play: &Play| play.stage.get(0, stray.id).await.unwrap().state.ended()).await;
    assert!(!play.stage.get(0, run.id).await.unwrap().state.ended());
}

#[tokio::test(start_paused = true)]
async fn what_was_refused_is_not_carried_out() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let heard = seen.clone();
    let play = Play::new(2, move |request| {
        heard.lock().unwrap().push(last(request).to_owned());
        std::future::pending().boxed()
    })
    .await;
    // All runs are on node 0, and one that goes on keeps it looking for what can begin.
    play.stage.swarm.show(1, |member| member.load.draining = true);
    let first = play.say("clerk", "first").await;
    play.running(0, first.turn).await;
    play.stage.swarm.part(0, 1);
    let refused = play.post(0, post("clerk", "second")).await;
    assert_eq!(refused, Err(ThreadError::Ledger(ledger::Error::Alone)));
    play.stage.swarm.meet(0, 1);
    let third = play.say("clerk", "third").await;
    play.running(0, third.turn).await;
    assert_eq!(*seen.lock().unwrap(), ["first", "third"]);
}

#[tokio::test(start_paused = true)]
async fn another_question_under_a_known_key_is_another_question_and_needs_a_peer_too() {
    let play = Play::new(1, |request| match request.turns[0].content.starts_with("You lead.") {
        true => std::future::pending().boxed(),
        false => say(last(request)),
    })
    .await;
    let posted = play.say("lead", "find out").await;
    play.running(0, posted.turn).await;
    let ask = async |to: &str, text: &str| -> Result<String, ThreadError> {
        let (to, text) = (to.to_owned(), text.to_owned());
        let ask = Ask { key: "k".into(), thread: posted.thread, turn: posted.turn, to, text };
        play.ask(0, |reply| Message::Ask(Wire(ask), reply)).await
    };
    assert!(ask("clerk", "one").await.unwrap().ends_with("one"));
    assert!(ask("clerk", "two").await.unwrap().ends_with("two"));
    assert!(ask("clerk", "one").await.unwrap().ends_with("one"));
    assert!(matches!(ask("typed", "one").await, Err(ThreadError::NoPeer { .. })));
    assert_eq!(play.thread(0, posted.thread).await.turns, 3, "the same question is asked once");
}

#[tokio::test(start_paused = true)]
async fn two_definitions_that_make_a_circle_make_nobody_wait_for_itself() {
    let play = Play::new(2, |request| match request.turns[0].content.starts_with("You lead.") {
        true if last(request).contains("nobody knows") => say("{\"answer\": \"so it is\"}"),
        true => say("{\"tool\": \"ask_agent\", \"args\": {\"agent\": \"clerk\", \"message\": \"how many?\"}}"),
        false if last(request).contains("waits for its answer") => say("{\"answer\": \"nobody knows\"}"),
        false => say("{\"tool\": \"ask_agent\", \"args\": {\"agent\": \"lead\", \"message\": \"and you?\"}}"),
    })
    .await;
    let load = async |i: usize, text: String| {
        let organism = play.stage.swarm.context(i).directory.here::<organism::Message>(organism::NAME);
        let loaded = organism.ask(Duration::from_secs(20), |reply| organism::Message::Load(Wire(text), reply)).await;
        assert_eq!(loaded.unwrap(), Err(OrganismError::Ledger(ledger::Error::Alone)));
    };
    let there = AGENTS.replace("peers = [\"clerk\"]", "").replace("\"knows figures\"", "\"asks\"\npeers = [\"lead\"]");
    play.stage.swarm.part(0, 1);
    load(1, there).await;
    load(0, AGENTS.replace("\"leads\"", "\"leads again\"")).await;
    play.stage.swarm.meet(0, 1);
    play.until("each knows both", async |play: &Play| {
        (0..2).all(|i| {
            let peers = |name| organism::agent(&play.stage.swarm.context(i).ledger, name).unwrap().unwrap().peers;
            peers("lead") == ["clerk"] && peers("clerk") == ["lead"]
        })
    })
    .await;
    let posted = play.say("lead", "find out").await;
    let turn = play.ended(0, posted.turn).await;
    assert_eq!(turn.state, State::Completed, "{turn:?}");
    assert_eq!(play.words(posted.thread).await.last().unwrap().1, "so it is");
}

#[tokio::test(start_paused = true)]
async fn what_an_agent_was_told_waits_for_it_to_be_defined_again_but_not_for_ever() {
    let play = Play::new(1, |_| say("yes")).await;
    let load = |text: String| move |reply| organism::Message::Load(Wire(text), reply);
    let set = |standing| move |r| organism::Message::Set(Wire(("clerk".to_owned(), standing)), r);
    play.organism(set(Standing::Paused)).await.unwrap();
    let posted = play.say("clerk", "work").await;
    play.organism(load("agents: [{name: other, description: d}]".into())).await.unwrap();
    sleep(Duration::from_secs(60)).await;
    play.organism(load(AGENTS.into())).await.unwrap();
    let waits: Turn = play.ask(0, |r| Message::Turn(Wire(posted.turn), r)).await.unwrap();
    assert_eq!(waits.state, State::Waiting, "{:?}", waits.error);
    play.organism(set(Standing::Ready)).await.unwrap();
    assert_eq!(play.ended(0, posted.turn).await.state, State::Completed);

    play.organism(set(Standing::Paused)).await.unwrap();
    let posted = play.say("clerk", "more").await;
    play.organism(load("agents: [{name: other, description: d}]".into())).await.unwrap();
    sleep(Duration::from_secs(11 * 60)).await;
    let gone = play.ended(0, posted.turn).await;
    assert_eq!((gone.state, gone.error.as_deref()), (State::Failed, Some("there is no agent clerk any more")));
}

#[tokio::test(start_paused = true)]
async fn what_two_halves_of_a_swarm_were_told_in_one_thread_is_all_kept_and_all_answered() {
    let play = Play::new(2, |request| say(format!("you said {}", last(request)))).await;
    let set = |standing| move |r| organism::Message::Set(Wire(("clerk".to_owned(), standing)), r);
    play.organism(set(Standing::Paused)).await.unwrap();
    let first = play.say("clerk", "one").await;
    play.until("both know the thread and that the agent is paused", async |play: &Play| {
        play.ask(1, |reply| Message::Get(Wire(first.thread), reply)).await.is_ok()
            && organism::standing(&play.stage.swarm.context(1).ledger, "clerk").unwrap() == Standing::Paused
    })
    .await;
    play.stage.swarm.cut(1);
    let more = |text: &str| Post { thread: Some(first.thread), ..post("clerk", text) };
    let here = play.post(0, more("two")).await.unwrap();
    let there = play.post(1, more("three")).await.unwrap();
    play.stage.swarm.heal(1);
    play.until("all of it is known to both", async |play: &Play| {
        play.said(0, first.thread).await.len() == 3 && play.said(1, first.thread).await.len() == 3
    })
    .await;
    let numbers: Vec<u64> = play.said(0, first.thread).await.iter().map(|said| said.number).collect();
    assert_eq!(numbers, [1, 2, 2]);
    play.organism(set(Standing::Ready)).await.unwrap();
    for (posted, text) in [(first, "one"), (here, "two"), (there, "three")] {
        let turn = play.ended(0, posted.turn).await;
        assert_eq!(turn.state, State::Completed, "{turn:?}");
        let said: Exchange = play.ask(0, |reply| Message::Exchange(Wire(posted.turn), reply)).await.unwrap();
        let words = |said: Option<Said>| said.map(|said| said.content());
        assert_eq!((words(said.asked), words(said.answered)), (Some(text.into()), Some(format!("you said {text}"))));
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_of_a_thread_counts_what_there_is_and_only_what_was_asked_for() {
    let play = Play::new(2, |_| say("{\"answer\": \"yes\"}")).await;
    let first = play.say("clerk", "one").await;
    play.ended(0, first.turn).await;
    play.stage.swarm.part(0, 1);
    let refused = play.post(0, Post { thread: Some(first.thread), ..post("clerk", "two") }).await;
    assert_eq!(refused, Err(ThreadError::Ledger(ledger::Error::Alone)));
    play.stage.swarm.meet(0, 1);
    let third = play.post(0, Post { thread: Some(first.thread), ..post("lead", "three") }).await.unwrap();
    play.ended(0, third.turn).await;
    let page = async |agent: Option<&str>, offset, limit| -> (Vec<String>, u64) {
        let agent = agent.map(str::to_owned);
        let wanted = WantedSaid { thread: Some(first.thread), agent, oldest_first: true, offset, limit };
        let page: Page<Said> = play.ask(0, |reply| Message::Said(Wire(wanted), reply)).await.unwrap();
        (page.items.iter().map(Said::content).collect(), page.total)
    };
    assert_eq!(page(None, 0, 1).await, (vec!["one".to_owned()], 4));
    assert_eq!(page(Some("lead"), 0, 1).await, (vec!["three".to_owned()], 2));
    assert_eq!(page(Some("lead"), 2, 9).await, (Vec::new(), 2));
}

#[tokio::test(start_paused = true)]
async fn room_is_made_by_the_oldest_thread_of_this_node_in_which_all_is_answered() {
    let play = Play::new(1, |_| say("yes")).await;
    let posted = play.say("clerk", "work").await;
    play.ended(0, posted.turn).await;
    let known = play.thread(0, posted.thread).await;
    let (me, other) = (known.owner, play.stage.swarm.id(1));
    let mut core = Core::new(me);
    for n in 0..THREADS_MAX as u64 {
        assert_eq!(core.to_forget(|_| false), None);
        let (owner, last) = match n {
            1 => (me, 0),
            2 => (me, 2),
            _ => (other, 2),
        };
        let id = Uuid::from_u128(n.into());
        core.learn_thread(id, Some(Thread { id, owner, last, updated_ms: n, ..known.clone() }));
    }
    assert_eq!(core.to_forget(|_| false), Some(Uuid::from_u128(2)));
    // And that thread is gone only when its records are.
    play.ask(0, |reply| Message::Forget(Wire(Order::new(posted.thread)), reply)).await.unwrap();
    let gone: Result<Thread, ThreadError> = play.ask(0, |reply| Message::Get(Wire(posted.thread), reply)).await;
    assert_eq!(gone, Err(ThreadError::NoSuchThread(posted.thread)));
    let turn: Result<Turn, ThreadError> = play.ask(0, |reply| Message::Turn(Wire(posted.turn), reply)).await;
    assert_eq!(turn, Err(ThreadError::NoSuchTurn(posted.turn)));
}

fn ask(posted: &Posted, to: &str, text: &str) -> Ask {
    let (to, text) = (to.to_owned(), text.to_owned());
    Ask { key: "k".into(), thread: posted.thread, turn: posted.turn, to, text }
}

#[tokio::test(start_paused = true)]
async fn who_is_asked_finds_a_place_where_askers_hold_all_others() {
    let play = Play::new(1, |request| match request.turns[0].content.starts_with("You know figures.") {
        true => say("forty-two"),
        false => std::future::pending().boxed(),
    })
    .await;
    let posted = play.say("lead", "find out").await;
    play.running(0, posted.turn).await;
    let full = loop {
        let goal = goal(Strategy::Answer, &[], 0);
        let started: Result<Run, AgentError> =
            play.stage.ask(0, |reply| agent::Message::Start(Wire(goal), reply)).await;
        if let Err(error) = started {
            break error;
        }
    };
    assert!(matches!(full, AgentError::Full(_)), "{full}");
    let asked = ask(&posted, "clerk", "how many?");
    let answer: Result<String, ThreadError> = play.ask(0, |reply| Message::Ask(Wire(asked), reply)).await;
    assert_eq!(answer, Ok("forty-two".into()));
}

#[tokio::test(start_paused = true)]
async fn what_was_asked_in_a_turn_ends_with_it() {
    let play = Play::new(1, |_| std::future::pending().boxed()).await;
    let posted = play.say("lead", "find out").await;
    let run = play.running(0, posted.turn).await.run;
    let asked = ask(&posted, "clerk", "how many?");
    let asking = play.ask(0, |reply| Message::Ask(Wire(asked), reply));
    let ending = async {
        play.until("it is asked", async |play: &Play| {
            let turns: Vec<Turn> = play.ask(0, |reply| Message::Turns(Wire(posted.thread), reply)).await.unwrap();
            turns.len() == 2 && turns[1].state == State::Running
        })
        .await;
        let ended: Result<Run, AgentError> = play.stage.ask(0, |reply| agent::Message::Cancel(Wire(run), reply)).await;
        ended.unwrap()
    };
    let (answer, _): (Result<String, ThreadError>, Run) = tokio::join!(asking, ending);
    assert!(matches!(answer, Err(ThreadError::Failed(_))), "{answer:?}");
    play.until("nobody thinks", async |play: &Play| !play.stage.busy(0)).await;
    let turns: Vec<Turn> = play.ask(0, |reply| Message::Turns(Wire(posted.thread), reply)).await.unwrap();
    assert_eq!((turns[0].state, turns[1].state), (State::Failed, State::Cancelled));
}

#[tokio::test(start_paused = true)]
async fn a_question_is_given_up_when_the_last_who_waits_for_it_does() {
    let play = Play::new(1, |_| std::future::pending().boxed()).await;
    let posted = play.say("clerk", "work").await;
    let (turn, thread) = (play.running(0, posted.turn).await, play.thread(0, posted.thread).await);
    let mut core = Core::new(thread.owner);
    core.learn_thread(thread.id, Some(thread));
    core.learn_turn(turn.id, Some(turn.clone()));
    core.wait_for(turn.id);
    core.wait_for(turn.id);
    core.waited_for(turn.id, true, 9);
    assert_eq!((core.turn(turn.id).unwrap().state, core.given_up()), (State::Running, Vec::new()));
    core.waited_for(turn.id, true, 9);
    assert_eq!(core.turn(turn.id).unwrap().state, State::Cancelled);
    assert_eq!(core.given_up(), [Action::Cancel(turn.run, turn.node.unwrap())]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_no_record_holds_ends_its_turn_without_one_and_says_so() {
    let play = Play::new(1, |_| say("yes")).await;
    let posted = play.say("clerk", "work").await;
    let (turn, thread) = (play.ended(0, posted.turn).await, play.thread(0, posted.thread).await);
    let answer = play.said(0, posted.thread).await.remove(1);
    let mut core = Core::new(thread.owner);
    core.learn_thread(thread.id, Some(thread));
    core.learn_turn(turn.id, Some(Turn { state: State::Running, ..turn.clone() }));
    core.answered(Said { payload: "x".repeat(ledger::VALUE_BYTES_MAX), ..answer });
    let known = core.turn(turn.id).unwrap();
    assert_eq!(known.state, State::Failed);
    assert!(known.error.as_ref().unwrap().contains("bytes as a record"), "{known:?}");
    let (_, turns, answers) = core.unsaved();
    assert_eq!((turns.len(), answers.len()), (1, 0));
}
