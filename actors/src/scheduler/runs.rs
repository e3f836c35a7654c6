//! What runs on this node, for whichever scheduler: room, promises, and endings that their owner has not heard.
//!
//! No I/O: the desk starts and ends processes and keeps [`Row`]s on disk.

use super::{
    core::need,
    messages::{Ending, Record, Run, ScheduleError, State, Term},
    placement::{Candidate, Need, Taken},
};
use crate::task::Level;
use serde::{Deserialize, Serialize};
use skep_runtime::NodeId;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use uuid::Uuid;

/// Ended runs whose output is kept here: at most 8 MiB each.
pub const KEPT_OUTPUTS_MAX: usize = 64;
/// Ended runs of which is remembered how they ended, at some 300 bytes each. An heir that doesn't know asks for what was
/// done before: as long as this node remembers, it isn't done again. As many as an owner keeps records of.
pub const KEPT_ROWS_MAX: usize = super::core::ENDED_RECORDS_MAX;

/// A run as it is kept on disk, so that a restart knows what died with the process and what was not told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Who keeps the record.
    pub owner: NodeId,
    /// Its term: an earlier owner is not obeyed.
    pub term: Term,
    /// Which attempt it was.
    pub attempt: u32,
    /// Of which command of this id: when that was given, in milliseconds since 1970.
    pub submitted_ms: u64,
    /// Cores that it was promised.
    pub cpus: u16,
    /// Bytes of memory that it was promised.
    pub memory_bytes: u64,
    /// Graphics processors that it was promised.
    pub gpus: u16,
    /// The fence that it has.
    pub sandbox: Level,
    /// How it ended; `None` while it runs. Without its output and files once that is kept no longer.
    pub ending: Option<Ending>,
    /// When, in milliseconds since 1970; 0 while it runs.
    pub ended_ms: u64,
    /// Its owner knows how it ended. On disk once its output is kept no longer: until then a restart tells it again.
    pub heard: bool,
}

/// What becomes of rows when an owner has heard.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Rows to write.
    pub written: Vec<(Uuid, Row)>,
    /// Runs whose output goes.
    pub outputs: Vec<Uuid>,
    /// Runs that are forgotten.
    pub forgotten: Vec<Uuid>,
}

/// What to do with an order to run.
#[derive(Debug, PartialEq, Eq)]
pub enum Order {
    /// Write this row, then start it.
    Start(Box<Row>),
    /// It was started before, behind this fence; the owner asks again.
    Known(Level),
    /// It was started before, for an owner whose place this one takes, or has ended, and whoever asks doesn't know. Write
    /// this row; if it has ended, tell.
    Inherited(Box<Row>),
}

/// The runs of one node.
#[derive(Debug, Default)]
pub struct Runs {
    rows: BTreeMap<Uuid, Row>,
    /// Those that run: few among many.
    active: BTreeSet<Uuid>,
    /// Ended and heard, in that order: with their outputs.
    kept: VecDeque<Uuid>,
    /// The same, those before them: without, and when they ended. Some may be forgotten or have run again since.
    remembered: VecDeque<(Uuid, u64)>,
    /// Told to end for this reason, not because anybody wants them cancelled.
    leaving: BTreeMap<Uuid, String>,
}

impl Runs {
    /// With the rows that survived a restart. What ran then is dead: it ends as lost. Answers with the rows that
    /// changed thereby.
    pub fn new(mut rows: Vec<(Uuid, Row)>, why: &str, now_ms: u64) -> (Runs, Vec<(Uuid, Row)>) {
        rows.sort_by_key(|(id, row)| (row.ended_ms, *id));
        let mut runs = Runs::default();
        let mut died = Vec::new();
        for (id, mut row) in rows {
            if row.ending.is_none() {
                (row.ending, row.ended_ms) = (Some(lost(why)), now_ms);
                died.push((id, row.clone()));
            }
            if row.heard {
                runs.kept.push_back(id);
            }
            runs.rows.insert(id, row);
        }
        let over = runs.kept.len().saturating_sub(KEPT_OUTPUTS_MAX);
        let old: Vec<Uuid> = runs.kept.drain(..over).collect();
        runs.remembered = old.into_iter().filter_map(|id| Some((id, runs.rows.get(&id)?.ended_ms))).collect();
        (runs, died)
    }

