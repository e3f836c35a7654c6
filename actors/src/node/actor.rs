//! The actor: knows the card and the load, tells the swarm when they changed, and passes the owner's requests on.

use super::{
    NAME,
    card::{self, differs},
    hardware, health,
    labels::{self, LABELS_MAX},
    load::{self, Sample, Sampler},
    lookup,
    messages::{Card, Duty, Labelling, Listed, Message, NodeError, Status, Summary},
    probe,
};
use crate::{Context, scheduler};
use futures::future::BoxFuture;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SpawnErr};
use serde::{Deserialize, Serialize};
use skep_runtime::{
    Load, Reach, Tasks, Wire,
    member::State as Liveness,
    store::{Batch, Table},
    swarm::{self, Finding},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

/// How often the load is read.
const SAMPLE_PERIOD: Duration = Duration::from_secs(1);
/// How many samples pass between two looks at the disk, which is slower to read and to change.
const DISK_SAMPLES: u32 = 60;
/// How long the swarm may take for what the owner asked: a join crosses machines and people.
const SWARM_TIMEOUT: Duration = Duration::from_secs(120);
/// What this node was told to do. One row, under [`DUTY_ROW`]; it survives restarts.
const DUTY: Table<String, Told> = Table::new("node_duty");
/// The labels that its owner gave it while it ran, or took away, which count more than those that it was started with.
/// One row, under [`LABELS_ROW`].
const LABELS: Table<String, Labelling> = Table::new("node_labels");
const LABELS_ROW: &str = "labels";
const DUTY_ROW: &str = "duty";
/// The pause before the scheduler is told once more to send its work away: it may be being started again.
const EMPTY_PAUSE: Duration = Duration::from_secs(1);
/// How long it may take for that: the grace of its commands, and their killing.
const EMPTY_TIMEOUT: Duration = Duration::from_secs(30);

/// A duty as it was told, and by when in milliseconds since 1970 what runs is to be gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Told {
    draining: bool,
    empty_by_ms: Option<u64>,
}

/// One machine.
struct NodeActor;

/// A NodeActor's own.
struct State {
    node: Arc<Node>,
    tasks: Tasks,
}

/// What the actor and its tasks share.
struct Node {
    context: Context,
    start: Instant,
    face: Mutex<Face>,
    /// Its duty.
    told: Mutex<Told>,
}

/// The node as it shows itself.
struct Face {
    card: Card,
    load: Load,
    told_card: Option<Card>,
    told_load: Option<Load>,
    gpus: Option<Finding>,
}

/// What other nodes may ask of this one. The rest is its owner's, through API and command line.
const REMOTE: Reach = Reach::Only(&["Status", "Summary", "List", "Get", "Health", "Metrics", "Drain", "Label"]);

/// Starts the actor of this machine. Draining goes on over a restart.
///
/// # Errors
/// The store could not be read.
pub async fn start(context: &Context, supervisor: ActorCell) -> Result<ActorCell, SpawnErr> {
    let actor = context.directory.spawn_within(REMOTE, NAME, NodeActor, context.clone(), Some(supervisor)).await?;
    Ok(actor.get_cell())
}

impl Actor for NodeActor {
    type Msg = Message;
    type State = State;
    type Arguments = Context;

