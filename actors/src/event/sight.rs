//! What of a picture of the members is an event. Without I/O: pictures in, events out.

use super::what::{Node, What};
use skep_runtime::{
    Member, NodeId,
    member::{Picture, State},
};
use std::collections::BTreeMap;

/// A load that moved by this many percent is told of; less would be told each second by each machine.
const LOAD_STEP_PERCENT: f64 = 5.0;

/// The members, as they were last told of.
pub(super) struct Sight {
    told: BTreeMap<NodeId, Node>,
}

impl Sight {
    /// What is in sight now is no event.
    pub(super) fn new(picture: &Picture) -> Sight {
        Sight { told: picture.values().map(|member| (member.id, seen(member))).collect() }
    }

    /// What happened since the last look.
    pub(super) fn look(&mut self, picture: &Picture) -> Vec<What> {
        let gone: Vec<NodeId> = self.told.keys().filter(|id| !picture.contains_key(id)).copied().collect();
        let left = gone.iter().filter_map(|id| self.told.remove(id));
        let mut events: Vec<What> = left.map(|node| What::NodeLeft(Node { status: "left".into(), ..node })).collect();
        for member in picture.values() {
            let now = seen(member);
            let what = match self.told.get(&member.id) {
                None => What::NodeJoined(now.clone()),
                Some(before) if before.status == now.status && !differs(before, &now) => continue,
                Some(before) if before.status == now.status => What::NodeUpdated(now.clone()),
                Some(_) => match member.state {
                    State::Up => What::NodeUpdated(now.clone()),
                    State::Down => What::NodeOffline(now.clone()),
                    State::Left => What::NodeLeft(now.clone()),
                },
            };
            self.told.insert(member.id, now);
            events.push(what);
        }
        events
    }
}

fn seen(member: &Member) -> Node {
    let status = match member.state {
        State::Up => "online",
        State::Down => "offline",
        State::Left => "left",
    };
    let percent = |permille: u16| f64::from(permille) / 10.0;
    Node {
        id: member.id,
        name: member.name.as_str().into(),
        status: status.into(),
        cpu_percent: percent(member.load.cpu_permille),
        memory_percent: percent(member.load.memory_permille),
        running: member.load.running,
        queued: member.load.queued,
        draining: member.load.draining,
    }
}

/// Whether that is worth an event. A load that creeps is told of when it has crept far enough.
fn differs(before: &Node, now: &Node) -> bool {
    let work = |node: &Node| (node.running, node.queued, node.draining);
    let far = |before: f64, now: f64| (before - now).abs() >= LOAD_STEP_PERCENT;
    work(before) != work(now)
        || before.name != now.name
        || far(before.cpu_percent, now.cpu_percent)
        || far(before.memory_percent, now.memory_percent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_runtime::Load;
    use std::sync::Arc;

    fn member(i: u8, state: State, cpu_permille: u16) -> Member {
        Member {
            id: NodeId::from_bytes([i; 32]),
            name: format!("n{i}"),
            state,
            addresses: Vec::new(),
            joined_ms: 0,
            seen_ms: 0,
            load: Load { cpu_permille, ..Load::default() },
            card: Arc::default(),
        }
    }

    fn picture(members: &[Member]) -> Picture {
        Arc::new(members.iter().map(|member| (member.id, Arc::new(member.clone()))).collect())
    }

    fn names(events: &[What]) -> Vec<&'static str> {
        events.iter().map(What::name).collect()
    }

    #[test]
    fn each_way_of_a_machine_is_one_event() {
        let mut sight = Sight::new(&picture(&[member(1, State::Up, 0)]));
        let mut check = |members: &[Member], expected: &[&str]| {
            assert_eq!(names(&sight.look(&picture(members))), expected, "{members:?}");
        };
        check(&[member(1, State::Up, 0)], &[]);
        check(&[member(1, State::Up, 0), member(2, State::Up, 0)], &["node_joined"]);
        check(&[member(1, State::Up, 0), member(2, State::Down, 0)], &["node_offline"]);
        check(&[member(1, State::Up, 0), member(2, State::Up, 0)], &["node_updated"]);
        check(&[member(1, State::Up, 0), member(2, State::Left, 0)], &["node_left"]);
        check(&[member(1, State::Up, 0)], &["node_left"]);
        check(&[member(1, State::Up, 0)], &[]);
    }

    #[test]
    fn a_load_is_told_of_when_it_has_moved_far_enough_however_slowly() {
        let mut sight = Sight::new(&picture(&[member(1, State::Up, 100)]));
        let told = (101..=200).filter(|permille| !sight.look(&picture(&[member(1, State::Up, *permille)])).is_empty());
        assert_eq!(told.collect::<Vec<_>>(), [150, 200]);
    }
}