    /// Whether to start a run behind such a fence, given what this node has. `node` carries what it is; what it promised is known here.
    ///
    /// # Errors
    /// [`ScheduleError::NoRoom`], [`ScheduleError::TakenOver`], [`ScheduleError::Further`].
    pub fn order(&self, run: &Run, sandbox: Level, mut node: Candidate) -> Result<Order, ScheduleError> {
        let row = Row {
            owner: run.owner,
            term: run.term,
            attempt: run.attempt,
            submitted_ms: run.submitted_ms,
            cpus: run.spec.cpus,
            memory_bytes: run.spec.memory_bytes,
            gpus: run.spec.demand.gpus(),
            sandbox,
            ending: None,
            ended_ms: 0,
            heard: false,
        };
        match self.rows.get(&run.id) {
            Some(old) if old.term > run.term => return Err(ScheduleError::TakenOver),
            // It was given anew under a key that was forgotten, and owes nothing to the one before but its end.
            Some(old) if old.submitted_ms != run.submitted_ms && old.ending.is_some() => {}
            Some(old) if old.submitted_ms != run.submitted_ms => return Err(ScheduleError::NoRoom),
            Some(old) if old.attempt > run.attempt => return Err(ScheduleError::Further(old.attempt)),
            Some(old) if old.attempt == run.attempt && old.term == run.term && old.ending.is_none() => {
                return Ok(Order::Known(old.sandbox));
            }
            Some(old) if old.attempt == run.attempt => {
                // How it ended was told to another, or to one who lost it: they may have died with it.
                let row = Row { owner: run.owner, term: run.term, heard: false, ..old.clone() };
                return Ok(Order::Inherited(Box::new(row)));
            }
            // An older attempt must be over first; the owner has asked for its end.
            Some(old) if old.ending.is_none() => return Err(ScheduleError::NoRoom),
            _ => {}
        }
        for (_, active) in self.active() {
            node.taken.add(Taken {
                commands: 1,
                cpus: active.cpus.into(),
                memory_bytes: active.memory_bytes,
                gpus: active.gpus.into(),
            });
        }
        let need = Need { forced: None, ..need(&run.spec) };
        if node.has_room(&need) { Ok(Order::Start(Box::new(row))) } else { Err(ScheduleError::NoRoom) }
    }

    /// A run that is about to start, or has a new owner.
    pub fn put(&mut self, id: Uuid, row: Row) {
        self.kept.retain(|kept| *kept != id);
        match row.ending {
            None => self.active.insert(id),
            Some(_) => self.active.remove(&id),
        };
        self.rows.insert(id, row);
    }

    fn active(&self) -> impl Iterator<Item = (&Uuid, &Row)> {
        self.active.iter().filter_map(|id| Some((id, self.rows.get(id)?)))
    }

    /// A run that could not be written down: it never was.
    pub fn undone(&mut self, id: Uuid) {
        self.active.remove(&id);
        self.rows.remove(&id);
    }

    /// Whether a run of this row ends because its owner's place was taken by one who doesn't count on it: `record` is what
    /// that one wrote. Asked once.
    pub fn supersede(&mut self, me: NodeId, record: &Record) -> Option<Row> {
        let row = self.rows.get(&record.id).filter(|row| row.term < record.term && row.ending.is_none())?;
        let counted_on = (record.assigned, record.attempts) == (Some(me), row.attempt);
        // Whoever owns the command now may yet ask for this very attempt.
        let why = "another node took it over and counted on another attempt";
        (!counted_on && self.leaving.insert(record.id, why.into()).is_none()).then(|| row.clone())
    }

    /// Everything that runs is to end as lost. What that is.
    pub fn send_away(&mut self, why: &str) -> Vec<(Uuid, u32, Term)> {
        let running: Vec<_> = self.active().map(|(id, row)| (*id, row.attempt, row.term)).collect();
        self.leaving.extend(running.iter().map(|(id, ..)| (*id, why.to_owned())));
        running
    }

