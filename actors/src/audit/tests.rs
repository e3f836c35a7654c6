//! The log from the outside: what was written is there and whole, after a crash too, and whatever somebody did to it is found.

use super::{
    Fault, Head, Message, NAME, What,
    chain::Chain,
    core::{Core, Next},
    entry::{NOTHING, Outcome, Row, Verdict, Who},
    log::HEADS,
    start,
    told::Told,
};
use crate::{digest::Digest, testing::Swarm};
use proptest::prelude::*;
use skep_runtime::{
    NodeId, Wire,
    store::{Batch, Table},
};
use std::{collections::BTreeMap, time::Duration};
use uuid::Uuid;

/// As the log has it.
const ROWS: Table<u64, Row> = Table::new("audit");
const TURN: Uuid = Uuid::from_u128(7);

fn node() -> NodeId {
    NodeId::from_bytes([3; 32])
}

fn judged(call: u128) -> What {
    What::Judged {
        call: Uuid::from_u128(call),
        who: Who { agent: "scout".into(), run: TURN, turn: TURN, thread: TURN },
        tool: "run_task".into(),
        args: Digest::of(&call.to_le_bytes()),
        input: format!("{{\"command\":\"echo {call}\"}}"),
        verdict: Verdict::Ask,
        rule: Some("careful".into()),
        reason: None,
        request: Some(Uuid::from_u128(call)),
    }
}

/// What lies on the disk.
type Rows = BTreeMap<u64, Row>;

fn write(core: &mut Core, rows: &mut Rows, next: &Next) {
    rows.extend(next.rows.iter().cloned());
    rows.retain(|seq, _| !next.cut.contains(seq));
    core.flushed(next);
}

/// A log of so many entries, the oldest of which were removed.
fn log(entries: u64) -> (Core, Rows) {
    let (mut core, mut rows) = (Core::bounded(node(), 20, 5), Rows::new());
    for n in 0..entries {
        let next = core.next([judged(n.into())], n);
        write(&mut core, &mut rows, &next);
        if let Some(last) = core.overdue() {
            let next = core.cut(Head { seq: last, hash: rows[&last].hash }, n);
            write(&mut core, &mut rows, &next);
        }
    }
    (core, rows)
}

fn check(rows: &Rows, seen: Option<Head>) -> Result<Head, Fault> {
    let mut chain = Chain::bounded(node(), 20);
    seen.into_iter().try_for_each(|seen| chain.expect(seen))?;
    rows.iter().try_for_each(|(seq, row)| chain.take(*seq, row))?;
    chain.end()
}

/// One entry behind all that others have seen, which says that everything before it was removed.
fn claim(node: NodeId, seen: Head) -> (u64, Row) {
    let gone = Head { seq: seen.seq + 1, hash: Digest::of(b"never there") };
    (gone.seq + 1, Row::new(node, gone.seq + 1, 0, &What::Cut(gone), gone.hash))
}

/// Everything from `from` on, chained anew as its owner could.
fn rewritten(rows: &Rows, from: u64) -> Rows {
    let mut made: Rows = rows.range(..from).map(|(seq, row)| (*seq, row.clone())).collect();
    for (seq, row) in rows.range(from..) {
        let prev = made.get(&(seq - 1)).map_or(row.prev, |row| row.hash);
        let mut row = Row { prev, at_ms: row.at_ms + 1, ..row.clone() };
        row.hash = row.sum(node(), *seq);
        made.insert(*seq, row);
    }
    made
}

#[test]
fn a_log_stays_within_its_bound_and_whole() {
    for entries in 0..200 {
        let (core, rows) = log(entries);
        assert!(rows.len() <= 26, "{}", rows.len());
        assert_eq!(check(&rows, Some(core.head())), Ok(core.head()), "{entries}");
        assert!(core.of_turn(TURN).iter().all(|seq| rows.contains_key(seq)));
    }
}

#[test]
fn an_entry_belongs_to_its_node() {
    let (_, rows) = log(3);
    let mut chain = Chain::new(NodeId::from_bytes([4; 32]));
    assert_eq!(chain.take(1, &rows[&1]), Err(Fault::Changed(1)));
}

