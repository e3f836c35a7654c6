//! Whom this node accuses, and how long each of them has to say that it lives.
//!
//! Lifeguard's dogpile suspicion: a lone accuser waits long, as it may itself be the one that is starved; each
//! member that finds the same one silent by its own probe takes some of that time away, the first the most.
//!
//! Not here: what others say (`accusation`), and what this node's own state adds (`health`).

use super::peer::Peer;
use skep_runtime::NodeId;
use std::{collections::BTreeMap, time::Duration};

/// What every suspect gets where nobody can confirm: in a swarm of two, and in plain foca.
pub(super) const FIXED: Duration = Duration::from_millis(2500);
/// What a suspect gets once enough others confirm. A machine that stood still for two seconds was found silent half a
/// second after it stopped at the earliest, and so has half a second to answer.
const SHORTEST: Duration = Duration::from_millis(2000);
/// What a suspect gets from a lone accuser. A crash is probed twice a second by someone, so confirmations are there
/// long before.
const LONGEST: Duration = Duration::from_millis(6000);
/// What a suspect gets whose connection broke: there is evidence beside the silence.
const LOST: Duration = Duration::from_millis(1500);
/// Other accusers after which there is nothing to wait for: the paper's two.
const CONFIRMATIONS: usize = 2;

/// An accusation of this node's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Suspicion {
    pub(super) peer: Peer,
    pub(super) incarnation: u16,
    /// foca's sign that its probing wasn't interrupted since.
    pub(super) token: foca::TimerToken,
    since: Duration,
    lost: bool,
    not_before: Option<Duration>,
}

/// The members that this node accuses now.
#[derive(Debug, Default)]
pub(super) struct Suspicions(BTreeMap<NodeId, Suspicion>);

impl Suspicions {
    /// A member didn't answer; says whether that is news. A suspect's time isn't started anew.
    pub(super) fn raise(&mut self, now: Duration, peer: Peer, incarnation: u16, token: foca::TimerToken) -> bool {
        match self.0.get_mut(&peer.id) {
            Some(known) if (known.peer, known.incarnation) == (peer, incarnation) => {
                known.token = token;
                false
            }
            _ => {
                self.0
                    .insert(peer.id, Suspicion { peer, incarnation, token, since: now, lost: false, not_before: None });
                true
            }
        }
    }

    /// The connection to a suspect broke.
    pub(super) fn lost(&mut self, id: &NodeId) {
        if let Some(suspicion) = self.0.get_mut(id) {
            suspicion.lost = true;
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Suspicion> {
        self.0.values()
    }

    pub(super) fn remove(&mut self, id: &NodeId) {
        self.0.remove(id);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// This node stood still, and may have the suspect's answer without having read it: nothing is over before then.
    /// Only the first such wait counts, or an accuser that is always late would wait for ever.
    pub(super) fn wait_once(&mut self, id: &NodeId, until: Duration) {
        if let Some(suspicion) = self.0.get_mut(id) {
            suspicion.not_before.get_or_insert(until);
        }
    }
}

impl Suspicion {
    /// When its time ends in a swarm where `others` members could confirm it and `confirmed` have.
    pub(super) fn ends_at(&self, confirmed: usize, others: usize) -> Duration {
        self.after(allowed(confirmed, others))
    }

    /// When its time ends if nothing shortens it.
    pub(super) fn ends_at_fixed(&self) -> Duration {
        self.after(FIXED)
    }

    fn after(&self, time: Duration) -> Duration {
        let end = self.since + if self.lost { time.min(LOST) } else { time };
        end.max(self.not_before.unwrap_or_default())
    }
}

fn allowed(confirmed: usize, others: usize) -> Duration {
    let wanted = CONFIRMATIONS.min(others);
    if wanted == 0 {
        return FIXED;
    }
    let part = ((confirmed.min(wanted) + 1) as f64).ln() / ((wanted + 1) as f64).ln();
    LONGEST - (LONGEST - SHORTEST).mul_f64(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: usize = 50;

    fn peer() -> Peer {
        Peer { id: NodeId::from_bytes([1; 32]), epoch: 7 }
    }

    fn only(suspicions: &Suspicions) -> Suspicion {
        *suspicions.iter().next().unwrap()
    }

    #[test]
    fn a_lone_accuser_waits_longest_and_the_first_to_confirm_takes_the_most_away() {
        let times: Vec<Duration> = (0..4).map(|confirmed| allowed(confirmed, MANY)).collect();
        assert_eq!(times[0], LONGEST);
        assert!(times[0] - times[1] > times[1] - times[2]);
        assert_eq!((times[2], times[3]), (SHORTEST, SHORTEST));
    }

    #[test]
    fn where_few_can_confirm_few_are_enough() {
        assert_eq!((allowed(0, 1), allowed(1, 1)), (LONGEST, SHORTEST));
        assert_eq!(allowed(0, 0), FIXED);
    }

    #[test]
    fn failing_a_second_probe_does_not_start_a_suspects_time_anew_and_answering_does() {
        let mut suspicions = Suspicions::default();
        assert!(suspicions.raise(Duration::from_secs(1), peer(), 0, 1));
        let first = only(&suspicions).ends_at(0, MANY);
        assert!(!suspicions.raise(Duration::from_secs(2), peer(), 0, 2));
        assert_eq!((only(&suspicions).ends_at(0, MANY), only(&suspicions).token), (first, 2));
        assert!(suspicions.raise(Duration::from_secs(2), peer(), 1, 2));
        assert_eq!(only(&suspicions).ends_at(0, MANY), first + Duration::from_secs(1));
    }

    #[test]
    fn a_broken_connection_shortens_it_below_what_confirmations_can() {
        let mut suspicions = Suspicions::default();
        suspicions.raise(Duration::ZERO, peer(), 0, 1);
        suspicions.lost(&peer().id);
        assert_eq!(only(&suspicions).ends_at(0, MANY), LOST);
        assert_eq!(only(&suspicions).ends_at(2, MANY), LOST);
    }

    #[test]
    fn an_accuser_that_stood_still_reads_before_it_judges_but_does_not_wait_for_ever() {
        let mut suspicions = Suspicions::default();
        suspicions.raise(Duration::ZERO, peer(), 0, 1);
        let later = LONGEST + Duration::from_secs(3);
        suspicions.wait_once(&peer().id, later);
        suspicions.wait_once(&peer().id, 2 * later);
        assert_eq!(only(&suspicions).ends_at(0, MANY), later);
    }
}