    async fn pre_start(&self, _: ActorRef<Message>, context: Context) -> Result<State, ActorProcessingErr> {
        let told = context.store.get(DUTY, &DUTY_ROW.to_string())?.unwrap_or_default();
        let mut card = match context.env.simulated() {
            true => hardware::simulated(),
            false => {
                let home = context.home.clone();
                context.tasks.compute(move || hardware::read(&home)).await?
            }
        };
        // Nobody is told of a fence that was not tried.
        card.sandbox = context.fences.found(&context).await.best;
        card.started_ms = context.env.now_ms();
        card.labels = context.labels.clone();
        relabel(&mut card.labels, &context.store.get(LABELS, &LABELS_ROW.to_string())?.unwrap_or_default());
        let load = Load { draining: told.draining, ..Load::default() };
        let face = Face { card, load, told_card: None, told_load: None, gpus: None };
        let node = Arc::new(Node { context, start: Instant::now(), face: Mutex::new(face), told: Mutex::new(told) });
        node.tell();
        let tasks = node.context.env.tasks();
        if told.empty_by_ms.is_some() {
            tasks.spawn(node.clone().empty(told));
        }
        if !node.context.env.simulated() {
            tasks.spawn(node.clone().sample());
            tasks.spawn(node.clone().probe());
        }
        Ok(State { node, tasks })
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let node = &state.node;
        let swarm = node.context.swarm.clone();
        match message {
            // An asker that gave up is no failure of this actor: here and below, what becomes of an answer is ignored.
            Message::Status(reply) => drop(reply.send(Wire(node.status()))),
            Message::Summary(reply) => drop(reply.send(Wire(summary(&node.list())))),
            Message::List(reply) => drop(reply.send(Wire(node.list()))),
            Message::Get(Wire(text), reply) => {
                let picture = node.context.members.now();
                let _ = reply.send(Wire(lookup::find(&picture, &text).map(listed)));
            }
            Message::Health(reply) => {
                let node = node.clone();
                state.tasks.spawn(async move {
                    let (card, load, gpus) = {
                        let face = node.face();
                        (face.card.clone(), face.load, face.gpus.clone())
                    };
                    let _ = reply.send(Wire(health::check(&node.context, &card, &load, gpus).await));
                });
            }
            Message::Metrics(reply) => {
                node.gauge();
                let _ = reply.send(Wire(node.context.metrics.values()));
            }
            Message::MetricsText(reply) => {
                node.gauge();
                let _ = reply.send(Wire(node.context.metrics.text()));
            }
            Message::Drain(Wire(duty), reply) => {
                let told = node.drain(duty).await;
                if let Ok(told) = told {
                    state.tasks.spawn(node.clone().empty(told));
                }
                let _ = reply.send(Wire(told.map(drop)));
            }
            Message::Label(Wire(labels), reply) => drop(reply.send(Wire(node.label(labels).await))),
            Message::Invite(reply) => answer(&state.tasks, reply, async move { swarm.invite().await }),
            Message::Opens(Wire(line), reply) => drop(reply.send(Wire(swarm.opens(&line)))),
            Message::Join(Wire(invite), reply) => answer(&state.tasks, reply, async move { swarm.join(invite).await }),
            Message::Waiting(reply) => drop(reply.send(Wire(swarm.waiting()))),
            Message::Approve(Wire(code), reply) => {
                answer(&state.tasks, reply, async move { swarm.approve(code).await })
            }
            Message::Evict(Wire((text, force)), reply) => {
                let found = lookup::find(&node.context.members.now(), &text).map(|m| m.id);
                match found {
                    Ok(id) => answer(&state.tasks, reply, async move { swarm.evict(id, force).await.map(|()| id) }),
                    Err(e) => drop(reply.send(Wire(Err(e)))),
                }
            }
            Message::Leave(Wire(forget), reply) => {
                answer(&state.tasks, reply, async move { swarm.leave(forget).await })
            }
            Message::Diagnose(reply) => {
                let node = node.clone();
                state.tasks.spawn(async move {
                    if let Ok(mut findings) = timeout(SWARM_TIMEOUT, swarm.diagnose()).await {
                        findings.push(node.context.fences.found(&node.context).await.finding());
                        let _ = reply.send(Wire(findings));
                    }
                })
            }
            Message::Models(Wire(models)) => node.change(|face| face.card.models = models),
            Message::Pipelines(Wire(pipelines)) => node.change(|face| face.card.pipelines = pipelines),
            Message::Work(Wire((running, queued))) => {
                node.change(|face| (face.load.running, face.load.queued) = (running, queued))
            }
        }
        Ok(())
    }
}