#[test]
fn a_log_that_was_lost_goes_on_behind_a_hole_that_stays_visible() {
    let (mut core, mut rows) = log(4);
    let seen = Head { seq: 9, hash: Digest::of(b"what others have seen") };
    let next = core.lost(seen, 0);
    write(&mut core, &mut rows, &next);
    let next = core.next([judged(5)], 0);
    write(&mut core, &mut rows, &next);
    assert_eq!(rows.keys().copied().collect::<Vec<_>>(), [1, 2, 3, 4, 10, 11]);
    assert_eq!(check(&rows, Some(core.head())), Err(Fault::Missing { from: 5, to: 9 }));
}

proptest! {
    #[test]
    fn whatever_is_done_to_a_log_is_found(entries in 1_u64..90, place: prop::sample::Index, byte: prop::sample::Index, how in 0..9) {
        let (core, rows) = log(entries);
        let seqs: Vec<u64> = rows.keys().copied().collect();
        let seq = seqs[place.index(seqs.len())];
        let (mut bad, seen) = (rows.clone(), Some(core.head()));
        match how {
            0 => {
                let row = bad.get_mut(&seq).unwrap();
                let at = byte.index(row.body.len());
                row.body[at] ^= 1 << (byte.index(8));
            }
            1 => bad.get_mut(&seq).unwrap().at_ms ^= 1,
            2 => bad.get_mut(&seq).unwrap().hash.0[byte.index(32)] ^= 1,
            3 => bad.get_mut(&seq).unwrap().prev.0[byte.index(32)] ^= 1,
            // One is taken out.
            4 => drop(bad.remove(&seq)),
            // One is put in another's place.
            5 => {
                let other = seqs[byte.index(seqs.len())];
                prop_assume!(other != seq);
                bad.insert(seq, rows[&other].clone());
            }
            // Its end is cut off.
            6 => bad.retain(|other, _| *other < seq),
            // One entry in the place of all.
            7 => bad = Rows::from([claim(node(), core.head())]),
            // It is written anew from here on, by somebody who can hash.
            _ => bad = rewritten(&rows, seq),
        }
        prop_assert!(check(&bad, seen).is_err(), "{how} at {seq} of {seqs:?}");
        prop_assert_eq!(check(&rows, seen), Ok(core.head()));
    }

    #[test]
    fn an_older_sight_of_the_log_still_counts(entries in 1_u64..90, place: prop::sample::Index) {
        let (core, rows) = log(entries);
        let seqs: Vec<u64> = rows.keys().copied().collect();
        let seq = seqs[place.index(seqs.len())];
        let seen = Some(Head { seq, hash: rows[&seq].hash });
        prop_assert_eq!(check(&rows, seen), Ok(core.head()));
        prop_assert!(check(&rewritten(&rows, seq), seen).is_err());
    }
}

async fn append(swarm: &Swarm, i: usize, whats: Vec<What>) -> u64 {
    let audit = swarm.context(i).directory.here::<Message>(NAME);
    audit.ask(Duration::from_secs(30), |port| Message::Append(Wire(whats), port)).await.unwrap().unwrap()
}

async fn verify(swarm: &Swarm, i: usize) -> Vec<super::Verified> {
    let audit = swarm.context(i).directory.here::<Message>(NAME);
    audit.ask(Duration::from_secs(120), Message::VerifyAll).await.unwrap()
}

async fn swarm(n: usize) -> Swarm {
    let swarm = Swarm::new(n).await;
    for i in 0..n {
        begin(&swarm, i).await;
    }
    swarm
}

async fn begin(swarm: &Swarm, i: usize) {
    crate::ledger::start(swarm.context(i), swarm.root(i)).await.unwrap();
    start(swarm.context(i), swarm.root(i)).await.unwrap();
}

/// Node `i` loses its power and starts again.
async fn again(swarm: &mut Swarm, i: usize) {
    swarm.kill(i).await;
    swarm.restart(i).await;
    begin(swarm, i).await;
}

