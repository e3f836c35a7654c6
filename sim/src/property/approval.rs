//! Approvals: no call that somebody has to be asked about is made without a yes for exactly its arguments.

use crate::World;
use anyhow::{Context as _, Result, bail, ensure};
use rand::{RngExt, seq::IndexedRandom};
use skep_actors::{
    approval::{self, ApprovalError, Arguments, Call, Decide, Judged, Message, Policy, Rule, Verdict},
    audit::{self, What, Who},
    digest::Digest,
};
use skep_runtime::{Handle, Wire};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use uuid::Uuid;

/// How long a question may take: both disks, and another member's.
const ASK_TIMEOUT: Duration = Duration::from_secs(70);
/// How long the members may take to check their logs.
const VERIFY_TIMEOUT: Duration = Duration::from_secs(90);
/// Entries that are read of each log: more than a scenario makes.
const ENTRIES_MAX: u32 = 1000;
/// Kinds of arguments: few, so that calls are like each other.
const KINDS: u32 = 5;
const TURN: Uuid = Uuid::from_u128(0x7091);
/// The tool that is asked about, and the one that is refused.
const ASKED: &str = "run_task";
const NEVER: &str = "never";

/// What was wanted, asked and answered, as the outside knows it.
#[derive(Default)]
pub struct Approvals {
    calls: u128,
    /// Calls that wait, on which node and for which request.
    waiting: Vec<(usize, Call, Uuid)>,
    /// What each request that a node told of is about.
    about: BTreeMap<Uuid, Digest>,
    /// Requests that somebody said yes to, heard or not.
    approved: BTreeSet<Uuid>,
    /// Requests that were denied, and whoever did it was told that it counts.
    denied: BTreeSet<Uuid>,
    /// How many calls with these arguments were made.
    made: BTreeMap<Digest, usize>,
}

impl Approvals {
    /// The policy under which all of this happens.
    pub async fn set(world: &World, by: usize) -> Result<()> {
        let rule = |tool: &str, verdict| Rule {
            name: tool.into(),
            tool: tool.into(),
            agent: "*".into(),
            when: BTreeMap::new(),
            verdict,
            reason: None,
        };
        let rules = vec![rule(ASKED, Verdict::Ask), rule(NEVER, Verdict::Deny)];
        let policy = Policy { rules, ..Policy::default() };
        desk(world, by)?.ask(ASK_TIMEOUT, |port| Message::SetPolicy(Wire(policy), port)).await??;
        for number in world.running() {
            loop {
                let known = desk(world, number)?.ask(ASK_TIMEOUT, Message::Policy).await??;
                if known.rules.len() == 2 {
                    break;
                }
                world.pass(Duration::from_millis(500)).await;
            }
        }
        Ok(())
    }

    /// A run on this node wants to make a call.
    pub async fn want(&mut self, world: &mut World, number: usize) -> Result<()> {
        self.calls += 1;
        let (kind, never) = (world.rng().random_range(0..KINDS), world.rng().random_bool(0.1));
        let run = Uuid::from_u128(self.calls);
        let who = Who { agent: String::new(), run, turn: TURN, thread: TURN };
        let args = Arguments::of(&serde_json::json!({ "command": format!("echo {kind}") }));
        let tool = if never { NEVER } else { ASKED };
        let call = Call { id: run, who, tool: tool.into(), args, scope: TURN, doubtful: false };
        self.judge(world, number, call, None).await
    }