    /// This is to end as lost. The term in which it runs, if it does.
    pub fn send_one_away(&mut self, id: Uuid, attempt: u32, why: &str) -> Option<Term> {
        let row = self.rows.get(&id).filter(|row| row.attempt == attempt && row.ending.is_none())?;
        self.leaving.insert(id, why.into());
        Some(row.term)
    }

    /// A run ended here. The row to write, unless it was known.
    pub fn ended(&mut self, id: Uuid, attempt: u32, ending: Ending, now_ms: u64) -> Option<Row> {
        let row = self.rows.get_mut(&id).filter(|r| r.attempt == attempt && r.ending.is_none())?;
        self.active.remove(&id);
        row.ended_ms = now_ms;
        row.ending = Some(match self.leaving.remove(&id).filter(|_| ending.state == State::Cancelled) {
            Some(why) => lost(&why),
            None => ending,
        });
        Some(row.clone())
    }

    /// The owner knows.
    pub fn heard(&mut self, id: Uuid, attempt: u32, term: Term) -> Heard {
        let mut heard = Heard::default();
        let Some(row) = self.rows.get_mut(&id).filter(|r| (r.attempt, r.term) == (attempt, term) && !r.heard) else {
            return heard;
        };
        row.heard = true;
        self.kept.push_back(id);
        while self.kept.len() > KEPT_OUTPUTS_MAX
            && let Some(old) = self.kept.pop_front()
        {
            heard.outputs.push(old);
            let Some(row) = self.rows.get_mut(&old) else { continue };
            self.remembered.push_back((old, row.ended_ms));
            if let Some(ending) = row.ending.as_mut() {
                ending.output = String::new();
                ending.artefacts = Vec::new();
            }
            heard.written.push((old, row.clone()));
        }
        let over = self.remembered.len().saturating_sub(KEPT_ROWS_MAX);
        for (old, ended_ms) in self.remembered.drain(..over) {
            if self.rows.get(&old).is_some_and(|row| row.heard && row.ended_ms == ended_ms) {
                self.rows.remove(&old);
                heard.forgotten.push(old);
            }
        }
        heard
    }

    /// The owner's record went. Whether anything was kept of it.
    pub fn forget(&mut self, id: Uuid) -> bool {
        if self.rows.get(&id).is_none_or(|r| r.ending.is_none()) {
            return false;
        }
        self.kept.retain(|kept| *kept != id);
        self.leaving.remove(&id);
        self.rows.remove(&id).is_some()
    }

    /// One run.
    pub fn get(&self, id: Uuid) -> Option<&Row> {
        self.rows.get(&id)
    }

    /// All of them.
    #[cfg(test)]
    pub fn all(&self) -> impl Iterator<Item = (&Uuid, &Row)> {
        self.rows.iter()
    }

    /// Those whose output may be here.
    pub fn with_output(&self) -> impl Iterator<Item = (&Uuid, &Row)> {
        let without: BTreeSet<Uuid> = self.remembered.iter().map(|(id, _)| *id).collect();
        self.rows.iter().filter(move |(id, _)| !without.contains(id))
    }

    /// How many run now.
    pub fn running(&self) -> usize {
        self.active.len()
    }
}

