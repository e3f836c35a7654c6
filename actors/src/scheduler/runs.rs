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
use std::collections::{BTreeMap, VecDeque};
use uuid::Uuid;

/// Ended runs whose output is kept here: at most 8 MiB each.
pub const KEPT_OUTPUTS_MAX: usize = 64;

/// A run as it is kept on disk, so that a restart knows what died with the process and what was not told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Who keeps the record.
    pub owner: NodeId,
    /// Its term: an earlier owner is not obeyed.
    pub term: Term,
    /// Which attempt it was.
    pub attempt: u32,
    /// Cores that it was promised.
    pub cpus: u16,
    /// Bytes of memory that it was promised.
    pub memory_bytes: u64,
    /// Graphics processors that it was promised.
    pub gpus: u16,
    /// The fence that it has.
    pub sandbox: Level,
    /// How it ended; `None` while it runs.
    pub ending: Option<Ending>,
    /// Its owner knows how it ended.
    pub heard: bool,
}

/// What to do with an order to run.
#[derive(Debug, PartialEq, Eq)]
pub enum Order {
    /// Write this row, then start it.
    Start(Box<Row>),
    /// It was started before, behind this fence; the owner asks again.
    Known(Level),
    /// It was started before, for an owner whose place this one takes. Write this row; if it has ended, tell.
    Inherited(Box<Row>),
}

/// The runs of one node.
#[derive(Debug, Default)]
pub struct Runs {
    rows: BTreeMap<Uuid, Row>,
    /// Ended and heard, in that order.
    kept: VecDeque<Uuid>,
    /// Told to end for this reason, not because anybody wants them cancelled.
    leaving: BTreeMap<Uuid, String>,
}

impl Runs {
    /// With the rows that survived a restart. What ran then is dead: it ends as lost. Answers with the rows that
    /// changed thereby.
    pub fn new(rows: Vec<(Uuid, Row)>, why: &str) -> (Runs, Vec<(Uuid, Row)>) {
        let mut runs = Runs::default();
        let mut died = Vec::new();
        for (id, mut row) in rows {
            if row.ending.is_none() {
                row.ending = Some(lost(why));
                died.push((id, row.clone()));
            }
            if row.heard {
                runs.kept.push_back(id);
            }
            runs.rows.insert(id, row);
        }
        (runs, died)
    }

