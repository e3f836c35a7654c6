//! foca, wrapped so that nothing in it waits, sends or looks at a clock. One thought, hence its length.
//!
//! What foca lacks is added here: Lifeguard, as far as [`Policy`] wants it; a lost connection as a hint; goodbyes;
//! persistence in reaching members that were never seen; and a check that a packet's sender is who the connection
//! says. foca's probes and its view are as they are: its timers are kept here, so it is here that a probe takes longer
//! and that a suspect's time ends sooner or later. What foca sends is looked at on its way out.

use super::{
    accusation::Accusation,
    codec::{self, PACKET_BYTES_MAX, Packets},
    health::{GRACE, Health, LATE_MAX, Probe},
    peer::{EPOCH_MAX, Peer},
    policy::Policy,
    pulse::Pulse,
    suspicion::{self, Suspicion, Suspicions},
    word::{Inbox, Word, Words},
};
use bytes::Bytes;
use foca::{
    AccumulatingRuntime, Codec, Config, Foca, Member, Message, OwnedNotification, PeriodicParams, State, Timer,
};
use rand_chacha::ChaCha8Rng;
use skep_runtime::{Load, NodeId, member, wire};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    num::{NonZeroU8, NonZeroUsize},
    time::Duration,
};

/// One member is probed so often. With a suspect's time it decides how soon a crash is known.
const PROBE_PERIOD: Duration = Duration::from_millis(500);
/// How long a direct answer may take before others are asked: a hundred round trips of a LAN.
const PROBE_ANSWER: Duration = Duration::from_millis(200);
/// News is handed on so often, to a few members.
const GOSSIP_PERIOD: Duration = Duration::from_millis(200);
/// A full list of members is asked for so often, as gossip may miss someone.
const ANNOUNCE_PERIOD: Duration = Duration::from_secs(10);
/// Members that are down are greeted so often: partitions heal within this time.
const REACH_PERIOD: Duration = Duration::from_secs(5);
/// The same while nobody at all answers.
const REACH_PERIOD_ALONE: Duration = Duration::from_secs(1);
/// Members greeted each time.
const REACH_MAX: usize = 3;
/// How long a run that went down is remembered, so that late gossip doesn't raise it again.
const FORGET_DOWN: Duration = Duration::from_secs(3600);
/// Load is told at most so often,
const LOAD_PERIOD: Duration = Duration::from_secs(1);
/// and at least so often, as gossip may be lost. Each word reaches everyone by more than ten ways, so that is rare, and
/// every pulse costs each member a dozen packets' worth: in an idle swarm of fifty this was a third of all traffic.
const PULSE_PERIOD: Duration = Duration::from_secs(30);
/// or so long for each member: what is repeated for safety's sake stays below five pulses a second in all, half of what
/// a packet carries. With more, two hundred members never got to the end of what they pass on.
const PULSE_PERIOD_PER_MEMBER: Duration = Duration::from_millis(200);
/// A node tells that its roster is another one now at most so often: who makes news pushes it to everyone, and this only
/// shows who missed it. Without a pause, each machine that joins makes every member speak to every other.
const ROSTER_PERIOD: Duration = Duration::from_secs(2);
/// A change of load below this many thousandths is not worth a pulse.
const LOAD_STEP_PERMILLE: u16 = 50;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Time passed.
    Tick,
    /// A member's datagram came.
    Packet(NodeId, Bytes),
    /// The roster's members, this node included, and the start of the roster's digest.
    Roster(BTreeSet<NodeId>, u64),
    /// A member said on a stream that it runs, and what its pulse is.
    Met(Peer, Pulse),
    /// A member knows this node under this epoch.
    KnownAs(u64),
    /// There is a new address of a member: greet those that don't answer now.
    Reach,
    /// This node is in another swarm now, where nothing that was said of its run so far shall count.
    Renew,
    /// A member said goodbye.
    Goodbye(NodeId),
    /// The connection to a member broke without a word.
    Lost(NodeId),
    /// This node's load.
    Load(Load),
    /// The version of this node's card.
    Card(u64),
    /// This node says goodbye.
    Leave,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send a datagram; it may be lost.
    Send(NodeId, Bytes),
    /// A member's state is this now. `Up` comes again when it was restarted in between.
    State(NodeId, member::State),
    /// A member's word on itself.
    Pulse(Pulse),
    /// A key that is not on the roster takes part in gossip, according to this member: its roster is newer.
    Unknown(NodeId),
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    at: Duration,
    timer: Timer<Peer>,
    number: u64,
    /// It was overdue once and had its [`GRACE`].
    waited: bool,
}