/// The ending of a run whose node failed.
pub fn lost(why: &str) -> Ending {
    Ending {
        state: State::Failed,
        exit_code: None,
        error: Some(why.into()),
        output: String::new(),
        output_bytes: 0,
        artefacts: Vec::new(),
        lost: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::core::spec;

    fn node(cpus: u16) -> Candidate {
        Candidate {
            id: NodeId::from_bytes([1; 32]),
            up: true,
            draining: false,
            shut: false,
            cpus,
            memory_bytes: 100,
            free_bytes: 100,
            taken: Taken::default(),
            offer: std::sync::Arc::new(crate::scheduler::demand::Offer {
                sandbox: Level::Landlock,
                ..Default::default()
            }),
        }
    }

    fn run(n: u128, attempt: u32, cpus: u16) -> Run {
        let mut spec = spec("true");
        spec.cpus = cpus;
        let owner = NodeId::from_bytes([2; 32]);
        Run { id: Uuid::from_u128(n), owner, attempt, term: Term(1), submitted_ms: 1, spec }
    }

    fn start(runs: &mut Runs, run: Run) -> Result<Order, ScheduleError> {
        let order = runs.order(&run, Level::Landlock, node(2))?;
        if let Order::Start(row) = &order {
            runs.put(run.id, (**row).clone());
        }
        Ok(order)
    }

    #[test]
    fn cores_are_promised_once_and_given_back_at_the_end() {
        let mut runs = Runs::default();
        assert!(matches!(start(&mut runs, run(1, 1, 2)), Ok(Order::Start(_))));
        assert_eq!(start(&mut runs, run(1, 1, 2)), Ok(Order::Known(Level::Landlock)));
        assert_eq!(start(&mut runs, run(2, 1, 1)), Err(ScheduleError::NoRoom));
        assert!(runs.ended(Uuid::from_u128(1), 1, lost("x"), 1).is_some());
        assert!(runs.ended(Uuid::from_u128(1), 1, lost("x"), 1).is_none(), "it ends once");
        assert!(matches!(start(&mut runs, run(2, 1, 1)), Ok(Order::Start(_))));
    }

    #[test]
    fn a_run_goes_on_under_a_new_owner_and_the_old_one_is_no_longer_obeyed() {
        let mut runs = Runs::default();
        start(&mut runs, run(1, 1, 0)).unwrap();
        let (id, heir) =
            (Uuid::from_u128(1), Run { owner: NodeId::from_bytes([3; 32]), term: Term(2), ..run(1, 1, 0) });
        runs.ended(id, 1, lost("x"), 1);
        runs.heard(id, 1, Term(1));
        let Ok(Order::Inherited(row)) = runs.order(&heir, Level::Landlock, node(2)) else {
            panic!("it is the same run")
        };
        assert!(row.owner == heir.owner && !row.heard && row.ending.is_some(), "the heir has not heard how it ended");
        runs.put(id, *row);
        assert_eq!(runs.heard(id, 1, Term(1)), Heard::default(), "that was told to another");
        assert_eq!(runs.order(&run(1, 2, 0), Level::Landlock, node(2)), Err(ScheduleError::TakenOver));
        let again = runs.order(&heir, Level::Landlock, node(2));
        assert!(matches!(again, Ok(Order::Inherited(_))), "it asks, so it doesn't know");
    }

    #[test]
    fn what_is_given_anew_under_a_key_that_was_forgotten_runs() {
        let mut runs = Runs::default();
        start(&mut runs, run(1, 1, 0)).unwrap();
        let anew = Run { term: Term(2), submitted_ms: 2, ..run(1, 1, 0) };
        assert_eq!(start(&mut runs, anew.clone()), Err(ScheduleError::NoRoom), "the one before runs yet");
        runs.ended(Uuid::from_u128(1), 1, lost("x"), 1);
        assert!(matches!(start(&mut runs, anew), Ok(Order::Start(_))));
        assert_eq!(start(&mut runs, run(1, 1, 0)), Err(ScheduleError::TakenOver), "an order that was late");
    }

    #[test]
    fn nothing_that_was_done_here_is_done_again_for_one_who_has_heard_less() {
        let mut runs = Runs::default();
        start(&mut runs, run(1, 1, 0)).unwrap();
        let id = Uuid::from_u128(1);
        runs.ended(id, 1, lost("x"), 1);
        start(&mut runs, run(1, 2, 0)).unwrap();
        assert_eq!(start(&mut runs, run(1, 1, 0)), Err(ScheduleError::Further(2)), "an order that was late");
        runs.ended(id, 2, lost("x"), 2);
        runs.heard(id, 2, Term(1));
        let heir = Run { owner: NodeId::from_bytes([3; 32]), term: Term(2), ..run(1, 1, 0) };
        assert_eq!(start(&mut runs, heir.clone()), Err(ScheduleError::Further(2)));
        assert!(matches!(start(&mut runs, Run { attempt: 2, ..heir }), Ok(Order::Inherited(_))));
    }

    #[test]
    fn a_run_that_an_heir_does_not_count_on_is_lost_and_not_cancelled() {
        let mut runs = Runs::default();
        let me = node(2).id;
        start(&mut runs, run(1, 2, 0)).unwrap();
        let new = |term| Record::new(Uuid::from_u128(1), spec("true"), me, Term(term), 0);
        let record = |term, attempts| Record { attempts, assigned: Some(me), state: State::Running, ..new(term) };
        assert_eq!(runs.supersede(me, &record(1, 1)), None, "its own owner asks for its end by itself");
        assert_eq!(runs.supersede(me, &record(2, 2)), None, "it is counted on");
        assert!(runs.supersede(me, &record(2, 1)).is_some());
        assert_eq!(runs.supersede(me, &record(2, 1)), None, "it was told");
        let cancelled = Ending { state: State::Cancelled, lost: false, ..lost("x") };
        assert!(runs.ended(Uuid::from_u128(1), 2, cancelled, 1).unwrap().ending.unwrap().lost);
    }

    #[test]
    fn a_draining_node_starts_nothing() {
        let draining = Candidate { draining: true, ..node(2) };
        assert_eq!(Runs::default().order(&run(1, 1, 0), Level::Landlock, draining), Err(ScheduleError::NoRoom));
    }

    #[test]
    fn what_ran_at_a_restart_is_lost_and_told() {
        let mut runs = Runs::default();
        start(&mut runs, run(1, 1, 0)).unwrap();
        let rows = runs.all().map(|(id, row)| (*id, row.clone())).collect();
        let (runs, died) = Runs::new(rows, "node x restarted", 1);
        assert_eq!(died.len(), 1);
        assert!(runs.get(Uuid::from_u128(1)).unwrap().ending.as_ref().unwrap().lost);
        assert_eq!(runs.running(), 0);
    }

    #[test]
    fn outputs_are_kept_for_the_newest_endings_and_how_the_others_ended_for_many_more_after_a_restart_too() {
        let mut runs = Runs::default();
        let whole = |n: u128| {
            let output = "said".to_owned();
            (Uuid::from_u128(n), Ending { output, lost: false, ..lost("x") })
        };
        // The newest have the smallest ids.
        let all = KEPT_OUTPUTS_MAX as u128 + 2;
        for n in (0..all).rev() {
            let (id, ending) = whole(n);
            start(&mut runs, run(n, 1, 0)).unwrap();
            runs.ended(id, 1, ending, (all - n) as u64);
            let heard = runs.heard(id, 1, Term(1));
            let old = n + KEPT_OUTPUTS_MAX as u128;
            let expected = if old < all { vec![Uuid::from_u128(old)] } else { vec![] };
            assert_eq!((heard.outputs.clone(), heard.forgotten), (expected.clone(), vec![]));
            let stripped: Vec<Uuid> = heard.written.iter().map(|(id, _)| *id).collect();
            assert_eq!(stripped, expected, "what is not kept is not on the disk either");
        }
        let rows: Vec<_> = runs.all().map(|(id, row)| (*id, row.clone())).collect();
        let (mut runs, _) = Runs::new(rows, "restarted", 1000);
        let kept = |runs: &Runs| runs.all().filter(|(_, r)| !r.ending.as_ref().unwrap().output.is_empty()).count();
        assert_eq!((runs.all().count(), kept(&runs)), (all as usize, KEPT_OUTPUTS_MAX));
        start(&mut runs, run(1000, 1, 0)).unwrap();
        runs.ended(Uuid::from_u128(1000), 1, lost("x"), 1001);
        let heard = runs.heard(Uuid::from_u128(1000), 1, Term(1));
        assert_eq!(heard.outputs, [Uuid::from_u128(KEPT_OUTPUTS_MAX as u128 - 1)], "the oldest, whatever its id");
        for n in 2000..2000 + KEPT_ROWS_MAX as u128 {
            start(&mut runs, run(n, 1, 0)).unwrap();
            runs.ended(Uuid::from_u128(n), 1, lost("x"), 1002);
            runs.heard(Uuid::from_u128(n), 1, Term(1));
        }
        assert_eq!(runs.all().count(), KEPT_OUTPUTS_MAX + KEPT_ROWS_MAX);
    }
}
