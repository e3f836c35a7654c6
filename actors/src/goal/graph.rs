//! Whether a plan can be carried out, and in which order. Pure.

use super::messages::{GoalError, Mode, Outline, Plan, Step};
use crate::scheduler::course::AFTER_MAX;
use std::collections::{BTreeMap, BTreeSet};

/// Steps of one goal: more is a program, which submits what it wants when it wants it.
pub const STEPS_MAX: usize = 500;
/// Commands of one goal.
pub const TASKS_MAX: usize = 10_000;
/// Commands that wait, times what each waits for: each such pair is 16 bytes in a record on every member's disk.
pub const EDGES_MAX: usize = 100_000;
/// Bytes of a title, and of a step's name.
const NAME_BYTES_MAX: usize = 200;
/// Bytes of a description.
const DESCRIPTION_BYTES_MAX: usize = 4 << 10;
/// Bytes of a key that tells submissions apart.
const KEY_BYTES_MAX: usize = 128;

/// The steps as they are kept, and the places of the steps in an order in which each comes after all that it waits for.
///
/// # Errors
/// [`GoalError::Invalid`] with the first field that is out of its bounds, or with the cycle.
pub fn order(plan: &Plan) -> Result<(Vec<Outline>, Vec<usize>), GoalError> {
    text("title", &plan.title, 1, NAME_BYTES_MAX)?;
    text("description", &plan.description, 0, DESCRIPTION_BYTES_MAX)?;
    if let Some(key) = &plan.idempotency_key {
        text("idempotency_key", key, 1, KEY_BYTES_MAX)?;
    }
    if plan.steps.is_empty() || plan.steps.len() > STEPS_MAX {
        return bad("tasks", format!("has {} steps; a goal has 1 to {STEPS_MAX}", plan.steps.len()));
    }
    let mut places = BTreeMap::new();
    let mut outlines: Vec<Outline> = Vec::new();
    for (place, step) in plan.steps.iter().enumerate() {
        text("task_id", &step.name, 1, NAME_BYTES_MAX)?;
        text("description", &step.description, 0, DESCRIPTION_BYTES_MAX)?;
        if places.insert(step.name.as_str(), place).is_some() {
            return bad("task_id", format!("{:?} is the name of two steps", step.name));
        }
        if step.count == 0 || step.count as usize > AFTER_MAX {
            return bad("count", format!("step {} has {}; 1 to {AFTER_MAX}", step.name, step.count));
        }
        let before = place.checked_sub(1).filter(|_| step.mode == Mode::Sequential);
        let before = before.map(|place| plan.steps[place].name.clone());
        let after: BTreeSet<String> = step.prerequisites.iter().cloned().chain(before).collect();
        let Step { name, description, count, .. } = step;
        outlines.push(Outline {
            name: name.clone(),
            description: description.clone(),
            after: after.into_iter().collect(),
            count: *count,
        });
    }
    bounded(&outlines, &places)?;
    let order = sorted(&outlines, &places)?;
    Ok((outlines, order))
}

fn bounded(outlines: &[Outline], places: &BTreeMap<&str, usize>) -> Result<(), GoalError> {
    let (mut tasks, mut edges) = (0, 0);
    for outline in outlines {
        let mut waits = 0;
        for name in &outline.after {
            let Some(place) = places.get(name.as_str()) else {
                return bad("prerequisites", format!("step {} waits for {name:?}, which is no step", outline.name));
            };
            waits += outlines[*place].count as usize;
        }
        if waits > AFTER_MAX {
            let reason = format!("step {} waits for {waits} commands; at most {AFTER_MAX}", outline.name);
            return bad("prerequisites", reason);
        }
        tasks += outline.count as usize;
        edges += outline.count as usize * waits;
    }
    if tasks > TASKS_MAX {
        return bad("tasks", format!("come to {tasks} commands; at most {TASKS_MAX}"));
    }
    if edges > EDGES_MAX {
        let reason = format!("come to {edges} pairs of commands; at most {EDGES_MAX}: put a step of one between");
        return bad("prerequisites", reason);
    }
    Ok(())
}

/// Steps of which nothing is left to wait for come first (Kahn 1962); of several, in the plan's order.
fn sorted(outlines: &[Outline], places: &BTreeMap<&str, usize>) -> Result<Vec<usize>, GoalError> {
    let mut waits: Vec<usize> = outlines.iter().map(|outline| outline.after.len()).collect();
    let mut followers = vec![Vec::new(); outlines.len()];
    for (place, outline) in outlines.iter().enumerate() {
        for name in &outline.after {
            followers[places[name.as_str()]].push(place);
        }
    }
    let mut ready: BTreeSet<usize> = (0..outlines.len()).filter(|place| waits[*place] == 0).collect();
    let mut order = Vec::new();
    while let Some(place) = ready.pop_first() {
        order.push(place);
        for follower in &followers[place] {
            waits[*follower] -= 1;
            if waits[*follower] == 0 {
                ready.insert(*follower);
            }
        }
    }
    match order.len() == outlines.len() {
        true => Ok(order),
        false => bad("prerequisites", format!("go round in a circle: {}", cycle(outlines, places, &waits))),
    }
}