/// Waits until what was told has come everywhere.
async fn settle() {
    tokio::time::sleep(Duration::from_secs(60)).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_acknowledged_is_there_after_a_crash_and_whole() {
    let mut swarm = swarm(2).await;
    assert_eq!(append(&swarm, 0, vec![judged(1), judged(2)]).await, 2);
    again(&mut swarm, 0).await;
    assert_eq!(append(&swarm, 0, vec![judged(3)]).await, 3);
    let of_turn = swarm.context(1).directory.here::<Message>(NAME);
    let entries = of_turn.ask(Duration::from_secs(30), |port| Message::Turn(Wire(TURN), port)).await.unwrap();
    assert_eq!(
        entries.iter().map(|entry| entry.what.clone().unwrap()).collect::<Vec<_>>(),
        [judged(1), judged(2), judged(3)]
    );
    settle().await;
    let reports = verify(&swarm, 1).await;
    assert!(reports.iter().all(|verified| verified.report.as_ref().unwrap().fault.is_none()), "{reports:?}");
    assert_eq!(reports[0].report.as_ref().unwrap().entries, 3);
}

#[tokio::test(start_paused = true)]
async fn another_member_finds_a_log_that_was_cut_short_or_changed() {
    let swarm = swarm(3).await;
    append(&swarm, 0, (1..=5).map(judged).collect()).await;
    settle().await;
    let store = &swarm.context(0).store;
    let row = store.get(ROWS, &3).unwrap().unwrap();

    let mut batch = Batch::new();
    batch.put(ROWS, &3, &Row { at_ms: row.at_ms + 1, ..row.clone() }).unwrap();
    store.commit(batch).await.unwrap();
    let faults =
        |reports: Vec<super::Verified>| reports.into_iter().map(|v| v.report.unwrap().fault).collect::<Vec<_>>();
    assert_eq!(faults(verify(&swarm, 1).await), [Some(Fault::Changed(3)), None, None]);

    let mut batch = Batch::new();
    batch.put(ROWS, &3, &row).unwrap();
    (4..=5).for_each(|seq| batch.delete(ROWS, &seq).unwrap());
    store.commit(batch).await.unwrap();
    let short = Fault::Short { ends: 3, seen: 5 };
    assert_eq!(faults(verify(&swarm, 2).await), [Some(short), None, None]);
}

#[tokio::test(start_paused = true)]
async fn a_log_whose_end_was_cut_off_says_so_in_its_next_entry() {
    let mut swarm = swarm(2).await;
    append(&swarm, 0, (1..=5).map(judged).collect()).await;
    settle().await;
    let mut batch = Batch::new();
    (4..=5).for_each(|seq| batch.delete(ROWS, &seq).unwrap());
    swarm.context(0).store.commit(batch).await.unwrap();
    again(&mut swarm, 0).await;
    assert_eq!(append(&swarm, 0, vec![decided()]).await, 7);
    let reports = verify(&swarm, 1).await;
    assert_eq!(reports[0].report.as_ref().unwrap().fault, Some(Fault::Missing { from: 4, to: 5 }));
}

#[tokio::test(start_paused = true)]
async fn a_log_that_was_written_anew_is_found_however_long_it_has_grown_since() {
    let mut swarm = swarm(2).await;
    append(&swarm, 0, (1..=5).map(judged).collect()).await;
    settle().await;
    // By somebody who can hash, and who changed what was told of it on this disk, too.
    let store = &swarm.context(0).store;
    let rows: Rows = store.all(ROWS).unwrap().into_iter().collect();
    let me = swarm.id(0);
    let (mut batch, mut prev) = (Batch::new(), NOTHING);
    for (seq, row) in rows {
        let mut row = Row { at_ms: row.at_ms + 1, prev, ..row };
        row.hash = row.sum(me, seq);
        prev = row.hash;
        batch.put(ROWS, &seq, &row).unwrap();
    }
    store.commit(batch).await.unwrap();
    let told = Told::new(&*swarm.context(0).swarm, Head { seq: 5, hash: prev });
    let ledger = &swarm.context(0).ledger;
    ledger.put(vec![HEADS.write(me.as_bytes(), 0, Some(&told))]).await.unwrap();
    again(&mut swarm, 0).await;
    for call in 6..12 {
        append(&swarm, 0, vec![judged(call)]).await;
        settle().await;
    }
    let own = verify(&swarm, 0).await;
    assert_eq!(own[0].report.as_ref().unwrap().fault, None, "it believes itself");
    let reports = verify(&swarm, 1).await;
    assert_eq!(reports[0].report.as_ref().unwrap().fault, Some(Fault::Rewritten(5)));
}

#[tokio::test(start_paused = true)]
async fn a_log_that_was_replaced_by_one_entry_is_found() {
    let mut swarm = swarm(2).await;
    append(&swarm, 0, (1..=5).map(judged).collect()).await;
    settle().await;
    let store = &swarm.context(0).store;
    let (_, last) = store.all(ROWS).unwrap().pop().unwrap();
    let (seq, row) = claim(swarm.id(0), Head { seq: 5, hash: last.hash });
    let mut batch = Batch::new();
    (1..=5).for_each(|seq| batch.delete(ROWS, &seq).unwrap());
    batch.put(ROWS, &seq, &row).unwrap();
    store.commit(batch).await.unwrap();
    again(&mut swarm, 0).await;
    append(&swarm, 0, vec![judged(6)]).await;
    settle().await;
    for i in 0..2 {
        assert_eq!(verify(&swarm, i).await[0].report.as_ref().unwrap().fault, Some(Fault::Cut(7)));
    }
    let said = What::Lost(Head { seq: 5, hash: last.hash });
    let audit = swarm.context(0).directory.here::<Message>(NAME);
    let entries = audit.ask(Duration::from_secs(30), |port| Message::Newest(Wire(9), port)).await.unwrap();
    assert!(entries.iter().any(|entry| entry.what.as_ref() == Some(&said)), "{entries:?}");
}

#[tokio::test(start_paused = true)]
async fn what_another_member_says_of_a_log_is_nothing() {
    let swarm = swarm(2).await;
    append(&swarm, 0, vec![judged(1)]).await;
    settle().await;
    let (me, junk) = (swarm.id(0), Head { seq: 1_000_000_000_000, hash: Digest::of(b"junk") });
    let forged = Told::new(&*swarm.context(1).swarm, junk);
    for term in [0, 1, u64::MAX] {
        swarm.context(1).ledger.put(vec![HEADS.write(me.as_bytes(), term, Some(&forged))]).await.unwrap();
        settle().await;
    }
    append(&swarm, 0, vec![judged(2)]).await;
    settle().await;
    for i in 0..2 {
        let reports = verify(&swarm, i).await;
        let report = reports[0].report.as_ref().unwrap();
        assert_eq!((report.fault.clone(), report.head.seq), (None, 2), "seen from {i}");
        let told = swarm.context(i).ledger.get(HEADS, me.as_bytes()).unwrap().unwrap().value;
        assert_eq!(told.of(&*swarm.context(i).swarm, me), Some(report.head), "it speaks for itself again");
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_that_was_not_looked_at_or_that_nobody_else_has_seen_is_called_so() {
    let alone = swarm(1).await;
    append(&alone, 0, vec![judged(1)]).await;
    settle().await;
    let reports = verify(&alone, 0).await;
    assert_eq!((reports[0].report.as_ref().unwrap().fault.clone(), reports[0].anchored), (None, false));

    let swarm = swarm(2).await;
    append(&swarm, 0, vec![judged(1)]).await;
    settle().await;
    for i in 0..2 {
        assert!(verify(&swarm, i).await[0].anchored, "seen from {i}");
    }
    swarm.cut(0);
    let reports = verify(&swarm, 1).await;
    let away = reports[0].report.as_ref().unwrap_err();
    assert_eq!((reports[0].name.as_str(), away.as_str()), ("n0", "is away; its last entry that was seen is 1"));
    assert!(reports[1].report.is_ok());
}

fn decided() -> What {
    What::Decided {
        request: Uuid::from_u128(1),
        turn: TURN,
        tool: "run_task".into(),
        args: Digest::of(b""),
        outcome: Outcome::Denied,
        by: "ada".into(),
        via: node(),
        reason: None,
    }
}