/// One node's view of who answers. Times are since some start of the caller's.
pub struct Core {
    policy: Policy,
    foca: Foca<Peer, Packets, ChaCha8Rng, Words>,
    runtime: AccumulatingRuntime<Peer>,
    inbox: Inbox,
    members: BTreeSet<NodeId>,
    states: BTreeMap<NodeId, member::State>,
    timers: BinaryHeap<Reverse<Due>>,
    timers_made: u64,
    token: foca::TimerToken,
    health: Health,
    suspicions: Suspicions,
    accused: u64,
    /// Who was asked to try in the current probe and wasn't heard since, and whether anyone was.
    asked: BTreeSet<NodeId>,
    asked_and_heard: bool,
    /// Under which run, and after how many answers to suspicions, this node spoke last.
    spoke_as: (Peer, u16),
    mine: Pulse,
    said: Load,
    pulse_at: Duration,
    pulsed_at: Duration,
    reach_at: Duration,
    reached: Option<NodeId>,
    left: bool,
}

impl Core {
    /// The view of `me`, who is alone so far. `rng` is this core's own.
    pub fn new(me: Peer, rng: ChaCha8Rng) -> Core {
        Core::with_policy(me, rng, Policy::default())
    }

    /// The same under another policy than production's.
    pub fn with_policy(me: Peer, rng: ChaCha8Rng, policy: Policy) -> Core {
        let inbox = Inbox::default();
        let handler = Words { inbox: inbox.clone(), me: me.id };
        let mine = Pulse { node: me.id, stamp: me.epoch, card: 0, roster: 0, load: Load::default(), left: false };
        Core {
            policy,
            foca: Foca::with_custom_broadcast(me, config(1), rng, Packets, handler),
            runtime: AccumulatingRuntime::new(),
            inbox,
            members: BTreeSet::from([me.id]),
            states: BTreeMap::new(),
            timers: BinaryHeap::new(),
            timers_made: 0,
            token: 0,
            health: Health::default(),
            suspicions: Suspicions::default(),
            accused: 0,
            asked: BTreeSet::new(),
            asked_and_heard: false,
            spoke_as: (me, 0),
            mine,
            said: Load::default(),
            pulse_at: Duration::MAX,
            pulsed_at: Duration::ZERO,
            reach_at: Duration::MAX,
            reached: None,
            left: false,
        }
    }

    /// This node's own run.
    pub fn me(&self) -> Peer {
        *self.foca.identity()
    }

    /// This node's own word on itself.
    pub fn pulse(&self) -> Pulse {
        self.mine
    }

    /// The run under which this node knows a member.
    pub fn known(&self, id: &NodeId) -> Option<Peer> {
        self.foca.iter_membership_state().map(|m| *m.id()).find(|peer| peer.id == *id)
    }

    /// How often this node has accused a member of being dead, so far.
    pub fn accused(&self) -> u64 {
        self.accused
    }

    /// When [`Input::Tick`] is due.
    pub fn wake_at(&self) -> Duration {
        let timer = self.timers.peek().map_or(Duration::MAX, |Reverse(due)| due.at);
        let verdict = self.suspicions.iter().map(|suspicion| self.ends_at(suspicion)).min().unwrap_or(Duration::MAX);
        timer.min(verdict).min(self.reach_at).min(self.pulse_at)
    }

    /// Takes one input at time `now` and says what follows.
    pub fn handle(&mut self, now: Duration, input: Input) -> Vec<Action> {
        let mut actions = Vec::new();
        self.look_at_the_clock(now);
        match input {
            Input::Tick => self.tick(now),
            Input::Packet(from, bytes) => self.packet(from, &bytes),
            Input::Roster(members, digest) => self.roster(now, members, digest, &mut actions),
            Input::Met(peer, pulse) => self.met(peer, pulse),
            Input::KnownAs(epoch) => self.known_as(epoch),
            Input::Reach => self.reach_at = self.reach_at.min(now),
            Input::Renew => self.known_as(self.me().epoch + 1),
            Input::Goodbye(id) => self.goodbye(id, &mut actions),
            Input::Lost(id) => self.lost(now, &id),
            Input::Load(load) => self.load(now, load),
            Input::Card(version) => {
                self.mine.card = version;
                self.pulse_at = now;
            }
            Input::Leave => self.leave(now),
        }
        self.drain(now, &mut actions);
        actions
    }

    fn tick(&mut self, now: Duration) {
        while self.timers.peek().is_some_and(|Reverse(due)| due.at <= now) {
            let Some(Reverse(due)) = self.timers.pop() else { break };
            self.fire(now, due.timer);
        }
        let over: Vec<Suspicion> = self.suspicions.iter().copied().filter(|s| self.ends_at(s) <= now).collect();
        for Suspicion { peer, incarnation, token, .. } in over {
            self.suspicions.remove(&peer.id);
            // foca (2.0.0) leaves a suspect up that has answered meanwhile, and all the same tells it that it is down,
            // so that it begins a new life for nothing.
            if self.active(&peer.id) == Some((peer, incarnation)) {
                self.fire(now, Timer::ChangeSuspectToDown { member_id: peer, incarnation, token });
            }
        }
        if self.pulse_at <= now {
            self.send_pulse(now);
        }
        if self.reach_at <= now {
            self.reach(now);
        }
    }

    fn fire(&mut self, now: Duration, timer: Timer<Peer>) {
        let ends_probe = matches!(timer, Timer::ProbeRandomMember(token) if token == self.token);
        let result = self.foca.handle_timer(timer, &mut self.runtime);
        note(result);
        let accused = self.schedule(now);
        if ends_probe {
            self.probed(accused);
        }
    }