    /// Whether to start a run behind such a fence, given what this node has. `node` carries what it is; what it promised is known here.
    ///
    /// # Errors
    /// [`ScheduleError::NoRoom`], [`ScheduleError::TakenOver`].
    pub fn order(&self, run: &Run, sandbox: Level, mut node: Candidate) -> Result<Order, ScheduleError> {
        let row = Row {
            owner: run.owner,
            term: run.term,
            attempt: run.attempt,
            cpus: run.spec.cpus,
            memory_bytes: run.spec.memory_bytes,
            gpus: run.spec.demand.gpus(),
            sandbox,
            ending: None,
            heard: false,
        };
        match self.rows.get(&run.id) {
            Some(old) if old.term > run.term => return Err(ScheduleError::TakenOver),
            Some(old) if old.attempt == run.attempt && old.term == run.term => {
                return Ok(Order::Known(old.sandbox));
            }
            Some(old) if old.attempt == run.attempt => {
                // How it ended was told to the other, who may have died with it.
                let row = Row { owner: run.owner, term: run.term, heard: false, ..old.clone() };
                return Ok(Order::Inherited(Box::new(row)));
            }
            // An older attempt must be over first; the owner has asked for its end.
            Some(old) if old.ending.is_none() => return Err(ScheduleError::NoRoom),
            _ => {}
        }
        for active in self.rows.values().filter(|r| r.ending.is_none()) {
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
        self.rows.insert(id, row);
    }

    /// A run that could not be written down: it never was.
    pub fn undone(&mut self, id: Uuid) {
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
        let running = self.rows.iter().filter(|(_, row)| row.ending.is_none());
        let running: Vec<_> = running.map(|(id, row)| (*id, row.attempt, row.term)).collect();
        self.leaving.extend(running.iter().map(|(id, ..)| (*id, why.to_owned())));
        running
    }

    /// A run ended here. The row to write, unless it was known.
    pub fn ended(&mut self, id: Uuid, attempt: u32, ending: Ending) -> Option<Row> {
        let row = self.rows.get_mut(&id).filter(|r| r.attempt == attempt && r.ending.is_none())?;
        row.ending = Some(match self.leaving.remove(&id).filter(|_| ending.state == State::Cancelled) {
            Some(why) => lost(&why),
            None => ending,
        });
        Some(row.clone())
    }

    /// The owner knows. The row to write, and those whose output goes now.
    pub fn heard(&mut self, id: Uuid, attempt: u32, term: Term) -> (Option<Row>, Vec<Uuid>) {
        let Some(row) = self.rows.get_mut(&id).filter(|r| (r.attempt, r.term) == (attempt, term) && !r.heard) else {
            return (None, Vec::new());
        };
        row.heard = true;
        let row = row.clone();
        self.kept.push_back(id);
        let over = self.kept.len().saturating_sub(KEPT_OUTPUTS_MAX);
        let gone: Vec<Uuid> = self.kept.drain(..over).collect();
        gone.iter().for_each(|id| drop(self.rows.remove(id)));
        (Some(row), gone)
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
    pub fn all(&self) -> impl Iterator<Item = (&Uuid, &Row)> {
        self.rows.iter()
    }

    /// How many run now.
    pub fn running(&self) -> usize {
        self.rows.values().filter(|r| r.ending.is_none()).count()
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
        Run { id: Uuid::from_u128(n), owner: NodeId::from_bytes([2; 32]), attempt, term: Term(1), spec }
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
        assert!(runs.ended(Uuid::from_u128(1), 1, lost("x")).is_some());
        assert!(runs.ended(Uuid::from_u128(1), 1, lost("x")).is_none(), "it ends once");
        assert!(matches!(start(&mut runs, run(2, 1, 1)), Ok(Order::Start(_))));
    }

    #[test]
    fn a_run_goes_on_under_a_new_owner_and_the_old_one_is_no_longer_obeyed() {
        let mut runs = Runs::default();
        start(&mut runs, run(1, 1, 0)).unwrap();
        let (id, heir) =
            (Uuid::from_u128(1), Run { owner: NodeId::from_bytes([3; 32]), term: Term(2), ..run(1, 1, 0) });
        runs.ended(id, 1, lost("x"));
        runs.heard(id, 1, Term(1));
        let Ok(Order::Inherited(row)) = runs.order(&heir, Level::Landlock, node(2)) else {
            panic!("it is the same run")
        };
        assert!(row.owner == heir.owner && !row.heard && row.ending.is_some(), "the heir has not heard how it ended");
        runs.put(id, *row);
        assert_eq!(runs.heard(id, 1, Term(1)), (None, vec![]), "that was told to another");
        assert_eq!(runs.order(&run(1, 2, 0), Level::Landlock, node(2)), Err(ScheduleError::TakenOver));
        assert_eq!(runs.order(&heir, Level::Landlock, node(2)), Ok(Order::Known(Level::Landlock)));
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
        assert!(runs.ended(Uuid::from_u128(1), 2, cancelled).unwrap().ending.unwrap().lost);
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
        let (runs, died) = Runs::new(rows, "node x restarted");
        assert_eq!(died.len(), 1);
        assert!(runs.get(Uuid::from_u128(1)).unwrap().ending.as_ref().unwrap().lost);
        assert_eq!(runs.running(), 0);
    }

    #[test]
    fn outputs_are_kept_for_the_newest_endings_only() {
        let mut runs = Runs::default();
        for n in 0..KEPT_OUTPUTS_MAX as u128 + 1 {
            start(&mut runs, run(n, 1, 0)).unwrap();
            runs.ended(Uuid::from_u128(n), 1, lost("x"));
            let (_, gone) = runs.heard(Uuid::from_u128(n), 1, Term(1));
            let expected = if n == KEPT_OUTPUTS_MAX as u128 { vec![Uuid::from_u128(0)] } else { vec![] };
            assert_eq!(gone, expected);
        }
    }
}