impl Node {
    fn face(&self) -> MutexGuard<'_, Face> {
        self.face.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Face)) {
        change(&mut self.face());
        self.tell();
    }

    /// Announces the card and reports the load, if they changed enough since the last time.
    fn tell(&self) {
        let (card, load) = {
            let mut face = self.face();
            let card = face.told_card.as_ref().is_none_or(|told| differs(told, &face.card)).then(|| face.card.clone());
            let load = face.told_load.as_ref().is_none_or(|told| load::differs(told, &face.load)).then_some(face.load);
            face.told_card = card.clone().or(face.told_card.take());
            face.told_load = load.or(face.told_load);
            (card, load)
        };
        if let Some(card) = card {
            self.context.swarm.announce(card::encode(&card));
        }
        if let Some(load) = load {
            self.context.swarm.report(load);
        }
    }

    async fn drain(&self, duty: Duty) -> Result<Told, NodeError> {
        let empty_by_ms = match duty {
            Duty::NoWork { within_s } => Some(self.context.env.now_ms().saturating_add(within_s.saturating_mul(1000))),
            Duty::Work | Duty::NoNewWork => None,
        };
        let told = Told { draining: duty != Duty::Work, empty_by_ms };
        let unwritten = |e: skep_runtime::store::Error| NodeError::Store(e.to_string());
        let mut batch = Batch::new();
        batch.put(DUTY, &DUTY_ROW.to_string(), &told).map_err(unwritten)?;
        self.context.store.commit(batch).await.map_err(unwritten)?;
        *self.told() = told;
        self.change(|face| face.load.draining = told.draining);
        Ok(told)
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When its time has come, sends away what runs here, unless it was told otherwise by then.
    async fn empty(self: Arc<Self>, told: Told) {
        let Some(by_ms) = told.empty_by_ms else { return };
        sleep(Duration::from_millis(by_ms.saturating_sub(self.context.env.now_ms()))).await;
        let scheduler = self.context.directory.here::<scheduler::Message>(scheduler::NAME);
        while *self.told() == told {
            match scheduler.ask(EMPTY_TIMEOUT, scheduler::Message::Empty).await {
                Ok(sent) => return tracing::info!(sent, "what ran on this machine was sent away"),
                Err(error) => tracing::debug!(%error, "the scheduler does not send its work away yet"),
            }
            sleep(EMPTY_PAUSE).await;
        }
    }

    async fn label(&self, changes: Labelling) -> Result<BTreeMap<String, String>, NodeError> {
        for (key, value) in &changes {
            labels::check(key, value.as_deref().unwrap_or_default()).map_err(NodeError::Label)?;
        }
        let row = LABELS_ROW.to_string();
        let unwritten = |e: skep_runtime::store::Error| NodeError::Store(e.to_string());
        let mut told = self.context.store.get(LABELS, &row).map_err(unwritten)?.unwrap_or_default();
        told.extend(changes);
        // That one is gone is worth remembering of those that it is started with.
        told.retain(|key, value| value.is_some() || self.context.labels.contains_key(key));
        let mut labels = self.context.labels.clone();
        relabel(&mut labels, &told);
        if labels.len() > LABELS_MAX {
            return Err(NodeError::Label(format!("a machine has at most {LABELS_MAX} labels, not {}", labels.len())));
        }
        let mut batch = Batch::new();
        batch.put(LABELS, &row, &told).map_err(unwritten)?;
        self.context.store.commit(batch).await.map_err(unwritten)?;
        self.change(|face| face.card.labels = labels.clone());
        Ok(labels)
    }

    fn status(&self) -> Status {
        let id = self.context.directory.id();
        let (card, load) = {
            let face = self.face();
            (face.card.clone(), face.load)
        };
        Status {
            id,
            name: self.context.name.clone(),
            card,
            load,
            uptime_ms: self.start.elapsed().as_millis() as u64,
            resident_bytes: if self.context.env.simulated() { 0 } else { resident_bytes() },
            addresses: self.context.members.get(&id).map(|m| m.addresses.clone()).unwrap_or_default(),
        }
    }

    fn list(&self) -> Vec<Listed> {
        let me = self.context.directory.id();
        let own = self.face().card.clone();
        let show = |mut shown: Listed| {
            if shown.member.id == me {
                shown.card = Some(own.clone());
            }
            shown
        };
        self.context.members.now().values().map(|member| listed(member)).map(show).collect()
    }

    fn gauge(&self) {
        let load = self.face().load;
        let metrics = &self.context.metrics;
        let set = |name, help, value: i64| {
            metrics.gauge(name, help).set(value);
        };
        set("node_uptime_seconds", "Seconds since this node started.", self.start.elapsed().as_secs() as i64);
        set("node_cpu_permille", "Processor time in use, in thousandths of all cores.", load.cpu_permille.into());
        set("node_memory_permille", "Memory in use, in thousandths.", load.memory_permille.into());
        set("node_draining", "1 while this node takes no new work.", load.draining.into());
        set("tasks_running", "Commands that run on this node.", load.running.into());
        set("tasks_queued", "Commands that wait on this node.", load.queued.into());
        set("members_known", "Nodes on the roster.", self.context.members.now().len() as i64);
        set("members_up", "Nodes that answer.", self.context.members.up().len() as i64);
    }

    /// Reads load and, now and then, the disk, for as long as the actor lives.
    async fn sample(self: Arc<Self>) {
        let mut sampler = Sampler::new();
        let mut tick = interval(SAMPLE_PERIOD);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for count in 0u32.. {
            tick.tick().await;
            let Sample { cpu_permille, memory_permille, memory_free_bytes } = sampler.read();
            let home = self.context.home.clone();
            let disk = match count % DISK_SAMPLES == DISK_SAMPLES - 1 {
                true => self.context.tasks.compute(move || hardware::disk(&home)).await.ok(),
                false => None,
            };
            self.change(|face| {
                (face.load.cpu_permille, face.load.memory_permille) = (cpu_permille, memory_permille);
                face.card.memory_free_bytes = memory_free_bytes;
                if let Some((bytes, free)) = disk {
                    (face.card.disk_bytes, face.card.disk_free_bytes) = (bytes, free);
                }
            });
        }
    }

    /// Looks for graphics processors, once.
    async fn probe(self: Arc<Self>) {
        let Some(exe) = &self.context.exe else { return };
        let found = probe::run(exe, probe::TIMEOUT).await;
        if let Err(e) = &found {
            tracing::warn!(error = %e, "graphics processors could not be asked for");
        }
        self.change(|face| match found {
            Ok(gpus) => {
                face.gpus = Some(health::finding("gpus", true, format!("{} found", gpus.len())));
                face.card.gpus = gpus;
            }
            Err(e) => face.gpus = Some(health::finding("gpus", false, e.to_string())),
        });
    }
}