    fn probed(&mut self, failed: bool) {
        let probe = match (failed, self.asked_and_heard) {
            (false, _) => Probe::Answered,
            (true, true) => Probe::Silent,
            (true, false) => Probe::Deaf,
        };
        self.asked.clear();
        self.asked_and_heard = false;
        if self.policy.local_health {
            self.health.probed(probe);
        }
    }

    /// Lateness of our own clockwork is the one thing that we know to be our own fault. What came meanwhile lies
    /// unread, and is read before anyone is blamed: what is overdue waits a little, but once only, as a starved node is
    /// late every time.
    fn look_at_the_clock(&mut self, now: Duration) {
        // Not of verdicts: a confirmation can put one into the past.
        let late = self.timers.peek().map_or(Duration::ZERO, |Reverse(due)| now.saturating_sub(due.at));
        if !self.policy.local_health || late <= LATE_MAX {
            return;
        }
        self.health.late(late);
        let over: Vec<NodeId> = self.suspicions.iter().filter(|s| self.ends_at(s) <= now).map(|s| s.peer.id).collect();
        over.iter().for_each(|id| self.suspicions.wait_once(id, now + GRACE));
        let wait = |Reverse(due): Reverse<Due>| match due.at <= now && !due.waited {
            true => Reverse(Due { at: now + GRACE, waited: true, ..due }),
            false => Reverse(due),
        };
        self.timers = std::mem::take(&mut self.timers).into_iter().map(wait).collect();
    }

    /// When a suspect's time is over, by all that is known now.
    fn ends_at(&self, suspicion: &Suspicion) -> Duration {
        let end = if self.policy.dogpile {
            let confirmed = self.inbox.accusers(suspicion.peer, suspicion.incarnation);
            suspicion.ends_at(confirmed, self.foca.num_members().saturating_sub(1))
        } else {
            suspicion.ends_at_fixed()
        };
        end + self.health.patience()
    }

    /// A member failed a probe, or its connection broke.
    fn accuse(&mut self, now: Duration, peer: Peer, incarnation: u16, token: foca::TimerToken) {
        if !self.suspicions.raise(now, peer, incarnation, token) {
            return;
        }
        self.accused += 1;
        if self.policy.dogpile {
            let accusation = Accusation { suspect: peer.id, epoch: peer.epoch, incarnation, accuser: self.me().id };
            self.say(Word::Accusation(accusation));
        }
    }

    fn say(&mut self, word: Word) {
        let result = self.foca.add_broadcast(&wire::encode(&word)).map(|_| ());
        note(result);
    }

    fn packet(&mut self, from: NodeId, bytes: &[u8]) {
        // Gossip says who speaks; the connection knows. They have to agree, or a member could speak for others.
        let honest = Packets.decode_header(bytes).is_ok_and(|header| header.src.id == from);
        if honest && self.members.contains(&from) && !self.left {
            self.asked_and_heard |= self.asked.remove(&from);
            let result = self.foca.handle_data(bytes, &mut self.runtime);
            note(result);
        }
    }

    fn roster(&mut self, now: Duration, members: BTreeSet<NodeId>, digest: u64, actions: &mut Vec<Action>) {
        let gone: Vec<NodeId> = self.members.difference(&members).copied().collect();
        let new: Vec<NodeId> = members.difference(&self.members).copied().collect();
        self.members = members.clone();
        self.inbox.members(members);
        for id in gone {
            self.states.remove(&id);
            self.forget(&id);
        }
        // Gossip may have been ahead of the roster.
        for id in new {
            let active = self.foca.iter_members().any(|m| m.id().id == id);
            if active {
                self.set(id, member::State::Up, actions);
            }
        }
        let result = self.foca.set_config(config(self.members.len()));
        note(result);
        if self.mine.roster != digest {
            self.mine.roster = digest;
            self.pulse_at = self.pulse_at.min(now.max(self.pulsed_at + ROSTER_PERIOD));
        }
        self.reach_at = self.reach_at.min(now);
    }

    fn met(&mut self, peer: Peer, pulse: Pulse) {
        let sane = peer.epoch <= EPOCH_MAX && pulse.node == peer.id && peer.id != self.me().id;
        if !sane || !self.members.contains(&peer.id) {
            return;
        }
        self.inbox.note(pulse);
        let result = self.foca.apply_many([Member::alive(peer)].into_iter(), true, &mut self.runtime);
        note(result);
        // If it takes us for dead, or we it, this is how it comes to light at once.
        let result = self.foca.announce(peer, &mut self.runtime);
        note(result);
    }

    fn known_as(&mut self, epoch: u64) {
        // Our clock went backwards since our last run: that run would win against this one.
        if epoch > self.me().epoch && epoch < EPOCH_MAX {
            let me = Peer { epoch: epoch + 1, ..self.me() };
            // Nobody suspected this run.
            self.spoke_as = (me, 0);
            let result = self.foca.change_identity(me, &mut self.runtime);
            note(result);
            self.mine.stamp = self.mine.stamp.max(me.epoch);
        }
    }