    /// A run that waits looks again.
    pub async fn look(&mut self, world: &mut World) -> Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let place = world.rng().random_range(0..self.waiting.len());
        let (number, call, id) = self.waiting.swap_remove(place);
        match world.running().contains(&number) {
            true => self.judge(world, number, call, Some(id)).await,
            // Runs end with their node.
            false => Ok(()),
        }
    }

    async fn judge(&mut self, world: &World, number: usize, call: Call, waited: Option<Uuid>) -> Result<()> {
        let (args, ask) = (call.args.digest(), Wire((call.clone(), waited)));
        match desk(world, number)?.ask(ASK_TIMEOUT, |port| Message::Judge(ask, port)).await {
            Ok(Ok(Judged::May)) => {
                ensure!(call.tool == ASKED, "{number} allowed {}", call.tool);
                let made = self.made.entry(args).or_default();
                *made += 1;
                let yes = self.approved.iter().filter(|id| self.about.get(id) == Some(&args)).count();
                ensure!(*made <= yes, "{made} calls with {} were made, with {yes} approvals", call.args.text());
            }
            Ok(Ok(Judged::Waits(id))) => {
                let about = self.about.entry(id).or_insert(args);
                ensure!(*about == args, "{number} asks about other arguments than {}", call.args.text());
                self.waiting.push((number, call, id));
            }
            Ok(Ok(Judged::MayNot(why))) => world.note(&format!("{number}: {why}")),
            // It is not made then.
            Ok(Err(error)) => world.note(&format!("{number} can't judge: {error}")),
            Err(error) => world.note(&format!("{number} does not judge: {error}")),
        }
        Ok(())
    }

    /// Somebody answers a request at any node.
    pub async fn answer(&mut self, world: &mut World) -> Result<()> {
        let ids: Vec<Uuid> = self.about.keys().copied().collect();
        let (nodes, approve) = (world.running(), world.rng().random_bool(0.7));
        let (Some(request), Some(via)) = (ids.choose(world.rng()).copied(), nodes.choose(world.rng()).copied()) else {
            return Ok(());
        };
        if approve && !self.denied.contains(&request) {
            // Unheard, it may count all the same.
            self.approved.insert(request);
        }
        let answer = Decide { request, approve, by: format!("at {via}"), because: None, via: world.id(via) };
        match desk(world, via)?.ask(ASK_TIMEOUT, |port| Message::Decide(Wire(answer), port)).await {
            Ok(Ok(decided)) => {
                ensure!(!self.denied.contains(&request), "{request} was denied, and answered again: {decided:?}");
                if !approve {
                    self.denied.insert(request);
                }
            }
            Ok(Err(ApprovalError::Decided { approved: true, by })) => {
                ensure!(!self.denied.contains(&request), "{request} was denied, and is approved by {by}");
            }
            Ok(Err(error)) => world.note(&format!("{via} takes no answer: {error}")),
            Err(error) => world.note(&format!("{via} does not take an answer: {error}")),
        }
        Ok(())
    }

    /// Every call that was begun on a request was approved, for exactly these arguments, and is the only one of it; nothing
    /// that was denied was begun; every log is whole.
    pub async fn are_kept(&self, world: &World) -> Result<()> {
        let mut used = BTreeSet::new();
        let mut began = BTreeMap::<Digest, usize>::new();
        for number in world.running() {
            let log = world.node(number)?.directory().here::<audit::Message>(audit::NAME);
            let entries = log.ask(ASK_TIMEOUT, |port| audit::Message::Newest(Wire(ENTRIES_MAX), port)).await?;
            for what in entries.into_iter().filter_map(|entry| entry.what) {
                let What::Began { tool, args, request, .. } = what else { continue };
                let Some(request) = request else { bail!("{number} began {tool} and asked nobody") };
                ensure!(
                    self.about.get(&request) == Some(&args),
                    "{number} began {tool} with other arguments than approved"
                );
                ensure!(self.approved.contains(&request), "{number} began {tool} without an approval");
                ensure!(!self.denied.contains(&request), "{number} began {tool}, which was denied");
                ensure!(used.insert(request), "{number} began {tool} twice on one approval");
                *began.entry(args).or_default() += 1;
            }
        }
        for (args, made) in &self.made {
            let noted = began.get(args).copied().unwrap_or_default();
            ensure!(noted >= *made, "{made} calls with {args} were made, and {noted} are in the audit");
        }
        for number in world.running() {
            let log = world.node(number)?.directory().here::<audit::Message>(audit::NAME);
            let checked = log.ask(VERIFY_TIMEOUT, audit::Message::VerifyAll).await?;
            for log in checked {
                let report = log.report.map_err(anyhow::Error::msg).with_context(|| log.name.clone())?;
                ensure!(report.fault.is_none(), "{number} finds in the log of {}: {:?}", log.name, report.fault);
            }
        }
        let (asked, made) = (self.about.len(), used.len());
        world.note(&format!("{} calls, {asked} requests, {made} made on an approval", self.calls));
        Ok(())
    }
}

fn desk(world: &World, number: usize) -> Result<Handle<Message>> {
    Ok(world.node(number)?.directory().here(approval::NAME))
}