fn relabel(labels: &mut BTreeMap<String, String>, told: &Labelling) {
    for (key, value) in told {
        match value {
            Some(value) => drop(labels.insert(key.clone(), value.clone())),
            None => drop(labels.remove(key)),
        }
    }
}

/// Passes the swarm's answer on, when it comes.
fn answer<T: Send + 'static>(
    tasks: &Tasks,
    reply: RpcReplyPort<Wire<Result<T, NodeError>>>,
    ask: impl Future<Output = Result<T, swarm::Error>> + Send + 'static,
) where
    Wire<Result<T, NodeError>>: Send,
{
    let ask: BoxFuture<'static, _> = Box::pin(ask);
    tasks.spawn(async move {
        let answer = timeout(SWARM_TIMEOUT, ask).await.unwrap_or(Err(swarm::Error::Timeout));
        let _ = reply.send(Wire(answer.map_err(NodeError::from)));
    });
}

/// A member without the bytes of its card, and that card.
fn listed(member: &skep_runtime::Member) -> Listed {
    Listed { card: card::decode(&member.card), member: skep_runtime::Member { card: Arc::default(), ..member.clone() } }
}

fn summary(all: &[Listed]) -> Summary {
    let mut sum = Summary { nodes: all.len() as u32, ..Summary::default() };
    for Listed { member, card } in all.iter().filter(|l| l.member.state == Liveness::Up) {
        sum.online += 1;
        let Some(card) = card else { continue };
        sum.cpus += u32::from(card.cpus);
        sum.memory_bytes += card.memory_bytes;
        sum.memory_used_bytes += card.memory_bytes / 1000 * u64::from(member.load.memory_permille.min(1000));
        sum.disk_bytes += card.disk_bytes;
        sum.disk_used_bytes += card.disk_bytes.saturating_sub(card.disk_free_bytes);
        sum.gpus += card.gpus.len() as u32;
    }
    sum
}