    fn goodbye(&mut self, id: NodeId, actions: &mut Vec<Action>) {
        if self.members.contains(&id) {
            self.set(id, member::State::Left, actions);
            self.declare(&id, State::Down);
        }
    }

    fn lost(&mut self, now: Duration, id: &NodeId) {
        let Some((peer, incarnation)) = self.active(id).filter(|_| self.policy.loss) else { return };
        self.declare(id, State::Suspect);
        self.accuse(now, peer, incarnation, self.token);
        self.suspicions.lost(id);
    }

    fn load(&mut self, now: Duration, load: Load) {
        self.mine.load = load;
        let step = |a: u16, b: u16| a.abs_diff(b) >= LOAD_STEP_PERMILLE;
        let counts = |l: &Load| (l.running, l.queued, l.draining);
        let news = step(load.cpu_permille, self.said.cpu_permille)
            || step(load.memory_permille, self.said.memory_permille)
            || counts(&load) != counts(&self.said);
        if news {
            self.pulse_at = self.pulse_at.min(now.max(self.pulsed_at + LOAD_PERIOD));
        }
    }

    fn leave(&mut self, now: Duration) {
        self.mine.left = true;
        self.send_pulse(now);
        let result = self.foca.leave_cluster(&mut self.runtime);
        note(result);
        self.left = true;
        (self.pulse_at, self.reach_at) = (Duration::MAX, Duration::MAX);
        self.timers.clear();
        self.suspicions.clear();
    }

    fn send_pulse(&mut self, now: Duration) {
        self.mine.stamp += 1;
        self.said = self.mine.load;
        let size = u32::try_from(self.members.len()).unwrap_or(u32::MAX);
        let period = PULSE_PERIOD.max(PULSE_PERIOD_PER_MEMBER.saturating_mul(size));
        (self.pulsed_at, self.pulse_at) = (now, now + period);
        self.say(Word::Pulse(self.mine));
    }

    /// Greets some of the members that don't answer, in turn.
    fn reach(&mut self, now: Duration) {
        if cfg!(feature = "mutant-join-once") && self.reached.is_some() {
            self.reach_at = Duration::MAX;
            return;
        }
        let me = self.me().id;
        let up = |id: &NodeId| self.states.get(id) == Some(&member::State::Up);
        let silent: Vec<NodeId> = self.members.iter().copied().filter(|id| *id != me && !up(id)).collect();
        let start = silent.iter().position(|id| Some(*id) > self.reached).unwrap_or(0);
        let alone = silent.len() + 1 == self.members.len();
        for id in silent.iter().cycle().skip(start).take(REACH_MAX.min(silent.len())) {
            let peer = self.known(id).unwrap_or(Peer { id: *id, epoch: 0 });
            let result = self.foca.announce(peer, &mut self.runtime);
            note(result);
            self.reached = Some(*id);
        }
        self.reach_at = match (silent.is_empty(), alone) {
            (true, _) => now + REACH_PERIOD,
            (false, true) => now + REACH_PERIOD_ALONE,
            (false, false) => now + REACH_PERIOD,
        };
    }

    /// Takes a node that is no member any more out of foca, so that it may come back in the same run.
    fn forget(&mut self, id: &NodeId) {
        self.suspicions.remove(id);
        let Some(peer) = self.known(id) else { return };
        if let Some((peer, incarnation)) = self.active(id) {
            let update = Member::new(peer, incarnation, State::Down);
            let result = self.foca.apply_many([update].into_iter(), false, &mut self.runtime);
            note(result);
        }
        let result = self.foca.handle_timer(Timer::RemoveDown(peer), &mut self.runtime);
        note(result);
    }

    /// A member that foca counts as active, with its incarnation.
    fn active(&self, id: &NodeId) -> Option<(Peer, u16)> {
        self.foca.iter_members().find(|m| m.id().id == *id).map(|m| (*m.id(), m.incarnation()))
    }

    fn declare(&mut self, id: &NodeId, state: State) {
        if let Some((peer, incarnation)) = self.active(id) {
            let update = Member::new(peer, incarnation, state);
            let result = self.foca.apply_many([update].into_iter(), true, &mut self.runtime);
            note(result);
        }
    }

    fn push(&mut self, at: Duration, timer: Timer<Peer>) {
        if let Timer::ProbeRandomMember(token) = timer {
            self.token = token;
        }
        self.timers_made += 1;
        self.timers.push(Reverse(Due { at, timer, number: self.timers_made, waited: false }));
    }

