//! Cron jobs: each moment at which one is due is acted on, once.

use crate::{World, clock, log};
use anyhow::{Context as _, Result, bail, ensure};
use skep_actors::{
    cron::{self, Job, Kind, Message, NewJob, core},
    scheduler::{self, Record, Spec},
};
use skep_runtime::Wire;
use std::time::Duration;

/// How long a question may take: an acknowledgement by another member is waited for 10 s.
const ASK_TIMEOUT: Duration = Duration::from_secs(15);
/// How long after its moment a run may start: an owner is missed and followed, and a task is placed once more.
const LATE_MAX: Duration = Duration::from_secs(60);
/// How long after the last fault a node may not know a job: ledgers are compared by then.
const KNOWN_TIMEOUT: Duration = Duration::from_secs(60);

/// The jobs that nodes have acknowledged.
#[derive(Default)]
pub struct Timetable {
    jobs: Vec<Job>,
}

impl Timetable {
    /// Makes a job on a node.
    pub async fn add(&mut self, world: &World, by: usize, kind: Kind, expr: String) -> Result<()> {
        let new = NewJob {
            name: expr.clone(),
            description: None,
            agent_id: None,
            kind,
            expr,
            tz: "Europe/Zurich".into(),
            spec: Spec::new("attempt"),
        };
        let cron = world.node(by)?.directory().here::<Message>(cron::NAME);
        let job = cron.ask(ASK_TIMEOUT, |reply| Message::Add(Wire(new), reply)).await??;
        world.note(&format!("{by} has the job {} ({})", job.definition.id, job.definition.new.expr));
        self.jobs.push(job);
        Ok(())
    }

    /// No job is lost: within [`KNOWN_TIMEOUT`] after the last fault every node knows all of them.
    pub async fn is_known_to_all(&self, world: &World) -> Result<()> {
        let start = clock::now();
        for number in world.running() {
            loop {
                let cron = world.node(number)?.directory().here::<Message>(cron::NAME);
                let known = cron.ask(ASK_TIMEOUT, Message::List).await?;
                let lacks = |job: &&Job| !known.iter().any(|other| other.definition == job.definition);
                let Some(lost) = self.jobs.iter().find(lacks) else { break };
                let late = clock::now() - start >= KNOWN_TIMEOUT;
                ensure!(!late, "{number} does not know the job {}", lost.definition.id);
                world.pass(Duration::from_millis(500)).await;
            }
        }
        Ok(())
    }

    /// Every moment from a job's creation until now is one task, which was started within [`LATE_MAX`] and not more often
    /// than its record counts attempts. Where somebody who lives could be taken for dead, it may have run more often.
    pub async fn is_kept(&self, world: &World) -> Result<()> {
        world.pass(LATE_MAX).await;
        let asked = *world.running().first().context("nobody is left")?;
        let until_ms = world.node(asked)?.env().now_ms() - LATE_MAX.as_millis() as u64;
        let mut moments = 0;
        for job in &self.jobs {
            let id = job.definition.id;
            let schedule = core::parse(&job.definition).map_err(anyhow::Error::msg)?;
            let mut at_ms = job.definition.created_ms;
            while let Some(next_ms) = schedule.next(at_ms).filter(|next| *next <= until_ms) {
                at_ms = next_ms;
                moments += 1;
                let task = core::task(id, at_ms);
                let starts = log::starts(task);
                ensure!(!starts.is_empty(), "{id} was due at {at_ms} and nothing was started: {task}");
                if world.was_divided() || starts.len() == 1 {
                    continue;
                }
                let record = record(world, task).await?;
                let fits = starts.len() <= record.attempts as usize;
                ensure!(fits, "{id} was due at {at_ms} once and was started at {starts:?}: {record:?}");
            }
        }
        world.note(&format!("{moments} moments of {} jobs were kept", self.jobs.len()));
        Ok(())
    }
}

async fn record(world: &World, task: uuid::Uuid) -> Result<Record> {
    for number in world.running() {
        let desk = world.node(number)?.directory().here::<scheduler::Message>(scheduler::NAME);
        if let Ok(Ok(record)) = desk.ask(ASK_TIMEOUT, |reply| scheduler::Message::Get(Wire(task), reply)).await {
            return Ok(record);
        }
    }
    bail!("nobody knows the task {task}")
}