/// A cycle among the steps that still wait: each of them waits for another such one.
fn cycle(outlines: &[Outline], places: &BTreeMap<&str, usize>, waits: &[usize]) -> String {
    let mut path: Vec<usize> = waits.iter().position(|waits| *waits > 0).into_iter().collect();
    while let Some(last) = path.last() {
        let next = outlines[*last].after.iter().map(|name| places[name.as_str()]).find(|place| waits[*place] > 0);
        let Some(next) = next else { break };
        if let Some(begin) = path.iter().position(|place| *place == next) {
            path.drain(..begin);
            path.push(next);
            break;
        }
        path.push(next);
    }
    let names: Vec<&str> = path.into_iter().map(|place| outlines[place].name.as_str()).collect();
    names.join(" waits for ")
}

fn text(field: &str, text: &str, min: usize, max: usize) -> Result<(), GoalError> {
    if text.len() < min || text.len() > max || text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
        return bad(field, format!("has {min} to {max} bytes and no control characters"));
    }
    Ok(())
}

fn bad<T>(field: &str, reason: impl Into<String>) -> Result<T, GoalError> {
    Err(GoalError::Invalid { field: field.into(), reason: reason.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::Spec;
    use proptest::prelude::*;

    fn step(name: &str, after: &[&str]) -> Step {
        Step {
            name: name.into(),
            description: String::new(),
            mode: Mode::Parallel,
            prerequisites: after.iter().map(ToString::to_string).collect(),
            count: 1,
            gang: false,
            spec: Spec::new("true"),
        }
    }

    fn plan(steps: Vec<Step>) -> Plan {
        Plan { title: "t".into(), description: String::new(), steps, idempotency_key: None }
    }

    fn refused(steps: Vec<Step>) -> String {
        order(&plan(steps)).unwrap_err().to_string()
    }

    #[test]
    fn mistakes_are_named() {
        assert!(refused(vec![]).contains("a goal has 1 to 500"));
        assert!(refused(vec![step("a", &[]), step("a", &[])]).contains("\"a\" is the name of two"));
        assert!(refused(vec![step("a", &["b"])]).contains("step a waits for \"b\", which is no step"));
        assert!(refused(vec![step("a", &["a"])]).contains("in a circle: a waits for a"));
        let circle = refused(vec![step("z", &["c"]), step("a", &["c"]), step("b", &["a"]), step("c", &["b"])]);
        assert!(circle.ends_with("in a circle: c waits for b waits for a waits for c"), "{circle}");
        assert!(refused(vec![Step { count: 0, ..step("a", &[]) }]).contains("count: step a has 0"));
        let wide = |name: &str, after: &[&str]| Step { count: 1000, ..step(name, after) };
        assert!(refused(vec![wide("a", &[]), wide("b", &["a"])]).contains("1000000 pairs"));
        let many = refused(vec![wide("a", &[]), wide("b", &[]), step("c", &["a", "b"])]);
        assert!(many.contains("waits for 2000 commands"), "{many}");
        assert!(refused((0..11).map(|n| wide(&n.to_string(), &[])).collect()).contains("11000 commands"));
    }

    #[test]
    fn a_sequential_step_waits_for_the_one_before_it() {
        let sequential = |name| Step { mode: Mode::Sequential, ..step(name, &[]) };
        let (outlines, order) = order(&plan(vec![sequential("a"), sequential("b"), step("c", &[])])).unwrap();
        assert_eq!(outlines.iter().map(|o| o.after.join(",")).collect::<Vec<_>>(), ["", "a", ""]);
        assert_eq!(order, [0, 1, 2]);
    }

    proptest! {
        #[test]
        fn each_step_comes_after_all_that_it_waits_for_or_there_is_a_cycle(
            edges in prop::collection::vec((0usize..7, 0usize..7), 0..12),
        ) {
            let names: Vec<String> = (0..7).map(|n| n.to_string()).collect();
            let mut steps: Vec<Step> = names.iter().map(|name| step(name, &[])).collect();
            for (from, to) in &edges {
                steps[*from].prerequisites.push(names[*to].clone());
            }
            // Whether one can be reached from itself, by closing over all.
            let mut reach = [[false; 7]; 7];
            edges.iter().for_each(|(from, to)| reach[*from][*to] = true);
            for via in 0..7 {
                for from in 0..7 {
                    for to in 0..7 {
                        reach[from][to] |= reach[from][via] && reach[via][to];
                    }
                }
            }
            let circular = (0..7).any(|n| reach[n][n]);
            match order(&plan(steps)) {
                Ok((_, order)) => {
                    prop_assert!(!circular);
                    let at = |n: usize| order.iter().position(|place| *place == n).unwrap();
                    prop_assert!(edges.iter().all(|(from, to)| at(*to) < at(*from)));
                }
                Err(e) => {
                    prop_assert!(circular);
                    let said = e.to_string();
                    let path: Vec<usize> = said.rsplit("circle: ").next().unwrap().split(" waits for ").map(|n| n.parse().unwrap()).collect();
                    prop_assert!(path.len() > 1 && path.first() == path.last(), "{}", said);
                    prop_assert!(path.windows(2).all(|w| edges.contains(&(w[0], w[1]))), "{}", said);
                }
            }
        }
    }
}