    /// Keeps foca's timers, as slow as this node's health asks for. Says whether there is a suspect among them.
    fn schedule(&mut self, now: Duration) -> bool {
        let mut accused = false;
        while let Some((after, timer)) = self.runtime.to_schedule() {
            if self.left {
                continue;
            }
            match timer {
                // foca says so of a run, too, that was replaced while it was probed.
                Timer::ChangeSuspectToDown { member_id, incarnation, token } => {
                    if self.active(&member_id.id) == Some((member_id, incarnation)) {
                        self.accuse(now, member_id, incarnation, token);
                        accused = true;
                    }
                }
                Timer::ProbeRandomMember(_) | Timer::SendIndirectProbe { .. } => {
                    self.push(now + self.health.stretch(after), timer);
                }
                _ => self.push(now + after, timer),
            }
        }
        accused
    }

    /// Turns what foca left behind into actions.
    fn drain(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let accusers = self.plead();
        self.schedule(now);
        while let Some((to, bytes)) = self.runtime.to_send() {
            self.send(to, bytes, actions);
        }
        for accuser in accusers {
            self.gossip(accuser, None, actions);
        }
        while let Some(notification) = self.runtime.to_notify() {
            match notification {
                OwnedNotification::MemberUp(peer) | OwnedNotification::Rename(_, peer) => {
                    let active = self.active(&peer.id).is_some_and(|(known, _)| known == peer);
                    if active && self.members.contains(&peer.id) {
                        self.set(peer.id, member::State::Up, actions);
                    } else if active {
                        actions.push(Action::Unknown(peer.id));
                    }
                }
                OwnedNotification::MemberDown(peer) => {
                    let left = self.states.get(&peer.id) == Some(&member::State::Left);
                    let replaced = self.active(&peer.id).is_some();
                    if !left && !replaced && self.members.contains(&peer.id) {
                        self.set(peer.id, member::State::Down, actions);
                    }
                }
                _ => {}
            }
        }
        for pulse in self.inbox.take() {
            if pulse.left {
                self.goodbye(pulse.node, actions);
            }
            actions.push(Action::Pulse(pulse));
        }
        // What a goodbye heard of by gossip has left behind.
        while let Some((to, bytes)) = self.runtime.to_send() {
            self.send(to, bytes, actions);
        }
    }

    /// Answers what others accuse this node of, so that whatever it says from now on acquits it. Gives those that are
    /// to hear it first: their clocks run.
    fn plead(&mut self) -> Vec<Peer> {
        let (me, mut accusers) = (self.me(), Vec::new());
        for charge in self.inbox.take_charges() {
            if self.policy.dogpile && charge.epoch == me.epoch {
                let suspect = Member::new(me, charge.incarnation, State::Suspect);
                let result = self.foca.apply_many([suspect].into_iter(), true, &mut self.runtime);
                note(result);
                accusers.extend(self.active(&charge.accuser).map(|(peer, _)| peer));
            }
        }
        accusers
    }

    /// Lets a packet out, and looks at what it says.
    fn send(&mut self, to: Peer, bytes: Bytes, actions: &mut Vec<Action>) {
        if !self.members.contains(&to.id) {
            return;
        }
        actions.push(Action::Send(to.id, bytes.clone()));
        if self.policy == Policy::PLAIN {
            return;
        }
        let Ok(header) = Packets.decode_header(bytes.as_ref()) else { return };
        let speaks_as = (header.src, header.src_incarnation);
        if speaks_as > self.spoke_as && self.policy.local_health {
            self.health.suspected();
        }
        self.spoke_as = speaks_as;
        match header.message {
            Message::PingReq { .. } => {
                self.asked.insert(to.id);
            }
            // Whoever asked learns at once that its own way works, whatever comes of it: the paper's nack.
            Message::IndirectPing { origin, .. } if self.policy.local_health => self.gossip(origin, None, actions),
            // Lifeguard's buddy: a suspect that can hear a probe hears that it has to answer more than that.
            Message::Ping(_) if self.policy.dogpile => {
                let suspect = self.foca.iter_members().find(|m| *m.id() == to && m.state() == State::Suspect).cloned();
                if suspect.is_some() {
                    self.gossip(to, suspect, actions);
                }
            }
            _ => {}
        }
    }

    /// Sends a packet of our own.
    fn gossip(&self, to: Peer, news: Option<Member<Peer>>, actions: &mut Vec<Action>) {
        let (me, incarnation) = self.spoke_as;
        if let Ok(bytes) = codec::gossip(me, incarnation, to, news.as_ref())
            && self.members.contains(&to.id)
        {
            actions.push(Action::Send(to.id, bytes));
        }
    }

    fn set(&mut self, id: NodeId, state: member::State, actions: &mut Vec<Action>) {
        let before = self.states.insert(id, state);
        if before != Some(state) || state == member::State::Up {
            actions.push(Action::State(id, state));
        }
    }
}