/// Memory of this process. 0 where the system doesn't tell.
fn resident_bytes() -> u64 {
    let (Ok(me), Ok(mut system)) = (sysinfo::get_current_pid(), sysinfo::System::new()) else { return 0 };
    let only = sysinfo::ProcessesToUpdate::Some(&[me]);
    system.refresh_processes_specifics(only, false, sysinfo::ProcessRefreshKind::nothing().with_memory());
    system.process(me).map_or(0, sysinfo::Process::memory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        node::{Health, Verdict},
        testing::Swarm,
    };
    use skep_runtime::Handle;

    const DEADLINE: Duration = Duration::from_secs(5);

    async fn node(swarm: &Swarm, i: usize) -> Handle<Message> {
        start(swarm.context(i), swarm.root(i)).await.unwrap();
        swarm.context(i).directory.here(NAME)
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_knows_the_others_by_their_cards() {
        let swarm = Swarm::new(3).await;
        let first = node(&swarm, 0).await;
        node(&swarm, 1).await;
        let listed = first.ask(DEADLINE, Message::List).await.unwrap();
        let cards: Vec<bool> = listed.iter().map(|l| l.card.is_some()).collect();
        assert_eq!(cards, [true, true, false]);
        let sum = first.ask(DEADLINE, Message::Summary).await.unwrap();
        assert_eq!((sum.nodes, sum.online, sum.cpus), (3, 3, 8));
        let got = first.ask(DEADLINE, |reply| Message::Get(Wire("n1".into()), reply)).await.unwrap().unwrap();
        assert_eq!(got.member.id, swarm.id(1));
    }

    #[tokio::test(start_paused = true)]
    async fn draining_is_seen_by_others_and_survives_a_restart() {
        let mut swarm = Swarm::new(2).await;
        let first = node(&swarm, 0).await;
        first.ask(DEADLINE, |reply| Message::Drain(Wire(Duty::NoNewWork), reply)).await.unwrap().unwrap();
        assert!(swarm.context(1).members.get(&swarm.id(0)).unwrap().load.draining);
        swarm.kill(0).await;
        swarm.restart(0).await;
        let first = node(&swarm, 0).await;
        assert!(first.ask(DEADLINE, Message::Status).await.unwrap().load.draining);
        first.ask(DEADLINE, |reply| Message::Drain(Wire(Duty::Work), reply)).await.unwrap().unwrap();
        assert!(!swarm.context(1).members.get(&swarm.id(0)).unwrap().load.draining);
    }

    #[tokio::test(start_paused = true)]
    async fn labels_are_seen_by_others_and_survive_a_restart() {
        let mut swarm = Swarm::new(2).await;
        let first = node(&swarm, 0).await;
        let label = async |node: &Handle<Message>, changes: &[(&str, Option<&str>)]| {
            let changes = changes.iter().map(|(key, value)| ((*key).to_owned(), value.map(str::to_owned))).collect();
            node.ask(DEADLINE, |reply| Message::Label(Wire(changes), reply)).await.unwrap()
        };
        label(&first, &[("room", Some("attic")), ("gpu", Some(""))]).await.unwrap();
        let labels = label(&first, &[("gpu", None), ("never", None)]).await.unwrap();
        assert_eq!(labels, BTreeMap::from([("room".to_owned(), "attic".to_owned())]));
        let seen = |swarm: &Swarm| {
            let member = swarm.context(1).members.get(&swarm.id(0)).unwrap();
            card::decode(&member.card).unwrap().labels
        };
        assert_eq!(seen(&swarm), labels);
        // All or none.
        let refused = label(&first, &[("a", Some("1")), ("os", Some("mine"))]).await.unwrap_err();
        assert!(refused.to_string().starts_with("os: "), "{refused}");
        assert_eq!(seen(&swarm), labels);
        let many: Vec<String> = (0..LABELS_MAX).map(|n| format!("l{n}")).collect();
        let many: Vec<(&str, Option<&str>)> = many.iter().map(|key| (key.as_str(), Some(""))).collect();
        assert!(label(&first, &many).await.unwrap_err().to_string().contains("at most 64"));
        swarm.kill(0).await;
        swarm.restart(0).await;
        node(&swarm, 0).await;
        assert_eq!(seen(&swarm), labels);
    }

    #[tokio::test(start_paused = true)]
    async fn health_names_what_is_wrong() {
        let swarm = Swarm::new(2).await;
        let first = node(&swarm, 0).await;
        let check = |health: &Health, check: &str| health.checks.iter().find(|(f, _)| f.check == check).unwrap().0.ok;
        let health = first.ask(DEADLINE, Message::Health).await.unwrap();
        assert_eq!(health.verdict, Verdict::Healthy, "{health:?}");
        swarm.cut(1);
        let health = first.ask(DEADLINE, Message::Health).await.unwrap();
        assert_eq!((check(&health, "members"), check(&health, "store")), (false, true));
        assert_eq!(health.verdict, Verdict::Degraded);
        // A node that can't keep anything does not work, however well the rest is.
        swarm.context(0).store.close().await.unwrap();
        let health = first.ask(DEADLINE, Message::Health).await.unwrap();
        assert_eq!((check(&health, "store"), health.verdict), (false, Verdict::Unhealthy));
    }

    #[tokio::test]
    async fn a_real_machine_reports_its_load_and_its_memory() {
        let swarm = Swarm::of_machine(1).await;
        let first = node(&swarm, 0).await;
        let mut members = swarm.context(0).members.changes();
        let id = swarm.id(0);
        timeout(DEADLINE, members.wait_for(|all| all[&id].load.memory_permille > 0)).await.unwrap().unwrap();
        let status = first.ask(DEADLINE, Message::Status).await.unwrap();
        assert!(status.resident_bytes > 0 && status.card.cpus > 0);
    }
}