/// foca's settings for a swarm of this size.
fn config(members: usize) -> Config {
    let every = |frequency, number| Some(PeriodicParams { frequency, num_members: nonzero(number) });
    // SWIM: each update is handed on a few times the logarithm of the size, so that all but surely all hear it. One that
    // nobody hands on any more is repaired by a probe of one's own alone, after minutes in a large swarm: handed on k
    // times by each, it misses a member with a probability of about exp(-k).
    let transmissions = 4.0 * ((members + 1) as f64).log10().ceil() + 6.0;
    Config {
        probe_period: PROBE_PERIOD,
        probe_rtt: PROBE_ANSWER,
        num_indirect_probes: nonzero(3),
        max_transmissions: NonZeroU8::new(transmissions.clamp(10.0, 30.0) as u8).unwrap_or(NonZeroU8::MIN),
        suspect_to_down_after: suspicion::FIXED,
        remove_down_after: Some(FORGET_DOWN),
        max_packet_size: nonzero(PACKET_BYTES_MAX),
        notify_down_members: true,
        periodic_announce: every(ANNOUNCE_PERIOD, 1).filter(|_| !cfg!(feature = "mutant-join-once")),
        periodic_announce_to_down_members: every(REACH_PERIOD, 2).filter(|_| !cfg!(feature = "mutant-join-once")),
        periodic_gossip: every(GOSSIP_PERIOD, 3),
    }
}

fn nonzero(n: usize) -> NonZeroUsize {
    NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN)
}

/// foca's errors are about single packets and leave it as it was.
fn note(result: Result<(), foca::Error>) {
    if let Err(error) = result {
        tracing::debug!(%error, "gossip");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use std::collections::VecDeque;

    /// A few cores and a net between them, in virtual time.
    struct World {
        cores: BTreeMap<NodeId, Core>,
        wire: VecDeque<(Duration, NodeId, NodeId, Bytes)>,
        now: Duration,
        cut: BTreeSet<NodeId>,
        log: Vec<(Duration, NodeId, Action)>,
    }

    const DELAY: Duration = Duration::from_millis(1);

    fn id(n: u8) -> NodeId {
        NodeId::from_bytes([n; 32])
    }

    fn core(n: u8, epoch: u64) -> Core {
        Core::new(Peer { id: id(n), epoch }, ChaCha8Rng::from_seed([n; 32]))
    }

    fn plain(n: u8, epoch: u64) -> Core {
        Core::with_policy(Peer { id: id(n), epoch }, ChaCha8Rng::from_seed([n; 32]), Policy::PLAIN)
    }

    impl World {
        fn new(size: u8) -> World {
            World::of(size, core)
        }

        fn of(size: u8, core: impl Fn(u8, u64) -> Core) -> World {
            let cores = (0..size).map(|n| (id(n), core(n, 1000))).collect();
            let mut world =
                World { cores, wire: VecDeque::new(), now: Duration::ZERO, cut: BTreeSet::new(), log: vec![] };
            let all: BTreeSet<NodeId> = (0..size).map(id).collect();
            (0..size).for_each(|n| world.input(n, Input::Roster(all.clone(), 1)));
            world
        }

        fn input(&mut self, n: u8, input: Input) {
            let actions = self.cores.get_mut(&id(n)).unwrap().handle(self.now, input);
            self.apply(id(n), actions);
        }

        fn apply(&mut self, from: NodeId, actions: Vec<Action>) {
            for action in actions {
                match action {
                    Action::Send(to, bytes) => {
                        assert!(bytes.len() <= PACKET_BYTES_MAX);
                        self.wire.push_back((self.now + DELAY, from, to, bytes));
                    }
                    other => self.log.push((self.now, from, other)),
                }
            }
        }

        fn run(&mut self, seconds: u64) {
            self.run_for(Duration::from_secs(seconds));
        }

        fn run_for(&mut self, time: Duration) {
            let end = self.now + time;
            loop {
                let packet = self.wire.front().map_or(Duration::MAX, |p| p.0);
                let (timer, who) = self
                    .cores
                    .iter()
                    .filter(|(id, _)| !self.cut.contains(*id))
                    .map(|(id, c)| (c.wake_at(), *id))
                    .min()
                    .unwrap();
                self.now = packet.min(timer).max(self.now);
                if self.now > end {
                    self.now = end;
                    return;
                }
                if packet <= timer {
                    let (_, from, to, bytes) = self.wire.pop_front().unwrap();
                    if !self.cut.contains(&from) && !self.cut.contains(&to) {
                        let actions = self.cores.get_mut(&to).unwrap().handle(self.now, Input::Packet(from, bytes));
                        self.apply(to, actions);
                    }
                } else {
                    let actions = self.cores.get_mut(&who).unwrap().handle(self.now, Input::Tick);
                    self.apply(who, actions);
                }
            }
        }

        fn state(&self, at: u8, of: u8) -> Option<member::State> {
            self.cores[&id(at)].states.get(&id(of)).copied()
        }

        /// What node `accuser` would have gossip say of node `suspect`, said to node `to` alone.
        fn accuse(&mut self, to: u8, suspect: u8, accuser: u8) {
            let accusation = Accusation { suspect: id(suspect), epoch: 1000, incarnation: 0, accuser: id(accuser) };
            let words = &mut Words { inbox: self.cores[&id(to)].inbox.clone(), me: id(to) };
            let word = wire::encode(&Word::Accusation(accusation));
            foca::BroadcastHandler::receive_item(words, &word, Some(&Peer { id: id(accuser), epoch: 1000 })).unwrap();
            self.input(to, Input::Tick);
        }

        fn down_after(&mut self, at: u8, of: u8) -> Duration {
            let start = self.now;
            while self.state(at, of) != Some(member::State::Down) {
                assert!(self.now - start < Duration::from_secs(60), "it is never called dead");
                self.run_for(Duration::from_millis(10));
            }
            self.now - start
        }

        fn all_see(&self, of: u8, state: member::State) -> bool {
            self.cores
                .keys()
                .filter(|at| **at != id(of) && !self.cut.contains(*at))
                .all(|at| self.cores[at].states.get(&id(of)) == Some(&state))
        }
    }

    #[test]
    fn members_find_each_other_by_their_roster_alone() {
        let mut world = World::new(5);
        world.run(8);
        assert!((0..5).all(|n| world.all_see(n, member::State::Up)));
    }

    #[test]
    fn a_crash_is_known_to_all_within_eight_seconds_and_never_before() {
        for crashed in 0..5 {
            let mut world = World::new(5);
            world.run(20);
            world.log.clear();
            let at = world.now;
            world.cut.insert(id(crashed));
            world.run(8);
            assert!(world.all_see(crashed, member::State::Down));
            let downs = world.log.iter().filter(|(_, _, a)| matches!(a, Action::State(_, member::State::Down)));
            assert!(
                downs.clone().all(|(when, _, a)| *a == Action::State(id(crashed), member::State::Down) && *when > at)
            );
        }
    }

    #[test]
    fn a_broken_connection_makes_it_known_sooner() {
        let mut world = World::new(3);
        world.run(10);
        world.cut.insert(id(2));
        world.input(0, Input::Lost(id(2)));
        world.run(2);
        assert!(world.all_see(2, member::State::Down));
    }

    #[test]
    fn a_live_node_answers_a_suspicion_that_a_broken_connection_raised() {
        let mut world = World::new(3);
        world.run(10);
        world.input(0, Input::Lost(id(2)));
        world.run(8);
        assert!(world.all_see(2, member::State::Up));
        assert!(!world.log.iter().any(|(_, _, a)| *a == Action::State(id(2), member::State::Down)));
        assert_eq!(world.cores[&id(2)].me().epoch, 1000, "it goes on with the life that it had");
    }

    #[test]
    fn a_restart_replaces_the_old_run_at_once() {
        let mut world = World::new(3);
        world.run(10);
        world.cores.insert(id(2), core(2, 5000));
        let all: BTreeSet<NodeId> = (0..3).map(id).collect();
        world.input(2, Input::Roster(all, 1));
        world.run(3);
        assert!(world.all_see(2, member::State::Up));
        assert_eq!(world.cores[&id(0)].known(&id(2)).unwrap().epoch, 5000);
        assert_eq!(world.cores[&id(0)].foca.iter_membership_state().count(), 2);
    }

    #[test]
    fn a_restart_with_a_clock_that_went_backwards_still_wins() {
        let mut world = World::new(3);
        world.run(10);
        world.cores.insert(id(2), core(2, 5));
        let all: BTreeSet<NodeId> = (0..3).map(id).collect();
        world.input(2, Input::Roster(all, 1));
        world.input(2, Input::KnownAs(1000));
        world.run(6);
        assert!(world.all_see(2, member::State::Up) && world.state(2, 0) == Some(member::State::Up));
    }

    #[test]
    fn a_goodbye_is_left_and_not_down() {
        let mut world = World::new(4);
        world.run(10);
        world.input(3, Input::Leave);
        world.run(2);
        assert!(world.all_see(3, member::State::Left));
        world.run(10);
        assert!(world.all_see(3, member::State::Left));
    }

    #[test]
    fn load_and_card_version_reach_everyone() {
        let mut world = World::new(5);
        world.run(10);
        world.log.clear();
        let load = Load { cpu_permille: 500, ..Load::default() };
        world.input(1, Input::Load(load));
        world.input(1, Input::Card(77));
        world.run(3);
        let heard: BTreeSet<NodeId> = world
            .log
            .iter()
            .filter(|(_, _, a)| matches!(a, Action::Pulse(p) if p.node == id(1) && p.load == load && p.card == 77))
            .map(|(_, at, _)| *at)
            .collect();
        assert_eq!(heard.len(), 4);
    }

    #[test]
    fn a_partition_heals_by_itself() {
        let mut world = World::new(4);
        world.run(10);
        world.cut.insert(id(3));
        world.run(20);
        assert!(world.all_see(3, member::State::Down));
        world.cut.clear();
        world.run(15);
        assert!((0..4).all(|n| world.all_see(n, member::State::Up)));
    }

    #[test]
    fn who_is_off_the_roster_is_neither_heard_nor_sent_to() {
        let mut world = World::new(3);
        world.run(10);
        let rest: BTreeSet<NodeId> = [id(0), id(1)].into();
        world.input(0, Input::Roster(rest.clone(), 2));
        world.input(1, Input::Roster(rest, 2));
        world.wire.clear();
        world.log.clear();
        for _ in 0..5 {
            world.run(1);
            assert!(!world.wire.iter().any(|(_, from, to, _)| *from != id(2) && *to == id(2)));
        }
        assert!(
            !world.log.iter().any(|(_, at, a)| *at != id(2) && matches!(a, Action::State(who, _) if *who == id(2)))
        );
    }

    #[test]
    fn nobody_speaks_for_another() {
        let mut world = World::new(3);
        world.run(10);
        // What node 1 would say to node 0, sent by node 2.
        let forged = world.cores.get_mut(&id(1)).unwrap().handle(world.now, Input::Leave);
        let packets: Vec<Bytes> = forged
            .into_iter()
            .filter_map(|a| match a {
                Action::Send(to, bytes) if to == id(0) => Some(bytes),
                _ => None,
            })
            .collect();
        assert!(!packets.is_empty());
        packets.into_iter().for_each(|bytes| world.input(0, Input::Packet(id(2), bytes)));
        assert_eq!(world.state(0, 1), Some(member::State::Up));
    }

    #[test]
    fn a_starved_node_gives_others_more_time() {
        let mut world = World::new(2);
        world.run(10);
        // Node 0 sleeps while node 1 goes on: its own timers come late, and it hears nothing meanwhile.
        let mut starved = world.cores.remove(&id(0)).unwrap();
        world.now += Duration::from_secs(4);
        let actions = starved.handle(world.now, Input::Tick);
        assert!(!starved.health.is_well());
        world.cores.insert(id(0), starved);
        world.wire.clear();
        world.apply(id(0), actions);
        world.run(10);
        assert!(!world.log.iter().any(|(_, at, a)| *at == id(0) && *a == Action::State(id(1), member::State::Down)));
    }

    #[test]
    fn a_lone_accuser_waits_and_independent_ones_end_it_sooner() {
        // Node 0 alone is cut off from all others: nobody confirms what it finds.
        let alone = |confirmed: bool| {
            let mut world = World::new(6);
            world.run(20);
            world.cut.extend((1..6).map(id));
            if confirmed {
                (1..6).for_each(|suspect| (1..6).for_each(|accuser| world.accuse(0, suspect, accuser)));
            }
            let start = world.now;
            world.run(30);
            let downs = world.log.iter().filter(|(_, _, a)| matches!(a, Action::State(_, member::State::Down)));
            downs.map(|(when, _, _)| *when - start).min().unwrap()
        };
        assert!(alone(true) + Duration::from_secs(2) < alone(false));
    }

    #[test]
    fn a_suspect_answers_its_accuser_itself() {
        let mut world = World::new(6);
        world.run(20);
        world.wire.clear();
        world.accuse(2, 2, 4);
        let answers = |p: &&(Duration, NodeId, NodeId, Bytes)| (p.1, p.2) == (id(2), id(4));
        let (_, _, _, answer) = world.wire.iter().find(answers).unwrap();
        assert_eq!(Packets.decode_header(answer.as_ref()).unwrap().src_incarnation, 1);
        assert!(!world.cores[&id(2)].health.is_well(), "who is suspected may be at fault");
    }

    #[test]
    fn time_that_a_node_slept_through_counts_against_nobody() {
        // It stops in the middle of a probe; the answer lies unread when its overdue timers fire.
        let mut world = World::new(3);
        world.run(20);
        for _ in 0..20 {
            world.run_for(Duration::from_millis(470));
            let mut asleep = world.cores.remove(&id(0)).unwrap();
            world.now += Duration::from_millis(900);
            let actions = asleep.handle(world.now, Input::Tick);
            world.cores.insert(id(0), asleep);
            world.apply(id(0), actions);
        }
        assert_eq!(world.cores[&id(0)].accused(), 0);
    }

    #[test]
    fn who_is_asked_to_try_says_so_at_once() {
        let mut world = World::new(3);
        world.run(20);
        let ask = Message::PingReq { target: world.cores[&id(2)].me(), probe_number: 1 };
        let (src, dst) = (world.cores[&id(0)].me(), world.cores[&id(1)].me());
        let mut packet = Vec::new();
        let header = foca::Header { src, src_incarnation: 0, dst, message: ask };
        Packets.encode_header(&header, &mut packet).unwrap();
        world.wire.clear();
        world.input(1, Input::Packet(id(0), packet.into()));
        let receivers: BTreeSet<NodeId> = world.wire.iter().map(|(_, _, to, _)| *to).collect();
        assert_eq!(receivers, BTreeSet::from([id(0), id(2)]));
    }

    #[test]
    fn plain_swim_heeds_neither_health_nor_confirmations_nor_broken_connections() {
        let mut world = World::of(3, plain);
        world.run(20);
        world.input(0, Input::Lost(id(2)));
        assert_eq!(world.cores[&id(0)].accused(), 0);
        world.cut.insert(id(2));
        let took = world.down_after(0, 2);
        assert!(took >= suspicion::FIXED && took <= suspicion::FIXED + 4 * PROBE_PERIOD, "{took:?}");
        assert!(world.cores[&id(0)].health.is_well());
    }
}
